import os
import signal
import socket
import time

import pytest
import trajvit
from harness import contents, end, progress, quick_folder, records, run, start, wait_until
from kill import ARGUMENTS, SAMPLES, SHARD


@pytest.fixture(scope="module")
def whole():
    with quick_folder() as root:
        return contents(trajvit.generate(out=root, samples=SAMPLES, shard_size=SHARD, workers=1).root)


def begin(root, workers):
    process = start("generate", "--out", root, *ARGUMENTS, "--workers", workers)
    wait_until(lambda: records(root), what="a first shard")
    os.killpg(process.pid, signal.SIGSTOP)
    return process


@pytest.mark.parametrize("command", [("generate", "--out"), ("verify", "--repair")], ids=lambda command: command[0])
def test_a_second_writer_is_refused_and_told_who_the_first_is(quick_path, whole, command):
    root = quick_path / "data"
    first = begin(root, workers=2)
    before = contents(root)
    code, _, err = run(*command, root, *(ARGUMENTS if command[0] == "generate" else ()))
    assert code == 2, err
    assert err.splitlines()[-1] == (
        f"trajvit: {root} is being written by process {first.pid} on {socket.gethostname()}: wait for it, or stop it and run "
        "this again"
    )
    assert contents(root) == before
    os.killpg(first.pid, signal.SIGCONT)
    assert end(first)[0] == 0 and contents(root) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_starts_at_once_after_the_first_was_killed(quick_path, whole, workers):
    root = quick_path / "data"
    first = begin(root, workers)
    first.kill()  # and is not waited for: to the kernel it is a zombie that still has its number
    os.killpg(first.pid, signal.SIGCONT)
    begun = time.monotonic()
    code, _, err = run("generate", "--out", root, *ARGUMENTS)
    assert code == 0 and time.monotonic() - begun < 5, err
    assert contents(root) == whole and progress(root)["state"] == "done"
    first.wait()
