"""What a run is going to do. All of it is checked here, before any of it is done."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import papermill
import yaml

from trajvit.datasets.folders import Folder, open_folder
from trajvit.running import prices
from trajvit.running.estimates import estimate, in_units
from trajvit.running.manifest import Manifest, NotebookState, read_manifest
from trajvit.running.mirror import RESULTS
from trajvit.running.parameters import KEPT, OF_NO_RESULT, Parameters, read_parameters
from trajvit.running.places import NOTEBOOKS, RUNS, bucket_place, from_root, is_bucket
from trajvit.running.renting import DISK_GB
from trajvit.running.stations import check_data, chosen_checkpoint
from trajvit.settings import InputError
from trajvit.training.devices import check_device

RENTED = "c7i.large"  # 2 cores, as those that the rates were measured on


@dataclass(frozen=True)
class Station:
    """A notebook of a run, the parameters that its cell declares, and how it stands."""

    path: Path
    names: tuple[str, ...]
    state: NotebookState


@dataclass(frozen=True)
class Plan:
    """A run: its parameters, its notebooks in order, the folder on this disk, and the place in a bucket that keeps it."""

    parameters_file: str
    parameters: Parameters
    stations: list[Station]
    place: str  # empty where the run stays on this disk
    earlier: Manifest | None

    @property
    def run_dir(self) -> Path:
        return self.parameters.run

    @property
    def run_id(self) -> str:
        return self.place.rpartition("/")[2] or self.run_dir.name

    def manifest(self) -> Manifest:
        """The run's manifest as it begins or goes on: what was done stays so, and what was not asked for stays as it was.

        Whoever asks holds the run's folder, so that what is said to be running there has been killed.
        """
        states = [station.state for station in self.stations]
        for told in (self.earlier, *self.earlier.notebooks) if self.earlier else ():
            if told.state == "running":
                told.state = "interrupted"
        if self.earlier and all(state.state == "done" for state in states):
            return self.earlier
        manifest = Manifest(self.run_id, self.parameters_file, self.parameters.seed, states)
        if self.earlier:
            asked = {state.name: state for state in states}
            told = {state.name: state for state in self.earlier.notebooks}
            manifest.notebooks = [(told | asked)[name] for name in sorted(told | asked)]
            manifest.started, manifest.curve = self.earlier.started, self.earlier.curve
            manifest.seconds = self.earlier.seconds
        return manifest

    def lines(self) -> Iterator[str]:
        """The plan for people."""
        values = self.parameters.model_dump(mode="json", exclude={"run_dir"})
        yield f"run         {self.run_id}, in {self.place or self.run_dir}"
        yield f"parameters  {', '.join(f'{name}={value}' for name, value in values.items())}"
        seconds = 0.0
        for station in self.stations:
            if station.state.state == "done":
                yield f"{station.path.stem}: done already"
                continue
            one = estimate(station.path.stem, self.parameters, RUNS, [other.path.stem for other in self.stations])
            seconds += one.seconds
            yield f"{station.path.stem}: about {one}; takes {', '.join(station.names)}"
        cost = prices.hourly(RENTED, None, DISK_GB) * seconds / 3600
        yield f"time        about {in_units(seconds)}, an estimate"
        yield f"cost        none on this machine; on a rented {RENTED} about ${cost:.2f}, an estimate"


def make_plan(parameters_file: str, changes: list[str], only: list[str], out: str | None) -> Plan:
    """The plan of a run of all notebooks, or of those whose names begin with one of `only`, with the parameters of a file
    and `name=value` changes.

    Its folder is `out`, or one named after the file and its parameters, so that the same command continues its own run.
    Raises `InputError` where anything about it is wrong.
    """
    parameters = read_parameters(parameters_file, changes)
    _refuse_unprintable(parameters)
    paths = _chosen(only)
    names = {path: _declared(path) for path in paths}
    place, run_dir = where(Path(parameters_file).stem, parameters, out)
    parameters = Parameters(**parameters.model_dump() | {"run_dir": from_root(run_dir)})
    if any(path.name.startswith("03") for path in paths):
        parameters.check_ladder()
    chosen_checkpoint(parameters)
    check_data(parameters)
    check_device(parameters.device)
    kept = open_folder(f"{place}/{RESULTS}" if place else run_dir)
    earlier = read_manifest(kept)
    _refuse_another_run(kept, parameters)
    states = {state.name: state for state in earlier.notebooks} if earlier else {}
    return Plan(
        from_root(parameters_file),
        parameters,
        [Station(path, names[path], _standing(path, states.get(path.stem), kept)) for path in paths],
        place,
        earlier,
    )


def source_of(notebook: Path) -> str:
    """The sha256 of a notebook's file: where it is another one, the notebook has to run again."""
    return hashlib.sha256(notebook.read_bytes()).hexdigest()


