"""Tables of figures with what they are worth, for notebooks and pages; everything in them is escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence

from trajvit.datasets.verification import CENTRE_PX, Verification
from trajvit.evaluation.ablations import Ablated
from trajvit.evaluation.costs import Cost
from trajvit.evaluation.gate import Row
from trajvit.evaluation.headlines import Headline
from trajvit.evaluation.ladder import Ladder, Rung, RungGate
from trajvit.evaluation.measure import Metric, Metrics

SHARE = "share"  # the unit of a share of the clips


class Table:
    """Rows of text under headings; shows as HTML in a notebook and as aligned columns in print."""

    def __init__(self, headings: Sequence[str], rows: Iterable[Sequence[str]], verdict_column: int | None = None):
        self.headings, self.rows, self.verdict_column = list(headings), [list(row) for row in rows], verdict_column

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in self.headings)
        body = "".join(f"<tr>{''.join(self._cell(j, cell) for j, cell in enumerate(row))}</tr>" for row in self.rows)
        return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def _cell(self, column: int, text: str) -> str:
        if column == self.verdict_column:
            colour = "#1b7f3b" if text == "GO" else "#b3261e"
            return f'<td><strong style="color:{colour}">{html.escape(text)}</strong></td>'
        return f"<td>{html.escape(text)}</td>"

    def __str__(self) -> str:
        widths = [max(len(row[j]) for row in [self.headings, *self.rows]) for j in range(len(self.headings))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [self.headings, *self.rows]
        ]
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """The same for a README."""
        rows = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)


def metrics_table(metrics: Metrics) -> Table:
    """Groups of metrics, as `Metric`s by name, one a row: value, interval, baselines with the interval of how much more the
    value is, limit."""
    rows = []
    for group, named in metrics.items():
        for name, metric in named.items():
            interval = f"{_figure(metric.ci95[0])} to {_figure(metric.ci95[1])}" if metric.ci95 else ""
            baselines = ", ".join(_baseline(metric, key) for key in metric.baselines)
            limit = "" if metric.limit is None else _figure(metric.limit)
            rows.append([f"{group}.{name}", _figure(metric.value), metric.unit, interval, baselines, limit])
    return Table(["metric", "value", "unit", "95 % interval", "baselines", "limit"], rows)


def _baseline(metric: Metric, name: str) -> str:
    """A baseline and, where it is paired, the interval of the metric's difference from it."""
    said = f"{name.replace('_', ' ')} {_figure(metric.baselines[name])}"
    if name not in metric.differences:
        return said
    low, high = metric.differences[name]
    return f"{said} ({low:+.2g} to {high:+.2g})"


def headline_table(found: Sequence[Headline]) -> Table:
    """One row a headline: MAGVIT's figure, the best of the others, the limit and how many times the limit it is."""
    rows = []
    for one in found:
        metric = one.metric
        rows.append(
            [
                one.task,
                one.figure,
                _with_interval(metric),
                _best_baseline(metric),
                "" if metric.limit is None else _quantity(metric.limit, metric.unit),
                "" if metric.of_limit is None else f"{metric.of_limit:.3g} x",
                one.verdict,
            ]
        )
    return Table(["task", "figure", "MAGVIT (95 % interval)", "best baseline", "limit", "of the limit", "verdict"], rows)


def figures_table(runs: Mapping[str, Sequence[Headline]]) -> Table:
    """The headlines of some runs, by the runs' names, side by side: each figure with its interval, the best of the others and
    the limit, and how many times the limit it is."""
    by_name = {name: {(one.task, one.figure): one.metric for one in found} for name, found in runs.items()}
    figures = dict.fromkeys(figure for found in by_name.values() for figure in found)
    rows = []
    for task, figure in figures:
        row = [f"{task}: {figure}"]
        for found in by_name.values():
            row += _beside(found[task, figure]) if (task, figure) in found else ["", "", ""]
        rows.append(row)
    headings = [heading for name in runs for heading in (f"{name}: MAGVIT (95 % interval)", "best baseline", "limit")]
    return Table(["what", *headings], rows)


