"""One page of many runs: what they were, how they went and what they measured, to be sorted by any of it."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from trajvit.evaluation.measure import Metric
from trajvit.reporting.html import Section, plain_page
from trajvit.reporting.sortable import Cell, sortable_table
from trajvit.reporting.tables import Table
from trajvit.running.estimates import in_units
from trajvit.running.places import RUNS
from trajvit.running.records import HEADLINES, Record, Unreadable, find_records

LATEST = 8
LOOKS = {"done": "verdict good", "failed": "verdict bad", "no-go": "verdict bad"}


def write_index(root: Path) -> Path:
    """Write `index.html`, the page of all runs in a folder; its path. Raises `InputError` where there is no such folder."""
    found = find_records(root)
    done = sum(isinstance(one, Record) and one.manifest.state == "done" for one in found)
    said = f"{len(found)} runs, {done} of them done. Figures are of test clips, or of val clips where a run got no further."
    plain_page(root / "index.html", "Runs", said, [Section("", runs_table(found, root))])
    return root / "index.html"


def runs_table(found: Sequence[Record | Unreadable], root: Path, swept: Sequence[str] = ()) -> str:
    """One row a run, as a page in `root` shows it; with a column for each parameter of `swept`."""
    headings = ["run", *swept, "state", *HEADLINES.values(), "clips", "loss", "data", "started", "took", "commit"]
    return sortable_table(headings, [_row(one, root, swept) for one in found])


def runs_here() -> Table:
    """The latest runs in reports/runs, as a notebook shows them."""
    found = [one for one in find_records(RUNS) if isinstance(one, Record)] if RUNS.is_dir() else []
    rows = [
        [
            one.folder.relative_to(RUNS).as_posix(),
            one.manifest.state,
            *(f"{metric.value:.3g}" if (metric := one.headline(*where)) else "" for where in HEADLINES),
            one.manifest.started,
            in_units(one.manifest.seconds),
        ]
        for one in found[:LATEST]
    ]
    return Table(["run", "state", *HEADLINES.values(), "started", "took"], rows or [["none yet"] + [""] * (len(HEADLINES) + 3)])


def link(folder: Path, root: Path) -> str:
    """The address of a run's front page as a page in `root` gives it."""
    return quote(os.path.relpath(folder / "index.html", root))


def _row(one: Record | Unreadable, root: Path, swept: Sequence[str]) -> list[Cell]:
    name = os.path.relpath(one.folder, root)
    if isinstance(one, Unreadable):
        empty = [Cell(sort="")] * (len(swept) + len(HEADLINES) + 6)
        return [
            Cell(name, note=one.why),
            *empty[: len(swept)],
            Cell(one.state.upper(), look="verdict open"),
            *empty[len(swept) :],
        ]
    manifest, values = one.manifest, one.parameters
    data = f"{values.get('samples')} {values.get('format')} {values.get('variety')}, seed {manifest.seed}"
    return [
        Cell(name, href=link(one.folder, root)),
        *(Cell(str(values.get(parameter)), sort=_key(values.get(parameter))) for parameter in swept),
        Cell(manifest.state.upper(), look=LOOKS.get(manifest.state, "verdict open")),
        *(_figure(one.headline(*where)) for where in HEADLINES),
        Cell(one.scored),
        Cell(curve=manifest.curve) if manifest.curve else Cell(sort=""),
        Cell(data),
        Cell(manifest.started.replace("T", " ").removesuffix("+00:00"), sort=manifest.started),
        Cell(in_units(manifest.seconds), sort=manifest.seconds),
        Cell(manifest.commit),
    ]


def _figure(metric: Metric | None) -> Cell:
    if metric is None:
        return Cell(sort="")
    interval = f"{metric.ci95[0]:.3g} to {metric.ci95[1]:.3g}" if metric.ci95 else ""
    return Cell(f"{metric.value:.3g}", sort=metric.value, note=interval)


def _key(value: object) -> float | str:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
