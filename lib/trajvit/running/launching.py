"""MAGVIT trained in several processes of this machine, started by one that only follows them, such as a notebook's kernel."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from trajvit.datasets.folders import open_folder
from trajvit.datasets.labour import cores
from trajvit.datasets.progress import Listener, Lookout, Progress
from trajvit.running.parameters import Parameters
from trajvit.settings import InputError
from trajvit.training import processes
from trajvit.training.recipe import STAGES

PERIOD_S = 0.5
PATIENCE_S = 100  # for a step and its checkpoint; a spot machine is taken back 120 s after its notice


def train_in_processes(parameters: Parameters, samples: int, out: str | Path, on_progress: Listener) -> None:
    """Train on the first `samples` clips as `torchrun --nproc_per_node N -m trajvit train` does, N being `parameters.processes`,
    into `out`, a folder or `s3://bucket/prefix`, and hand on what the processes report. Given again, it continues.

    Raises `InputError` in a process that was itself started so and for what they refuse, and `RuntimeError` with what they say
    last when they fail. `KeyboardInterrupt`, here or there, ends them once their checkpoint is written.
    """
    if processes.count() > 1:
        raise InputError(
            f"processes = {parameters.processes} was asked of one of {processes.count()} that are started: set processes=1"
        )
    with tempfile.TemporaryDirectory(prefix="trajvit-") as folder:
        told, said = Path(folder) / "params.yaml", Path(folder) / "said.txt"
        told.write_text(yaml.safe_dump(parameters.model_dump(mode="json") | {"processes": 1}))
        launcher = "torch.distributed.run", "--standalone", "--nproc_per_node", str(parameters.processes)
        launcher += "--shutdown-timeout", str(PATIENCE_S)
        what = "train", str(told), "--out", str(out), "--first", str(samples)
        command = [sys.executable, "-m", *launcher, "-m", "trajvit", *what]
        threads = str(max(1, cores() // parameters.processes))
        with said.open("w") as file:
            launched = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={"OMP_NUM_THREADS": threads} | os.environ
            )
        try:
            _follow(launched, out, on_progress)
        finally:
            launched.terminate()  # nothing to one that has ended
            launched.wait(1.2 * PATIENCE_S)
        if launched.returncode:
            _explain(said.read_text())


def _follow(launched: subprocess.Popen, out: str | Path, on_progress: Listener) -> None:
    """Hand on what is new in the progress files of the stages until the processes have ended."""
    lookouts = {stage: Lookout(open_folder(f"{out}/{stage}")) for stage in STAGES}
    shown: dict[str, Progress] = {}
    started, ended = time.monotonic(), False
    while not ended:
        ended = launched.poll() is not None  # then one more look
        for stage, lookout in lookouts.items():
            for found in lookout.sightings():
                if found.silent_s < time.monotonic() - started and found.progress != shown.get(stage):
                    shown[stage] = found.progress
                    on_progress(found.progress)
        if not ended:
            time.sleep(PERIOD_S)


def _explain(said: str) -> None:
    """Raise what processes that failed have said last; torchrun's own exit code is 1 whatever happened."""
    lines = [line.removeprefix("trajvit: ") for line in said.splitlines() if line.startswith("trajvit: ")]
    lines = [line for line in lines if processes.LOST not in line] or lines  # those that lost the one that failed do not know why
    if not lines:
        raise RuntimeError(f"the processes failed: {' '.join(said.split())[-1000:]}")
    if lines[-1].startswith("interrupted"):
        raise KeyboardInterrupt(lines[-1])
    if "what is finished is kept" in lines[-1]:
        raise RuntimeError(lines[-1])
    raise InputError(lines[-1])
