import os
import signal
import subprocess
import time

import psutil
import pytest
import trajvit
from harness import contents, end, litter, progress, quick_folder, records, run, start, wait_until
from kill import ARGUMENTS, SAMPLES, SHARD, SHARDS, sound_so_far

SOON_S = 5


@pytest.fixture(scope="module")
def whole():
    with quick_folder() as root:
        return contents(trajvit.generate(out=root, samples=SAMPLES, shard_size=SHARD, workers=1).root)


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


@pytest.mark.parametrize(
    ("workers", "name", "to"),
    [
        (1, "SIGTERM", "process"),  # kill
        (2, "SIGTERM", "process"),
        (1, "SIGINT", "group"),  # Ctrl-C in a terminal
        (2, "SIGINT", "group"),
        (2, "SIGTERM", "group"),  # a service manager
    ],
)
def test_an_interrupted_run_says_so_and_is_finished_by_the_same_command(quick_path, whole, workers, name, to):
    number, root = signal.Signals[name], quick_path / "data"
    command = ("generate", "--out", root, *ARGUMENTS, "--workers", workers)
    process = start(*command)
    wait_until(lambda: records(root), what="a first shard")
    begun = time.monotonic()
    os.kill(process.pid, number) if to == "process" else os.killpg(process.pid, number)
    code, _, err = end(process)
    assert code == 75 and time.monotonic() - begun < SOON_S
    assert err.splitlines()[-1] == "trajvit: interrupted; the same command continues" and "Traceback" not in err, err
    assert progress(root)["state"] == "interrupted"
    assert 0 < records(root) < SHARDS and sound_so_far(root, whole) and not litter(root)
    code, _, err = run(*command)
    assert code == 0, err
    assert contents(root) == whole and progress(root)["state"] == "done"


def test_ctrl_c_while_workers_start_ends_without_a_word_from_them(quick_path, whole):
    root = quick_path / "data"
    process = start("generate", "--out", root, *ARGUMENTS, "--workers", 2)
    wait_until(lambda: any("popen_loky" in " ".join(child.cmdline()) for child in children(process)), what="a worker")
    time.sleep(0.2)  # it is reading its modules
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = end(process)
    assert code == 75 and "Traceback" not in err and progress(root)["state"] == "interrupted", err
    assert sound_so_far(root, whole) and not litter(root)


def test_a_worker_that_is_killed_ends_the_run_with_one_line_and_loses_nothing(quick_path, whole):
    root = quick_path / "data"
    command = ("generate", "--out", root, *ARGUMENTS, "--workers", 2)
    process = start(*command)
    wait_until(lambda: records(root), what="a first shard")
    workers = [child for child in children(process) if "popen_loky" in " ".join(child.cmdline())]
    workers[0].kill()
    code, _, err = end(process)
    assert code == 1 and "a worker process was killed" in err.splitlines()[-1] and "Traceback" not in err, err
    assert progress(root)["state"] == "failed" and sound_so_far(root, whole) and not litter(root)
    assert run(*command)[0] == 0
    assert contents(root) == whole


def test_an_interrupt_in_the_midst_of_an_import_ends_with_the_same_code(tmp_path):
    """Python ends by SIGINT, whatever `sys.exit` says, when an interrupt once left an `exec`, as where a dataclass is made."""
    late = "import click\ndef main(*_, **__): exec('raise KeyboardInterrupt')\nclick.Group.main = main\n"
    (tmp_path / "sitecustomize.py").write_text(late)
    code, _, err = run("--help", PYTHONPATH=str(tmp_path))
    assert (code, err) == (75, "trajvit: interrupted; the same command continues\n")
