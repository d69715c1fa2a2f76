import json
import time

import pytest
from trajvit.datasets.files import write_atomic, write_json
from trajvit.datasets.folders import Disk
from trajvit.datasets.progress import Telling


def test_the_file_beats_even_while_the_work_is_silent(tmp_path):
    with Telling("work", 10, "steps", Disk(tmp_path)):
        first = json.loads((tmp_path / "PROGRESS.json").read_text())
        time.sleep(1.1)
        second = json.loads((tmp_path / "PROGRESS.json").read_text())
    assert {"state", "done", "total", "rate", "eta_s", "heartbeat", "host", "pid"} <= set(first)
    assert 0 < second["heartbeat"] - first["heartbeat"] <= 1.2
    assert "work: done" in (tmp_path / "PROGRESS.txt").read_text()


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_how_work_ended_is_told(tmp_path, error, state):
    heard = []
    with pytest.raises(error), Telling("work", 10, "steps", Disk(tmp_path), heard.append) as telling:
        telling.advance(4)
        raise error("why")
    assert heard[-1].state == state == json.loads((tmp_path / "PROGRESS.json").read_text())["state"]
    assert heard[-1].done == 4 and "why" in heard[-1].note


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trajvit.datasets.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert json.loads(path.read_text()) == {"old": 1} and [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": float("nan")})
