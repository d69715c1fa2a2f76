"""Runs that were made, as their folders tell of them."""

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from trajvit.datasets.folders import Disk
from trajvit.datasets.owners import is_gone, owner
from trajvit.evaluation.measure import Metric, Metrics
from trajvit.running.manifest import KEY, Manifest, read_manifest
from trajvit.running.parameters import KEPT
from trajvit.running.places import RUNS
from trajvit.running.rendering import recorded_metrics
from trajvit.settings import InputError

SCORED = {"04_evaluate": "test", "02_validate_magvit": "val"}  # by notebook: the clips that it scores
# Where the headline figures stand among the metrics, and what a column of them is called.
HEADLINES = {
    ("reconstruction", "centre_error_px"): "reconstruction px",
    ("classification", "accuracy"): "accuracy",
    ("prediction", "centre_error_px"): "prediction px",
    ("generation", "class_agreement"): "generation agreement",
}


@dataclass(frozen=True)
class Record:
    """A run: its folder, manifest, parameters, and what it measured last, on which clips."""

    folder: Path
    manifest: Manifest
    parameters: dict
    metrics: Metrics
    scored: str

    def headline(self, group: str, name: str) -> Metric | None:
        """A headline figure; None where it was not measured."""
        return self.metrics.get(group, {}).get(name)


@dataclass(frozen=True)
class Unreadable:
    """A folder of a run of which nothing can be told, and why."""

    folder: Path
    why: str
    state: str = "unreadable"


def read_record(folder: Path) -> Record:
    """The run in a folder. Raises `InputError` where there is none, or one that is damaged or of another format."""
    manifest = read_manifest(Disk(folder))
    if manifest is None:
        raise InputError(f"{folder} holds no run: it has no {KEY}")
    try:
        parameters = yaml.safe_load((folder / KEPT).read_text())
        metrics = {notebook: recorded_metrics(folder, notebook) for notebook in SCORED}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise InputError(f"the run in {folder} is damaged ({' '.join(str(error).split())}): run it again elsewhere") from None
    if not isinstance(parameters, dict):
        raise InputError(f"the run in {folder} is damaged ({KEPT} holds no parameters): run it again elsewhere")
    last = next((notebook for notebook in SCORED if metrics[notebook]), "")
    state = "interrupted" if manifest.state == "running" and _is_dead(folder) else manifest.state
    return Record(folder, replace(manifest, state=state), parameters, metrics.get(last, {}), SCORED.get(last, ""))


def find_records(root: Path) -> list[Record | Unreadable]:
    """The runs in a folder and in the sweeps there, the latest first, then those that cannot be read.

    Raises `InputError` where there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder: name one that holds runs, such as reports/runs")
    found, unreadable = [], []
    for file in sorted({*root.glob(f"*/{KEY}"), *root.glob(f"*/*/{KEY}")}):
        try:
            found.append(read_record(file.parent))
        except (InputError, OSError) as error:
            unreadable.append(Unreadable(file.parent, str(error)))
    return sorted(found, key=lambda record: record.manifest.started, reverse=True) + unreadable


def find_run(named: str) -> Record:
    """The run in a folder, or of that name among reports/runs. Raises `InputError`."""
    for folder in (Path(named), RUNS / named):
        if (folder / KEY).is_file():
            return read_record(folder)
    names = ", ".join(sorted(file.parent.name for file in RUNS.glob(f"*/{KEY}"))[:8])
    raise InputError(f"{named!r} is no run: give its folder, or its name in {RUNS} ({names or 'empty so far'})")


def _is_dead(folder: Path) -> bool:
    """Whether the process that last held the run's folder is known to have ended."""
    lock = folder / "_lock" / "run"
    holder = owner(lock.read_text(errors="replace")) if lock.is_file() else None
    return bool(holder and is_gone(*holder))
