"""Lets the generator die at every step that it takes on the disk, one step after another, and finishes what it left.

A step is a sync or a rename: before a sync a temporary file lies there, after a rename the file itself. Each generator is a
fork of this process, which has read all code already, and may be forked since it starts no threads.
"""

import json
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import trajvit
from harness import contents, litter, progress, quick_folder
from kill import sound_so_far
from trajvit.datasets.thumbnail import thumbnail
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film

MADE = {"samples": 22, "shard_size": 12, "workers": 1}
DIED = 9


def in_a_fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def generate_until(root: Path, last: int) -> None:
    steps = count(1)

    def dying(step: Callable) -> Callable:
        def take(*arguments: object, **options: object) -> None:
            step(*arguments, **options)
            if next(steps) == last:
                os._exit(DIED)

        return take

    os.fsync, os.replace = dying(os.fsync), dying(os.replace)
    trajvit.generate(out=root, **MADE)


def finish(root: Path, whole: dict[str, str]) -> None:
    assert sound_so_far(root, whole)
    trajvit.generate(out=root, **MADE)
    assert contents(root) == whole
    assert not litter(root) and progress(root)["state"] == "done"


def whole_contents(root: Path, found: Path) -> None:
    found.write_text(json.dumps(contents(trajvit.generate(out=root, **MADE).root)))


if __name__ == "__main__":
    thumbnail(film(WorldConfig(), 0, "train", 0, 1).frames[0])
    with quick_folder() as folder:
        assert in_a_fork(lambda: whole_contents(folder / "whole", folder / "found")) == 0
        whole = json.loads((folder / "found").read_text())
        for last in count(1):
            root = folder / str(last)
            ended = in_a_fork(lambda root=root, last=last: generate_until(root, last))
            if ended == 0:
                break
            if ended != DIED or in_a_fork(lambda root=root: finish(root, whole)) != 0:
                sys.exit(f"death at step {last} was not made good")
        print(f"{last - 1} steps, a death at each, all finished to the same bytes")
