"""What a run was: who, where, on what, how long and how it ended. Written by us, since papermill's word is not enough."""

import os
import platform
import socket
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from trajvit.datasets.files import write_json
from trajvit.datasets.folders import Folder
from trajvit.running.parameters import Parameters
from trajvit.running.places import ROOT
from trajvit.settings import InputError

KEY, FORMAT = "manifest.json", 2
PACKAGES = ("trajvit", "torch", "numpy", "zarr", "numba", "accelerate", "vector-quantize-pytorch", "papermill", "pydantic")


@dataclass
class NotebookState:
    """How one notebook of a run went: `waiting`, `prepared`, `running`, `done`, `no-go`, `failed` or `interrupted`; and, once
    it has begun, the sha256 of its source and the commit it ran with."""

    name: str
    state: str = "waiting"
    seconds: float = 0.0
    error: str = ""
    source: str = ""
    commit: str = ""


@dataclass
class Manifest:
    """The record of a run, kept up to date in `manifest.json`."""

    run_id: str
    parameters_file: str
    seed: int
    notebooks: list[NotebookState]
    state: str = "running"
    started: str = field(default_factory=lambda: now())
    finished: str = ""
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)  # MAGVIT's loss as it was trained
    git: dict = field(default_factory=lambda: _git())
    versions: dict[str, str] = field(
        default_factory=lambda: {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    )
    host: str = field(default_factory=socket.gethostname)
    machine: str = field(default_factory=lambda: this_machine())
    format: int = FORMAT

    def write(self, run_dir: Path) -> None:
        write_json(run_dir / KEY, asdict(self))

    @property
    def commit(self) -> str:
        """The commit for people."""
        if not self.git.get("commit"):
            return "none"
        return f"{self.git['commit'][:10]}{' with local changes' if self.git.get('dirty') else ''}"

    def facts(self, parameters: Parameters) -> list[tuple[str, str]]:
        """What stands at the head of every page."""
        return [
            ("run", self.run_id),
            ("state", self.state),
            ("commit", self.commit),
            ("data", f"{parameters.samples} {parameters.format} {parameters.variety} clips, seed {self.seed}"),
            ("took", f"{self.seconds:.0f} s"),
            ("machine", f"{self.host}, {self.machine}"),
            ("started", self.started),
        ]


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest of the run in a folder; None where there is none.

    Raises `InputError` for one that is damaged or of another format.
    """
    # Asked for by listing: a role that may list only its prefix is denied, not told, that a key does not exist.
    content = folder.read(KEY) if KEY in folder.names() else None
    if content is None:
        return None
    try:
        found = TypeAdapter(dict).validate_json(content)
        if (there := found.get("format", 1)) == FORMAT:
            return TypeAdapter(Manifest).validate_python(found)
    except ValidationError as error:
        raise InputError(f"{folder.place}/{KEY} is damaged ({_first(error)}): run it again in another folder") from None
    raise InputError(f"{folder.place} holds a run of format {there}, and this trajvit reads {FORMAT}: run it again elsewhere")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))


def this_machine() -> str:
    """Its system, cores and GPUs, for people."""
    import torch

    cards = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} cores", *cards])


def _git() -> dict:
    """The commit that ran and whether the tree differed from it; where there is no git, what a rented machine was sent."""
    try:
        commit = _git_says("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_says("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": os.environ.get("TRAJVIT_COMMIT", ""), "dirty": False}


def _git_says(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
