"""Tables that a reader can sort in the page, and lines small enough to stand in them; everything in them is escaped."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 110, 24, 2


@dataclass(frozen=True)
class Cell:
    """What a cell shows, what it is sorted by (its text where nothing is given), where it leads, and how it looks."""

    text: str = ""
    sort: float | str | None = None
    href: str = ""
    note: str = ""
    look: str = ""
    curve: Sequence[float] = ()

    def __str__(self) -> str:
        shown = html.escape(self.text)
        if self.look:
            shown = f'<span class="{html.escape(self.look)}">{shown}</span>'
        if self.href:
            shown = f'<a href="{html.escape(self.href)}">{shown}</a>'
        if self.note:
            shown += f" <small>{html.escape(self.note)}</small>"
        by = self.curve[-1] if self.curve else self.sort
        key = "" if by is None else f' data-sort="{html.escape(str(by))}"'
        return f"<td{key}>{shown}{sparkline(self.curve)}</td>"


def sortable_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table whose headings sort it."""
    head = "".join(f'<th scope="col"><button>{html.escape(heading)}</button></th>' for heading in headings)
    body = "".join(f"<tr>{''.join(map(str, row))}</tr>" for row in rows)
    return f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def sparkline(values: Sequence[float]) -> str:
    """A line through the values, from left to right; nothing for fewer than two."""
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    across, up = (WIDTH - 2 * MARGIN) / (len(values) - 1), (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
    points = " ".join(f"{MARGIN + k * across:.1f},{MARGIN + (high - value) * up:.1f}" for k, value in enumerate(values))
    label = f"from {values[0]:.3g} to {values[-1]:.3g}"
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>'
        f'<polyline points="{points}"/></svg>'
    )
