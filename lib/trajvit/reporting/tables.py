"""Tables of figures with what they are worth, for notebooks and pages; everything in them is escaped."""

import html
from collections.abc import Iterable, Sequence

from trajvit.evaluation.gate import Row
from trajvit.evaluation.ladder import Rung
from trajvit.evaluation.measure import Metrics
from trajvit.worlds.families import Family


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


def metrics_table(metrics: Metrics) -> Table:
    """Groups of metrics, as `Metric`s by name, one a row: value, interval, baselines, limit."""
    rows = []
    for group, named in metrics.items():
        for name, metric in named.items():
            interval = f"{metric.ci95[0]:.3g} to {metric.ci95[1]:.3g}" if metric.ci95 else ""
            baselines = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in metric.baselines.items())
            limit = "" if metric.limit is None else f"{metric.limit:.3g}"
            rows.append([f"{group}.{name}", f"{metric.value:.3g}", metric.unit, interval, baselines, limit])
    return Table(["metric", "value", "unit", "95 % interval", "baselines", "limit"], rows)


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
    """One row a rung: its metrics with their intervals."""
    rows = [
        [
            str(rung.samples),
            *(f"{metric.value:.3g} ({metric.ci95[0]:.3g} to {metric.ci95[1]:.3g})" for metric in rung.metrics.values()),
        ]
        for rung in rungs
    ]
    return Table(["training clips", *(name.replace("_", " ") for name in rungs[0].metrics)], rows)


def families_table(families: Sequence[Family], variety: str) -> Table:
    """The families of trajectories and, for a variety, what each parameter is drawn from."""
    rows = [
        [
            str(label),
            family.name,
            family.equation,
            family.description,
            ", ".join(f"{name} {prior}" for name, prior in family.priors(variety).items()),
        ]
        for label, family in enumerate(families)
    ]
    return Table(["label", "family", "equation", "what it does", "parameters"], rows)
