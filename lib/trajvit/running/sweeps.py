"""A run for each combination of some parameters' values, and one page that compares them."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import yaml

from trajvit.datasets.labour import cores
from trajvit.datasets.progress import Listener
from trajvit.reporting.html import Section, plain_page
from trajvit.running.away import held
from trajvit.running.overview import runs_table, write_index
from trajvit.running.parameters import Parameters, read_parameters
from trajvit.running.places import ROOT, RUNS
from trajvit.running.planning import Plan, make_plan, where
from trajvit.running.records import Record, Unreadable, read_record
from trajvit.running.runner import DONE, FAILED, INTERRUPTED, NO_GO, Unfinished
from trajvit.running.stations import chosen_checkpoint, learnt_from, make_data
from trajvit.settings import InputError
from trajvit.worlds.streams import SPLITS

DECIDES_DATA = ("samples", "eval_samples", "format", "variety", "seed")
COMMAND = (sys.executable, "-m", "trajvit")
MOST = 100  # members of a sweep; more are a slip of the pen
Say = Callable[[str], None]


@dataclass(frozen=True)
class Member:
    """One run of a sweep: what it changes, as `name=value`, and its plan."""

    changes: list[str]
    plan: Plan

    @property
    def name(self) -> str:
        return self.plan.run_dir.name

    @property
    def is_done(self) -> bool:
        return all(station.state.state == "done" for station in self.plan.stations)


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, the parameters that they differ in, their folder and the place in a bucket that keeps it."""

    parameters_file: str
    swept: list[str]
    members: list[Member]
    only: list[str]
    folder: Path
    place: str  # empty where the sweep stays on this disk

    def lines(self) -> Iterator[str]:
        """The plan for people."""
        yield f"sweep       {len(self.members)} runs over {', '.join(self.swept)}, in {self.place or self.folder}"
        for member in self.members:
            yield from member.plan.lines()


def make_sweep(parameters_file: str, changes: list[str], axes: list[str], only: list[str], out: str | None) -> Sweep:
    """The plan of a sweep: one run for each combination of the `name=a,b,c` of `axes`, all of them checked.

    A member's folder is named after its values, so that a sweep that is widened keeps what it has. Where members differ in
    what decides their clips, each kind of clips gets a folder of its own. Raises `InputError`.
    """
    grid = dict(map(_axis, axes))
    if len(grid) < len(axes):
        raise InputError("--sweep names a parameter twice: write all its values after one name")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(combinations) > MOST:
        raise InputError(f"--sweep asks for {len(combinations)} runs; at most {MOST} are made in one sweep: sweep less at a time")
    base = read_parameters(parameters_file, changes)
    place, folder = where(f"{Path(parameters_file).stem}-sweep-{'-'.join(sorted(grid))}", base, out)
    settled = [[*changes, *(f"{name}={_as_yaml(value)}" for name, value in one.items())] for one in combinations]
    kinds = [_kind(read_parameters(parameters_file, one)) for one in settled]
    if len(set(kinds)) > 1 and "data_dir" not in grid:
        # Below the repository as another machine finds it too.
        own = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        settled = [[*one, f"data_dir={_as_yaml(str(own / 'data' / kind))}"] for one, kind in zip(settled, kinds, strict=True)]
    members = [
        Member(own, make_plan(parameters_file, own, only, str(folder / _name(one))))
        for one, own in zip(combinations, settled, strict=True)
    ]
    return Sweep(parameters_file, list(grid), members, only, folder, place)


