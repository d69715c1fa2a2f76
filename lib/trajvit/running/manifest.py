"""What a run was: who, where, on what, how long and how it ended. Written by us, since papermill's word is not enough."""

import os
import platform
import socket
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from trajvit.datasets.files import write_json
from trajvit.running.parameters import Parameters
from trajvit.running.places import ROOT

PACKAGES = ("trajvit", "torch", "numpy", "zarr", "numba", "accelerate", "vector-quantize-pytorch", "papermill", "pydantic")


@dataclass
class NotebookState:
    """How one notebook of a run went: `waiting`, `running`, `done`, `no-go`, `failed` or `interrupted`."""

    name: str
    state: str = "waiting"
    seconds: float = 0.0
    error: str = ""


@dataclass
class Manifest:
    """The record of a run, kept up to date in `manifest.json`."""

    run_id: str
    parameters_file: str
    seed: int
    notebooks: list[NotebookState]
    state: str = "running"
    started: str = field(default_factory=lambda: _now())
    finished: str = ""
    seconds: float = 0.0
    git: dict = field(default_factory=lambda: _git())
    versions: dict = field(
        default_factory=lambda: {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    )
    host: str = field(default_factory=socket.gethostname)
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")

    def write(self, run_dir: Path) -> None:
        write_json(run_dir / "manifest.json", asdict(self))

    def facts(self, parameters: Parameters) -> list[tuple[str, str]]:
        """What stands at the head of every page."""
        commit = (
            f"{self.git['commit'][:10]}{' with local changes' if self.git['dirty'] else ''}" if self.git["commit"] else "none"
        )
        return [
            ("run", self.run_id),
            ("state", self.state),
            ("commit", commit),
            ("data", f"{parameters.samples} {parameters.format} {parameters.variety} clips, seed {self.seed}"),
            ("trajvit", self.versions["trajvit"]),
            ("torch", self.versions["torch"]),
            ("machine", f"{self.host}, {self.machine}"),
            ("started", self.started),
        ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def close(manifest: Manifest, state: str, seconds: float) -> None:
    """Say how the run ended."""
    manifest.state, manifest.seconds, manifest.finished = state, round(seconds, 1), _now()


def _git() -> dict:
    """The commit that ran and whether the tree differed from it; where there is no git, what a rented machine was sent."""
    try:
        commit = _git_says("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_says("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": os.environ.get("TRAJVIT_COMMIT", ""), "dirty": False}


def _git_says(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