def _standing(notebook: Path, earlier: NotebookState | None, kept: Folder) -> NotebookState:
    """A notebook is done where this source of it was, and its executed copy is still there; else it waits, and where it was
    interrupted the time that it took so far counts."""
    if earlier and earlier.state == "done" and earlier.source == source_of(notebook) and notebook.name in kept.names():
        return earlier
    return NotebookState(notebook.stem, seconds=earlier.seconds if earlier and earlier.state == "interrupted" else 0.0)


def where(name: str, parameters: Parameters, out: str | None) -> tuple[str, Path]:
    """The place in a bucket, if there is one, and the folder on this disk, of a run or sweep called `name` unless `out` says
    otherwise. Raises `InputError`."""
    if out is not None and is_bucket(out):
        place = bucket_place(out)
        last, digest = place.rpartition("/")[2], hashlib.sha256(place.encode()).hexdigest()[:8]
        return place, RUNS / f"{last}-{digest}"
    if out is not None:
        if not out.isprintable():
            raise InputError(f"--out {out!r} has characters that cannot be seen: name another folder")
        return "", Path(out).resolve()
    told = parameters.model_dump_json(exclude=OF_NO_RESULT)
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:8]
    if not f"{name}-".isprintable():
        raise InputError(f"a run takes the name of its parameters' file, and {name!r} has characters that cannot be seen")
    return "", RUNS / f"{name}-{fingerprint}"


def _refuse_unprintable(parameters: Parameters) -> None:
    """Names with line breaks, or that run from right to left, look like what they are not."""
    for name, value in parameters.model_dump(mode="json").items():
        if isinstance(value, str) and not value.isprintable():
            raise InputError(f"{name} = {value!r} has characters that cannot be seen: name something else")


def _refuse_another_run(kept: Folder, parameters: Parameters) -> None:
    """But for what decides no result: a run may go on elsewhere, otherwise computed, and past its gate."""
    content = kept.read(KEPT) if KEPT in kept.names() else None
    try:
        there = yaml.safe_load(content) if content else {}
    except yaml.YAMLError:
        there = None
    if not isinstance(there, dict):
        raise InputError(f"{kept.place}/{KEPT} is damaged: name another --out")
    asked = parameters.model_dump(mode="json", exclude=OF_NO_RESULT)
    changed = [
        f"{name} = {there.get(name)!r} there, {value!r} asked for"
        for name, value in asked.items()
        if content and there.get(name) != value
    ]
    if changed:
        raise InputError(f"{kept.place} holds another run ({', '.join(changed[:3])}): name another --out or the same parameters")


def _chosen(only: list[str]) -> list[Path]:
    notebooks = [path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")) if not path.name.startswith("00")]
    for prefix in only:
        if not any(notebook.name.startswith(prefix) for notebook in notebooks):
            raise InputError(f"--only {prefix} names no notebook; there are {', '.join(n.stem for n in notebooks)}")
    return [notebook for notebook in notebooks if not only or notebook.name.startswith(tuple(only))]


def _declared(notebook: Path) -> tuple[str, ...]:
    """The parameters that a notebook declares. Raises `InputError` where one is not a parameter of runs."""
    names = tuple(papermill.inspect_notebook(str(notebook)))
    if strangers := set(names) - set(Parameters.model_fields):
        raise InputError(f"{notebook.name} declares {', '.join(sorted(strangers))}, unknown to Parameters: add it there")
    return names
