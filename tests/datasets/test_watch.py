import json
import os
import pty
import signal
import socket
import subprocess
import termios
import time

import pytest
import trajvit
from harness import COMMAND, end, last_line, progress, quick_folder, records, run, start, wait_until
from trajvit.datasets.folders import Disk
from trajvit.datasets.progress import STALLED_S, Telling, watch
from trajvit.settings import InputError

LARGE = ("--samples", 10_000, "--shard-size", 50)


@pytest.fixture
def quick_path():
    with quick_folder() as path:
        yield path


def test_watching_follows_a_run_to_its_end_with_a_line_every_few_seconds(quick_path):
    root = quick_path / "data"
    process = start("generate", "--out", root, *LARGE)
    wait_until(lambda: (root / "PROGRESS.json").exists(), what="a report")
    begun = time.monotonic()
    code, out, err = run("watch", root)
    took = time.monotonic() - begun
    assert code == 0 and not err and end(process)[0] == 0
    first, *_, last = lines = out.splitlines()
    assert first.startswith("generate: running") and first.endswith(f"[{socket.gethostname()} {process.pid}]")
    assert last.startswith("generate: done, 10000/10000 samples (100 %)")
    assert len(lines) <= 2 + took / 2


def test_progress_itself_is_a_line_every_few_seconds_when_headless(quick_path):
    begun = time.monotonic()
    code, _, err = run("generate", "--out", quick_path, *LARGE)
    assert code == 0 and "generate: done" in last_line(err)
    assert len(err.splitlines()) <= 1 + (time.monotonic() - begun) / 2


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("interrupted", 75), ("failed", 1)])
def test_the_exit_code_tells_how_the_work_ended(tmp_path, state, code):
    kind = {"done": None, "interrupted": KeyboardInterrupt, "failed": OSError}[state]
    try:
        with Telling("generate", 10, "samples", Disk(tmp_path)) as telling:
            telling.advance(4, "1/3 shards")
            if kind is not None:
                raise kind("why")
    except (KeyboardInterrupt, OSError):
        pass
    ended, out, _ = run("watch", tmp_path)
    assert ended == code and f"generate: {state}, 4/10 samples" in out


def test_watching_notices_how_a_run_ends_that_is_interrupted_meanwhile(quick_path):
    root = quick_path / "data"
    process = start("generate", "--out", root, *LARGE)
    wait_until(lambda: records(root), what="a first shard")
    watcher = start("watch", root)
    watcher.stdout.readline()  # it watches
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 75
    code, out, _ = end(watcher)
    assert code == 75 and "generate: interrupted" in last_line(out)


def test_a_killed_run_is_shown_as_stalled_with_how_long(quick_path):
    root = quick_path / "data"
    process = start("generate", "--out", root, *LARGE)
    wait_until(lambda: records(root), what="a first shard")
    process.kill()
    process.communicate()
    told = progress(root)
    assert told["state"] == "running"  # nobody could say otherwise
    (root / "PROGRESS.json").write_text(json.dumps(told | {"heartbeat": told["heartbeat"] - 100}))
    watcher = start("watch", root)
    line = watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    code, _, err = end(watcher)
    assert line.startswith("generate: running") and "Traceback" not in err and code == 75
    seconds = int(line.partition("STALLED: nothing heard for ")[2].partition(" s")[0])
    assert 100 <= seconds < 120
    assert run("generate", "--out", root, *LARGE)[0] == 0
    code, out, _ = run("watch", root)
    assert code == 0 and "generate: done" in out and "STALLED" not in out


def test_a_run_that_was_killed_with_all_its_shards_there_is_said_to_be_done_by_the_next(tmp_path):
    root = trajvit.generate(out=tmp_path / "data", samples=20).root
    told = progress(root)
    (root / "PROGRESS.json").write_text(json.dumps(told | {"state": "running"}))
    (root / "_tmp" / f"_{socket.gethostname()}-{_ended_process()}-abc").write_text("half")
    trajvit.generate(out=root, samples=20)
    assert progress(root)["state"] == "done" and not list((root / "_tmp").iterdir())


def _ended_process() -> int:
    process = start("--help")
    process.communicate()
    return process.pid


def test_silence_is_measured_by_the_watchers_own_clock(tmp_path):
    """A machine whose clock is wrong is not stalled while its heartbeat changes."""
    with Telling("generate", 10, "samples", Disk(tmp_path)):
        pass
    told, seen = progress(tmp_path) | {"state": "running"}, watch(Disk(tmp_path), period_s=0.0)
    for beat, stalled in ((-7200, True), (-7199, False), (7200, False), (7201, False), (0, False)):
        (tmp_path / "PROGRESS.json").write_text(json.dumps(told | {"heartbeat": told["heartbeat"] + beat}))
        (found,) = next(seen)
        assert found.stalled == stalled and (found.silent_s < STALLED_S) != stalled


def test_the_parts_of_several_machines_are_shown_together(quick_path):
    root = quick_path / "data"
    machines = [start("generate", "--out", root, *LARGE, "--rank", rank, "--machines", 2) for rank in range(2)]
    wait_until(lambda: len(list(root.glob("_progress/*.json"))) == 2, what="two reports")
    code, out, _ = run("watch", root)
    assert [end(machine)[0] for machine in machines] == [0, 0] and code == 0
    *_, one, other = out.splitlines()
    for line, machine in ((one, machines[0]), (other, machines[1])):
        assert line.startswith("generate: done, 5000/5000") and f" {machine.pid}]" in line


@pytest.mark.parametrize(
    "content", [None, "", "{}", "[1]", "null", '"x"', '{"state": "running"}', '{"heartbeat": "x", "host": "", "pid": 1}']
)
def test_where_no_progress_is_reported_one_line_says_so(tmp_path, content):
    if content is not None:
        (tmp_path / "PROGRESS.json").write_text(content)
    with pytest.raises(InputError, match=r"PROGRESS\.json"):
        next(watch(Disk(tmp_path)))


def test_of_a_folder_whose_stages_report_these_are_named(tmp_path):
    for stage in ("tokenizer", "transformer"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "PROGRESS.json").write_text("{}")
    with pytest.raises(InputError, match="name one of tokenizer, transformer in it"):
        next(watch(Disk(tmp_path)))


def test_watching_nothing_ends_with_2_and_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        code, out, err = run("watch", place)
        assert code == 2 and not out and err.count("\n") == 1 and str(place) in err
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_the_newest_is_shown_in_place(quick_path):
    root = quick_path / "data"
    process = start("generate", "--out", root, *LARGE)
    wait_until(lambda: (root / "PROGRESS.json").exists(), what="a report")
    terminal, screen = pty.openpty()
    termios.tcsetwinsize(screen, (24, 40))
    told = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    watcher = subprocess.Popen([*COMMAND, "watch", root], stdout=screen, env=told)
    os.close(screen)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # the watcher has closed its screen
            break
    assert watcher.wait() == 0 and end(process)[0] == 0
    assert shown.count(b"\n") == shown.count(b"\x1b[1A\x1b[J") + 1 and b"done, 10000/10000" in shown
    *under_way, _ = shown.replace(b"\x1b[1A\x1b[J", b"").split(b"\r\n")[:-1]
    assert not [line for line in under_way if len(line) >= 40], "one that wraps would take two rows"
