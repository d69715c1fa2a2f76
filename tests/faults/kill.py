"""Kills the generator at random instants, lets the same command finish, and compares: python tests/faults/kill.py 100"""

import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import trajvit
from harness import contents, end, litter, progress, quick_folder, records, run, start, wait_until
from trajvit.datasets.verification import verify
from trajvit.settings import InputError

SAMPLES, SHARD = 960, 12
SHARDS = SAMPLES // SHARD
ARGUMENTS = ("--samples", SAMPLES, "--shard-size", SHARD)


@dataclass(frozen=True)
class Killed:
    """What one kill and the same command after it came to."""

    workers: int
    shards: int  # there when it was killed
    cut: bool  # a shard was counted that is not whole, or the dataset opened without being so
    same: bool  # byte for byte, in the end
    litter: int  # temporary files in the end
    orphans: int  # workers that outlived the killed process by seconds


def kill_again_and_again(rounds: int, folder: Path, seed: int, say: Callable[[object], None]) -> list[Killed]:
    """Kill `rounds` runs, every third with two workers, the others with one: a quarter at any instant, the others while they write."""
    whole = contents(trajvit.generate(out=folder / "whole", samples=SAMPLES, shard_size=SHARD, workers=1).root)
    lives = {workers: _time_of_life(folder / f"timed-{workers}", workers) for workers in (1, 2)}
    chance, found = random.Random(seed), []
    while len(found) < rounds:
        workers = 2 if len(found) % 3 == 2 else 1
        killed = _kill_one(folder / str(len(found)), workers, lives[workers], chance, whole)
        if killed is not None:
            found.append(killed)
            say(f"{len(found)}: {killed}")
    return found


def _time_of_life(root: Path, workers: int) -> tuple[float, float]:
    """How long a run takes, and how long from its first shard until it has said that it is done."""
    process, begun = start("generate", "--out", root, *ARGUMENTS, "--workers", workers), time.monotonic()
    wait_until(lambda: records(root), what="a first shard")
    first = time.monotonic()
    wait_until(lambda: progress(root)["state"] == "done", what="the end")
    done = time.monotonic()
    code, _, err = end(process)
    assert code == 0, err
    return time.monotonic() - begun, done - first


def _kill_one(root: Path, workers: int, lives: tuple[float, float], chance: random.Random, whole: dict) -> Killed | None:
    """None where the run was over before it was killed."""
    process = start("generate", "--out", root, *ARGUMENTS, "--workers", workers)
    life = lives[0]
    if chance.random() < 0.75:
        wait_until(lambda: records(root), what="a first shard")
        life = lives[1]
    time.sleep(chance.uniform(0, life))
    crew = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    shards, cut = records(root), not sound_so_far(root, whole)
    _, outliving = psutil.wait_procs(crew, timeout=5)
    again, _, err = run("generate", "--out", root, *ARGUMENTS, "--workers", workers)
    assert again == 0, err
    if process.returncode != -signal.SIGKILL:
        return None
    assert progress(root)["state"] == "done"
    return Killed(workers, shards, cut, contents(root) == whole, len(litter(root)), len(outliving))


def sound_so_far(root: Path, whole: dict[str, str]) -> bool:
    """Whether every shard with a record is whole, and the dataset opens only if all of them are there."""
    recorded = {int(path.stem) for path in root.glob("_done/0*.json")}
    if recorded and recorded & verify(root).damaged.keys():
        return False
    try:
        trajvit.open_dataset(root)
    except InputError as error:
        return "incomplete" in str(error) or "there is no dataset" in str(error)
    return contents(root) == whole and verify(root).sound


def summary(found: list[Killed]) -> str:
    return (
        f"{len(found)} kills ({sum(0 < killed.shards < SHARDS for killed in found)} of them between the first shard and the "
        f"last, {sum(killed.workers == 2 for killed in found)} with 2 workers): {sum(killed.same for killed in found)} resumed "
        f"datasets with the bytes of the uninterrupted one, {sum(killed.cut for killed in found)} shards counted that were not "
        f"whole, {sum(killed.litter for killed in found)} temporary files left, {sum(killed.orphans for killed in found)} workers "
        f"left"
    )


if __name__ == "__main__":
    with quick_folder() as root:
        print(summary(kill_again_and_again(int(sys.argv[1]), root, int(time.time()), print)))
