"""Training that is killed, and training on a disk that fills up."""

import hashlib
import time

import pytest
import trajvit
from kill_training import kill_again_and_again
from test_disk import MIB
from trajvit.running.places import NOTEBOOKS
from trajvit.training import checkpoints, loop
from trajvit.training.recipe import Recipe, train

DISK_MIB = 80  # four checkpoints


def test_a_training_killed_three_times_ends_with_the_same_weights(quick_path):
    found = kill_again_and_again(3, quick_path, int(time.time()), 8, print)
    assert found.same and not found.left, found


def test_a_disk_that_fills_during_a_checkpoint_costs_nothing_but_the_steps_since_the_last(disk, tmp_path, monkeypatch, capsys):
    """To the command it is one line and exit code 1."""
    from trajvit.running import cli, stations

    tiny = {"tokenizer_steps": 4, "tokenizer_batch": 4, "transformer_steps": 2, "transformer_batch": 4, "checkpoint_every": 2}
    data, place, ballast = trajvit.generate(out=tmp_path / "data", samples=16), disk / "model", disk / "ballast"
    train(Recipe(**tiny), data, tmp_path / "whole")
    calm = checkpoints.save_checkpoint

    def save_on_a_full_disk(folder, step, *rest):
        if step == 4:
            with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(MIB // 4))
                    file.flush()
            with open(ballast, "rb+") as file:  # room for a part of it
                file.truncate(ballast.stat().st_size - MIB)
        calm(folder, step, *rest)

    monkeypatch.setattr(loop, "save_checkpoint", save_on_a_full_disk)
    monkeypatch.setattr(stations, "make_data", lambda *_: data)
    monkeypatch.setattr(
        stations, "train_magvit", lambda settings, data, out, first, on_progress: train(Recipe(**tiny), data, out)
    )
    assert cli.main(["train", str(NOTEBOOKS / "params" / "smoke.yaml"), "--out", str(place)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trajvit:")]
    assert line == (
        f"trajvit: {place}/tokenizer/checkpoints/step_00000004.ckpt cannot be written (No space left on device); "
        "what is finished is kept, the same command continues"
    )
    kept = place / "tokenizer" / "checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step_00000002.ckpt"] and not list((place / "tokenizer" / "_tmp").iterdir())
    monkeypatch.setattr(loop, "save_checkpoint", calm)
    ballast.unlink()
    train(Recipe(**tiny), data, place)
    first, again = (hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest() for root in (tmp_path / "whole", place))
    assert first == again
