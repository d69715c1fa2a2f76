import threading
import time

import pytest
from trajvit.datasets.files import write_json
from trajvit.datasets.progress import Progress
from trajvit.reporting import live
from trajvit.reporting.live import HEADLESS, LiveProgress, follow
from trajvit.settings import InputError

HOSTILE = '<script>alert("x")</script>'
GIF = b"GIF89a"


@pytest.fixture
def screen(monkeypatch):
    """What was displayed, as on a screen that can show widgets."""
    shown = []
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr(live, "get_ipython", lambda: object())
    monkeypatch.setattr(live, "display", shown.append)
    return shown


def report(state: str, done: int, total: int = 100, **more) -> Progress:
    return Progress("generate", state, done, total, "samples", 10.0, 5.0, **more)


def test_progress_is_plain_lines_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    show = LiveProgress()
    for done in range(1000):
        show(report("running", done, 1000))
    show(report("done", 1000, 1000))
    assert capsys.readouterr().out.splitlines() == ["generate: done, 1000/1000 samples (100 %), 10.0/s"]
    monkeypatch.setattr(live, "LINE_EVERY_S", 0.0)
    show(report("running", 1))
    assert capsys.readouterr().out.splitlines() == ["generate: running, 1/100 samples (1 %), 10.0/s, 5 s to go"]


def test_the_gauge_moves_and_fills_and_shows_rate_time_to_go_note_and_picture(screen, capsys):
    show = LiveProgress()
    show(report("running", 0))
    gauge = show.gauges["generate"]
    assert screen == [gauge.box] and gauge.bar.max == 100 and gauge.picture.value == ""
    show(report("running", 40, note=HOSTILE, picture=GIF))
    assert (gauge.bar.value, gauge.bar.bar_style) == (40, "info")
    assert "10.0/s, 5 s to go" in gauge.text.value and "<script>" not in gauge.text.value
    assert "data:image/gif;base64" in gauge.picture.value and 'alt="newest clip of generate"' in gauge.picture.value
    assert capsys.readouterr().out == ""
    show(report("done", 100))
    assert (gauge.bar.value, gauge.bar.bar_style) == (100, "success")
    assert capsys.readouterr().out == "generate: done, 100/100 samples (100 %), 10.0/s\n"


def test_the_next_work_of_the_same_name_has_a_gauge_of_its_own_length(screen):
    show = LiveProgress()
    show(report("done", 100))
    show(report("running", 3, 8))
    assert len(screen) == 2 and (show.gauges["generate"].bar.value, show.gauges["generate"].bar.max) == (3, 8)


@pytest.mark.parametrize(("state", "style"), [("failed", "danger"), ("interrupted", "warning")])
def test_work_that_did_not_end_well_is_not_green(screen, state, style):
    show, gauge = LiveProgress(), live.Gauge()
    gauge.show(report(state, 3))
    show(report(state, 3))
    assert gauge.bar.bar_style == style and show.gauges == {}


def told(state: str, heartbeat: float) -> dict:
    progress = {"work": "generate", "state": state, "done": 30, "total": 100, "unit": "samples", "rate": 10.0, "eta_s": 7.0}
    return progress | {"note": "3/10 shards", "heartbeat": heartbeat, "host": "far-away", "pid": 7}


def test_a_run_elsewhere_is_followed_stalls_visibly_and_ends(screen, tmp_path, capsys):
    write_json(tmp_path / "PROGRESS.json", told("running", time.time() - 60))
    (tmp_path / "PROGRESS.gif").write_bytes(GIF)
    following = threading.Thread(target=follow, args=[tmp_path])
    following.start()
    deadline = time.monotonic() + 10
    while not (screen and screen[0].children) and time.monotonic() < deadline:
        time.sleep(0.01)
    (gauge,) = screen[0].children
    (bar, text), picture = gauge.children[0].children, gauge.children[1]
    assert (bar.value, bar.max, bar.bar_style) == (30, 100, "danger")
    assert "STALLED: nothing heard for 60 s" in text.value and "far-away" in text.value and "3/10 shards" in text.value
    assert "data:image/gif" in picture.value
    write_json(tmp_path / "PROGRESS.json", told("done", time.time()))
    following.join(10)
    assert not following.is_alive() and bar.bar_style == "success" and "STALLED" not in text.value
    assert "generate: done" in capsys.readouterr().out


def test_each_of_several_machines_has_its_gauge(screen, tmp_path):
    for name in ("0-of-2", "1-of-2"):
        write_json(tmp_path / "_progress" / f"{name}.json", told("done", time.time()))
    follow(tmp_path)
    assert len(screen[0].children) == 2


def test_following_is_plain_lines_where_nobody_looks(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    write_json(tmp_path / "PROGRESS.json", told("interrupted", time.time()))
    follow(tmp_path)
    assert capsys.readouterr().out.startswith("generate: interrupted, 30/100 samples (30 %)")


def test_there_is_nothing_to_follow_where_nothing_is_reported(screen, tmp_path):
    with pytest.raises(InputError, match="no progress"):
        follow(tmp_path)
