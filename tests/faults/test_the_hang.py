"""Why the earlier attempt made its first batch in 0.1 s and its second never, and that this one cannot."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import trajvit
from trajvit.datasets.verification import verify

HERE = Path(__file__).parent
PATIENCE_S = 6  # with a batch that takes 0.1 s


def batches(script: str, *arguments: object, threads: int, limit_s: float) -> tuple[bool, str]:
    """Whether a script, with that many OpenMP threads, ends within the limit after its first batch, and what it prints."""
    process = subprocess.Popen(
        [sys.executable, HERE / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    first = process.stdout.readline()
    try:
        out, _ = process.communicate(timeout=limit_s)
        return process.returncode == 0, first + out
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return False, first + process.communicate()[0]


def test_a_pool_forked_after_torch_has_run_hangs_in_its_second_batch():
    assert batches("fork_pool.py", threads=4, limit_s=PATIENCE_S) == (False, "batch 1\n")


def test_without_openmp_threads_the_same_pool_ends():
    assert batches("fork_pool.py", threads=1, limit_s=10 * PATIENCE_S) == (True, "batch 1\nbatch 2\n")


def test_the_generator_ends_after_torch_has_run_in_its_process(quick_path):
    ended, out = batches("torch_first.py", quick_path, threads=4, limit_s=10 * PATIENCE_S)
    assert ended and out == "batch 1 200 shards\nbatch 2 200 shards\n"
    assert verify(quick_path / "2").sound
    assert trajvit.open_dataset(quick_path / "2").config.shards == 200
