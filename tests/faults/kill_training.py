"""Kills a training at random instants, with the same command after each, until it is done: python tests/faults/kill_training.py 20

Its weights must be those of the training that nobody disturbed.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import end, quick_folder, run, start, wait_until
from trajvit.running.places import NOTEBOOKS

PATIENCE_S = 120.0  # with a step on a busy machine


@dataclass(frozen=True)
class Survived:
    """What the kills of one training came to."""

    kills: int
    writing: int  # of them while a checkpoint was being written
    restarts_s: float  # from the first start to the last end
    same: bool  # weights, to the last bit
    left: int  # files in the end that are neither results nor the newest checkpoints


def kill_again_and_again(kills: int, folder: Path, seed: int, steps: int, say: Callable[[object], None]) -> Survived:
    """Train `steps` steps a stage, a checkpoint every second one, and kill that `kills` times: half of the time at any
    instant of the training, half of it while a checkpoint is being written."""
    changes = {
        "data_dir": folder / "data",
        "tokenizer_steps": steps,
        "transformer_steps": steps,
        "tokenizer_batch": 4,
        "transformer_batch": 4,
        "samples": 16,
        "ladder": "[4]",
        "checkpoint_every": 2,
    }
    options = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]

    def command(out: Path) -> tuple:
        return ("train", NOTEBOOKS / "params" / "smoke.yaml", "--out", out, *options)

    code, _, err = run(*command(folder / "whole"), limit_s=600)
    assert code == 0, err
    chance, begun, killed, writing, out = random.Random(seed), time.monotonic(), 0, 0, folder / "killed"
    while killed < kills:
        before, process = _stand(out), start(*command(out))
        _wait(process, lambda before=before: _stand(out) != before)
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 0.5))
        else:
            _wait(process, lambda: _being_written(out))
        if process.poll() is not None:
            code, _, err = end(process)
            assert code == 0, err
            say(f"done after {killed} kills: begun anew")
            _forget(out)
            continue
        writing += bool(_being_written(out))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        killed += 1
        say(f"kill {killed}: {_stand(out)}")
    code, _, err = run(*command(out), limit_s=600)
    assert code == 0, err
    expected = {path.relative_to(folder / "whole") for path in _files(folder / "whole")}
    left = {path.relative_to(out) for path in _files(out)} - expected
    same = _sha256(out) == _sha256(folder / "whole")
    return Survived(killed, writing, time.monotonic() - begun, same, len(left))


def _wait(process: subprocess.Popen, true: Callable[[], object]) -> None:
    """Until it is so, or the process has ended."""
    wait_until(lambda: true() or process.poll() is not None, PATIENCE_S, "a checkpoint")


def _stand(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*/checkpoints/step_*"))


def _being_written(out: Path) -> list[Path]:
    return [path for path in out.glob("*/_tmp/_*") if path.exists() and path.stat().st_size > 100_000]


def _forget(out: Path) -> None:
    for path in out.glob("*/checkpoints/step_*"):
        path.unlink()


def _files(out: Path) -> list[Path]:
    """All but TensorBoard's, of which every start makes one."""
    return [path for path in out.rglob("*") if path.is_file() and path.parent.name != "tensorboard"]


def _sha256(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    with quick_folder() as root:
        print(kill_again_and_again(int(sys.argv[1]), root, int(time.time()), 120, print))