def predictions_table(runs: Mapping[str, Metrics]) -> Table:
    """How far off the ball is predicted in some runs, by the runs' names: by MAGVIT, its rivals and the oracle, the farthest first."""
    found = {name: metrics["prediction"]["centre_error_px"] for name, metrics in runs.items() if "prediction" in metrics}
    errors = {
        name: metric.baselines | {"MAGVIT": metric.value} | ({} if metric.limit is None else {"oracle": metric.limit})
        for name, metric in found.items()
    }
    who = sorted(
        {one for error in errors.values() for one in error}, key=lambda one: -max(e.get(one, 0.0) for e in errors.values())
    )
    rows = [[one.replace("_", " "), *(_figure(error[one]) if one in error else "" for error in errors.values())] for one in who]
    return Table(["predicts the ball", *(f"{name}: px" for name in errors)], rows)


def _beside(metric: Metric) -> list[str]:
    times = f" ({metric.of_limit:.3g} x)" if metric.of_limit is not None and not metric.more_is_better else ""
    return [
        _with_interval(metric),
        _best_baseline(metric),
        "" if metric.limit is None else f"{_quantity(metric.limit, metric.unit)}{times}",
    ]


def _best_baseline(metric: Metric) -> str:
    best = metric.best_baseline
    return f"{best[0].replace('_', ' ')} {_quantity(best[1], metric.unit)}" if best else ""


def _with_interval(metric: Metric) -> str:
    interval = f" ({' to '.join(_number(end, metric.unit) for end in metric.ci95)})" if metric.ci95 else ""
    return f"{_number(metric.value, metric.unit)} {'%' if metric.unit == SHARE else metric.unit}{interval}"


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value, unit)} %" if unit == SHARE else _number(value, unit)


def _number(value: float, unit: str) -> str:
    """A figure, or a share in percent."""
    if unit != SHARE:
        return _figure(value)
    return f"{100 * value:.1f}" if value >= 0.01 else f"{100 * value:.2g}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def gate_table(rows: Sequence[Row]) -> Table:
    """A gate's rows: what was measured against what was asked, and the verdict."""
    cells = [
        [
            row.name,
            f"{row.value:.3g} {row.unit}",
            f"{row.baseline_name.replace('_', ' ')} {row.baseline:.3g}",
            row.asked,
            row.verdict,
        ]
        for row in rows
    ]
    return Table(["figure", "value", "baseline", "asked for", "verdict"], cells, verdict_column=4)


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """One row a rung: what its training took, and its metrics with their intervals and limits."""
    metrics = rungs[0].metrics if rungs else {}
    limits = [f" (limit {_figure(metric.limit)})" if metric.limit is not None else "" for metric in metrics.values()]
    names = [f"{name.replace('_', ' ')}{limit}" for name, limit in zip(metrics, limits, strict=True)]
    rows = [
        [
            f"{rung.plan.samples:,}",
            rung.plan.compute,
            f"{rung.plan.tokenizer_steps:,} + {rung.plan.transformer_steps:,}",
            _duration(3600 * rung.hours),
            *(
                f"{_figure(metric.value)} ({_figure(metric.ci95[0])} to {_figure(metric.ci95[1])})"
                for metric in rung.metrics.values()
            ),
        ]
        for rung in rungs
    ]
    return Table(["training clips", "compute", "steps", "trained for", *names], rows)


def rung_gates_table(gates: Sequence[RungGate]) -> Table:
    """One row a condition of a rung's gate: what was asked, what was found."""
    cells = [
        [str(gate.plan) if reason is gate.reasons[0] else "", reason.asked, reason.found, "GO" if reason.met else "NO-GO"]
        for gate in gates
        for reason in gate.reasons
    ]
    return Table(["before", "asked for", "found", "verdict"], cells, verdict_column=3)