def run_sweep(sweep: Sweep, jobs: int, say: Say, on_progress: Listener) -> int:
    """Make the runs of a sweep, `jobs` at a time, each in a process of its own, and the page that compares them.

    One that fails leaves the others alone. Run again, those that are done are not made again. 0 all done, 1 one failed,
    3 a gate said NO-GO, 75 interrupted.
    """
    codes: list[int] = []
    with suppress(Unfinished), held(sweep.place, sweep.folder, len(sweep.members), lambda: _stand(sweep), say):
        every = [member.plan.parameters for member in sweep.members]
        for own in {(own.data_dir, _kind(own)): own for own in every}.values():
            for split in SPLITS:  # now, since no two processes may make the same data
                make_data(own, split, on_progress)
        for own in {one.data_dir: one for one in (learnt_from(own, chosen_checkpoint(own)) for own in every)}.values():
            make_data(own, "train", on_progress)
        write_comparison(sweep)
        running: list[subprocess.Popen] = []
        starting, ended = Lock(), False

        def make(member: Member) -> int:
            if member.is_done and not sweep.place:  # what was done on this disk may not be so in the bucket
                say(f"{member.name}: done already")
                return DONE
            with starting:
                if ended:
                    return INTERRUPTED
                running.append(process := _started(sweep, member, jobs))
            code = process.wait()
            say(f"{member.name}: {_told(member)}")
            write_comparison(sweep)
            return code

        pool = ThreadPoolExecutor(jobs)
        try:
            codes = list(pool.map(make, sweep.members))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with starting:
                ended = True
            for process in running:
                process.terminate()
            raise
        finally:
            pool.shutdown()
            write_comparison(sweep)
        if any(codes):  # so that the one who watches is told
            raise Unfinished(f"{codes.count(DONE)} of {len(codes)} runs done")
    if sweep.folder.parent == RUNS:
        write_index(RUNS)
    say(f"{codes.count(0)} of {len(codes)} runs done; open {sweep.folder / 'index.html'}")
    return _summed(codes)


def _summed(codes: list[int]) -> int:
    """One exit code for all: what they all ended with, but for those that are done; else that something failed."""
    ends = set(codes) - {DONE}
    return DONE if not ends else ends.pop() if ends in ({NO_GO}, {INTERRUPTED}) else FAILED


def write_comparison(sweep: Sweep) -> None:
    """Write the page on which the runs of a sweep can be sorted by any of their figures."""
    found = [_record(member) for member in sweep.members]
    done = sum(isinstance(one, Record) and one.manifest.state == "done" for one in found)
    said = f"{done} of {len(found)} runs are done. Figures are of test clips, or of val clips where a run got no further."
    up = "../index.html" if sweep.folder.parent == RUNS else ""
    table = Section("", runs_table(found, sweep.folder, sweep.swept))
    plain_page(sweep.folder / "index.html", f"Sweep over {', '.join(sweep.swept)}", said, [table], up)


def _axis(text: str) -> tuple[str, list]:
    name, equals, values = text.partition("=")
    try:
        found = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        found = None
    if not equals or not name.strip() or not found or None in found:
        raise InputError(f"--sweep {text!r} is not name=a,b,c")
    texts = [_as_yaml(value) for value in found]
    if len(set(texts)) < len(texts):
        raise InputError(f"--sweep {text!r} names a value twice")
    return name.strip(), found


def _as_yaml(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)  # whose escapes YAML reads otherwise


def _name(values: dict) -> str:
    """A folder's name for a combination: readable, of harmless characters, and its own."""
    readable = re.sub(r"[^\w.=-]+", "_", ",".join(f"{name}={value}" for name, value in values.items()), flags=re.ASCII)
    digest = hashlib.sha256(_as_yaml(values).encode()).hexdigest()[:8]
    return f"{readable[:60].strip('._-')}-{digest}"


def _kind(parameters: Parameters) -> str:
    """What clips a run needs, in words that can name a folder."""
    return "-".join(str(getattr(parameters, name)) for name in DECIDES_DATA)


def _stand(sweep: Sweep) -> tuple[int, str]:
    states = {member.name: one.manifest.state for member in sweep.members if isinstance(one := _record(member), Record)}
    return [*states.values()].count("done"), ", ".join(name for name, state in states.items() if state == "running")


def _started(sweep: Sweep, member: Member, jobs: int) -> subprocess.Popen:
    """The process that makes a run; what it prints goes to `run.log` in the run's folder."""
    member.plan.run_dir.mkdir(parents=True, exist_ok=True)
    words = [word for change in member.changes for word in ("--set", change)]
    words += [word for prefix in sweep.only for word in ("--only", prefix)]
    command = [*COMMAND, "run", sweep.parameters_file, *words, "--out", str(member.plan.run_dir)]
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    with open(member.plan.run_dir / "run.log", "ab") as log:
        return subprocess.Popen(command, env=threads | os.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _record(member: Member) -> Record | Unreadable:
    try:
        return read_record(member.plan.run_dir)
    except (InputError, OSError):
        return Unreadable(member.plan.run_dir, "has not begun, or what stopped it is in its run.log", "waiting")


def _told(member: Member) -> str:
    one = _record(member)
    if isinstance(one, Unreadable):
        return f"failed, see {member.plan.run_dir / 'run.log'}"
    why = "; ".join(notebook.error for notebook in one.manifest.notebooks if notebook.error)
    return f"{one.manifest.state}{'; ' + why if why else ''}"
