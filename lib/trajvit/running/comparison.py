"""Two runs side by side: what differs between them, and what came of it."""

import re
from pathlib import Path

from trajvit.evaluation.measure import Metric
from trajvit.reporting.html import Section, plain_page
from trajvit.reporting.sortable import Cell, sortable_table
from trajvit.reporting.tables import Table
from trajvit.running.overview import link, runs_table
from trajvit.running.places import RUNS
from trajvit.running.records import Record
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig

CLEAR = (
    "Better and worse are said only where the two 95 % intervals, over clips, do not meet; another seed may differ by more. "
    "Distances between sets of clips are in the features of each run's own judge."
)


def compare(first: Record, second: Record, page: Path) -> Table:
    """Write the page that compares two runs; its table of figures, to be printed.

    Runs of other worlds or formats stand side by side without verdicts. Raises `InputError` where the two have no figures of
    one stream of clips, `val` or `test`.
    """
    if first.scored != second.scored or not first.metrics:
        told = [f"{one.folder.name} has figures of {one.scored or 'no'} clips" for one in (first, second)]
        raise InputError(f"{' and '.join(told)}: run both up to the same notebook")
    names = [first.folder.name, second.folder.name]
    rows = [
        (f"{group}.{name}", metric, second.metrics[group][name])
        for group, metrics in first.metrics.items()
        for name, metric in metrics.items()
        if name in second.metrics.get(group, {})
    ]
    alike = _world(first) == _world(second)
    verdicts = [_verdict(a, b) if alike else "other clips" for _, a, b in rows]
    figures = sortable_table(
        ["figure", "unit", *names, "difference", "second against first"],
        [
            [Cell(name), Cell(a.unit), _cell(a), _cell(b), _difference(a, b), Cell(said, look=said.split()[0])]
            for (name, a, b), said in zip(rows, verdicts, strict=True)
        ],
    )
    sections = [
        Section("The runs", runs_table([first, second], page.parent)),
        Section("What differs", _changes(first, second, names)._repr_html_()),
        Section("Figures", f"<p>Of {first.scored} clips. {CLEAR}</p>{figures}"),
    ]
    up = link(RUNS, page.parent) if (RUNS / "index.html").exists() else ""
    plain_page(page, f"{names[0]} and {names[1]}", f"{_count(verdicts)} among {len(rows)} figures.", sections, up)
    cells = [[name, f"{a.value:.4g}", f"{b.value:.4g}", a.unit, said] for (name, a, b), said in zip(rows, verdicts, strict=True)]
    return Table(["figure", *names, "unit", "second against first"], cells)


def page_of(first: Record, second: Record) -> Path:
    """Where the comparison of two runs goes by default."""
    names = [re.sub(r"[^\w.-]+", "_", one.folder.name)[:80] for one in (first, second)]
    return RUNS / f"compare-{names[0]}-{names[1]}.html"


def _changes(first: Record, second: Record, names: list[str]) -> Table:
    """Parameters, versions and circumstances that are not the same."""
    told = [
        {
            **{name: value for name, value in one.parameters.items() if name != "run_dir"},
            **{f"version of {name}": version for name, version in one.manifest.versions.items()},
            "commit": one.manifest.commit,
            "machine": f"{one.manifest.host}, {one.manifest.machine}",
            "seconds": one.manifest.seconds,
        }
        for one in (first, second)
    ]
    keys = [key for key in dict.fromkeys([*told[0], *told[1]]) if told[0].get(key) != told[1].get(key)]
    return Table(["", *names], [[key, *(str(one.get(key, "")) for one in told)] for key in keys])


def _world(one: Record) -> WorldConfig | tuple:
    """Of what world the clips of a run are; where its parameters name none that there is, what they say."""
    told = one.parameters.get("format"), one.parameters.get("variety")
    try:
        return WorldConfig.named(str(told[0]), variety=told[1])
    except InputError:
        return told


def _verdict(a: Metric, b: Metric) -> str:
    if a.between_sets and a != b:
        return "other features"
    if a.ci95 is None or b.ci95 is None:
        return "same" if a.value == b.value else "no interval"
    if a.ci95[0] <= b.ci95[1] and b.ci95[0] <= a.ci95[1]:
        return "no clear difference"
    return "better" if (b.value > a.value) == b.more_is_better else "worse"


def _cell(metric: Metric) -> Cell:
    note = f"{metric.ci95[0]:.3g} to {metric.ci95[1]:.3g}" if metric.ci95 else ""
    return Cell(f"{metric.value:.4g}", sort=metric.value, note=note)


def _difference(a: Metric, b: Metric) -> Cell:
    return Cell(f"{b.value - a.value:+.3g}", sort=b.value - a.value)


def _count(verdicts: list[str]) -> str:
    return f"The second is better in {verdicts.count('better')} and worse in {verdicts.count('worse')}"