def sizes_table(ladder: Ladder) -> Table:
    """One row a size above the top rung: what it is expected to give, how long it takes and what it costs."""
    rows = [
        [
            f"{size.plan.samples:,}",
            f"{size.plan.tokenizer_steps:,} + {size.plan.transformer_steps:,}",
            f"{_figure(size.error)} px ({_figure(size.ci95[0])} to {_figure(size.ci95[1])})",
            f"{size.gain_ci95[0]:.2g} to {size.gain_ci95[1]:.2g} px",
            _duration(3600 * size.hours),
            _dollars(size.dollars),
            "recommended" if size == ladder.recommended else "",
        ]
        for size in ladder.sizes
    ]
    price = f"on a {ladder.machine} at ${ladder.dollars_per_hour:.3f} an hour"
    return Table(["training clips", "steps", "prediction error expected", "gain", "training here", price, ""], rows)


def ablations_table(rows: Sequence[Ablated]) -> Table:
    """One row a variation: each metric's mean over the seeds and, against the recipe that heads its group, the interval of
    the difference; marked where that interval holds no zero. No interval stands where no seed made a difference."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    recipes: dict[str, Ablated] = {}
    cells = []
    for row in rows:
        recipe = recipes.setdefault(row.group, row)
        cells.append([row.group, row.name, *(_compared(row, recipe, name) for name in names)])
    return Table(["", "variation", *(name.replace("_", " ") for name in names)], cells)


def _compared(row: Ablated, recipe: Ablated, name: str) -> str:
    if name not in row.metrics:
        return ""
    if min(row.metrics[name]) == max(row.metrics[name]):
        return _figure(row.mean(name))
    low, high = row.ci95(name) if row is recipe else row.difference_ci95(name, recipe)
    if row is recipe:
        return f"{_figure(row.mean(name))} ({_figure(low)} to {_figure(high)})"
    return f"{_figure(row.mean(name))} ({low:+.2g} to {high:+.2g}){'' if low <= 0 <= high else ' *'}"


def integrity_table(found: dict[str, Verification]) -> Table:
    """What the verifications of some datasets found, by the datasets' names: one row a check, and what it asks for.

    A shard that fails one of the checks of its bytes counts as passing none of them, and its reason is told.
    """
    passed = [f"{one.config.shards - len(one.damaged)} of {one.config.shards}" for one in found.values()]
    filmed = [count if one.config.kind == "filmed" else "imported" for count, one in zip(passed, found.values(), strict=True)]
    rows = [
        ["shards", *(str(one.config.shards) for one in found.values()), ""],
        ["clips", *(f"{one.config.samples:,}" for one in found.values()), ""],
        ["shards: sha256 of every file", *passed, "all"],
        ["shards: crc32c of every chunk", *passed, "all"],
        ["shards: the bytes that filming again gives", *filmed, "all"],
        ["clips there twice", *(str(one.duplicates) for one in found.values()), "0"],
        ["commonest class beyond the rarest", *(str(one.imbalance) for one in found.values()), "at most 1"],
        ["balls that leave the frame", *(str(one.outside) for one in found.values()), "0"],
        [
            "worst centre of light",
            *(f"{one.centre_error_px:.3f} px" for one in found.values()),
            f"at most {CENTRE_PX:g} px",
        ],
        ["verdict", *("sound" if one.sound else str(one) for one in found.values()), ""],
    ]
    return Table(["check", *found, "asked for"], rows)


def costs_table(costs: Sequence[Cost]) -> Table:
    """One row a size: how long one machine takes, how many take an hour at most, and what it all costs."""
    rows = [
        [
            f"{cost.samples:,}",
            _duration(3600 * cost.hours),
            str(cost.machines),
            _bytes(1e9 * cost.gigabytes),
            _dollars(cost.compute_dollars),
            _dollars(cost.request_dollars),
            _dollars(cost.dollars_per_month),
        ]
        for cost in costs
    ]
    headings = ["clips", "on one machine", "machines for an hour", "on disk", "computing", "writing to S3", "storing, a month"]
    return Table(headings, rows)


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.01 else "under $0.01"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} bytes"
