"""Pages that stand alone: an executed notebook, and the front page of a run. Nothing is loaded from anywhere, and nothing
that a page shows can run: its policy allows no script but the one that sorts tables, by its hash."""

import base64
import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from trajvit.datasets.files import write_atomic

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"(.+?): (running|done|failed|interrupted), \d+/\d+ ")  # as `Progress` is printed

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #5c6470; --line: #e3e6ea; --accent: #2f62a8; --page: #fff;
        --panel: #f6f7f9; --wrong: #fdf1f0; --good: #1b7f3b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe3e8; --faint: #9aa3ae; --line: #30363d; --accent: #7fb0f0; --page: #14171b; --panel: #1d2127;
          --wrong: #3a1f1d; }
  td strong[style] { filter: brightness(1.7); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 80px; max-width: 1040px; color: var(--ink); background: var(--page);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
body.wide { max-width: 1400px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .6em 0; } h2 { font-size: 1.25rem; margin-top: 2em; }
h3 { font-size: 1.05rem; }
a { color: var(--accent); } nav, .facts, summary { color: var(--faint); font-size: .85rem; } .anchor-link { display: none; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: .8em 0; } .facts b { font-weight: 600; }
.toc ol { margin: .3em 0 1em; padding-left: 1.6em; columns: 20em 3; } .toc li { break-inside: avoid; padding: 1px 0; }
details { margin: .4em 0; } summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.45; padding: 10px 12px; border-radius: 6px; background: var(--panel); }
.output_stdout pre { white-space: pre-wrap; }
img, svg { max-width: 100%; height: auto; } .output_png img { background: #fff; border-radius: 6px; }
table { border-collapse: collapse; margin: 1em 0; font-size: .85rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--accent); }
th button::after { content: " \\2195"; opacity: .35; }
th[aria-sort=ascending] button::after { content: " \\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: " \\2193"; opacity: 1; }
.sortable td { white-space: nowrap; }
@media (max-width: 700px) { td { white-space: nowrap; } }
.sortable small { display: block; max-width: 30em; color: var(--faint); white-space: normal; }
.spark { width: 110px; height: 24px; stroke: var(--accent); fill: none; stroke-width: 1.5; vertical-align: middle; }
.better { color: var(--good); } .worse { color: var(--bad); }
@media (prefers-color-scheme: dark) { .better { color: #5cc47e; } .worse { color: #f08078; } }
.prompt, .celltag_parameters { display: none; }
.output_stderr pre, .output_error pre, .trouble { background: var(--wrong); }
.trouble { border-left: 4px solid var(--bad); padding: 8px 14px; border-radius: 4px; }
.switch { position: sticky; top: 0; float: right; font-size: .85rem; background: var(--page); padding: 4px 8px; z-index: 1; }
body:not(:has(#code:checked)) .input { display: none; }
.verdict { display: inline-block; padding: 2px 12px; border-radius: 12px; color: #fff; font-weight: 600; font-size: .8rem; }
.good { background: var(--good); } .bad { background: var(--bad); } .open { background: #5c6470; }
"""

# Sorts a table by a column: numbers by what `data-sort` holds, else text; rows that have nothing there stay last.
SORTING = """
for (const button of document.querySelectorAll("table.sortable th button")) button.onclick = () => {
  const th = button.parentNode, column = th.cellIndex, body = th.closest("table").tBodies[0];
  const down = th.getAttribute("aria-sort") === "ascending";
  for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const rows = [...body.rows], empty = rows.filter(row => key(row) === ""), full = rows.filter(row => key(row) !== "");
  const numeric = full.every(row => !isNaN(key(row)));
  full.sort((a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
  body.append(...(down ? full.reverse() : full), ...empty);
};
"""
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SORTING.encode()).digest()).decode()}'"
)

Fact = tuple[str, str]


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, which may be empty, and ready HTML, folded away or not."""

    title: str
    content: str
    folded: bool = False

    def __str__(self) -> str:
        if self.folded:
            return f"<details><summary>{html.escape(self.title)}</summary>{self.content}</details>"
        if not self.title:
            return self.content
        return f'<h2 id="{_anchor(self.title)}">{html.escape(self.title)}</h2>{self.content}'


def notebook_page(notebook: Path, page: Path, facts: list[Fact], trouble: str = "", details: list[Section] | None = None) -> None:
    """Render an executed notebook to one self-contained HTML page, code folded away behind a switch.

    What is wrong with it, if anything, stands on top; the folded `details` follow the facts.
    """
    document = nbformat.read(notebook, as_version=4)
    # papermill marks a failure with a cell on top, which says less than `trouble`
    marked = {"papermill-error-cell-tag"}
    document.cells = [cell for cell in document.cells if not (trouble and marked & {*cell.metadata.get("tags", [])})]
    heading = notebook.stem
    for cell in document.cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        cell.metadata.setdefault("alt", f"figure: {heading}")  # where the notebook says nothing itself
        outputs = cell.get("outputs", [])
        cell["outputs"] = _settled([output for output in outputs if WIDGET not in output.get("data", {})])
    body, _ = HTMLExporter(template_name="basic", embed_images=True).from_notebook_node(document)
    title = next(
        (line[2:] for cell in document.cells for line in cell.source.splitlines() if line.startswith("# ")), notebook.stem
    )
    switch = '<label class="switch"><input type="checkbox" id="code"> show code</label>'
    home = '<nav><a href="index.html">all pages of this run</a></nav>'
    folded = "".join(map(str, details or []))
    _write_page(page, title, f"{switch}{home}{_trouble(trouble)}{_facts(facts)}{folded}{_contents(body)}{body}")


def _settled(outputs: list) -> list:
    """Outputs as they read afterwards: what was printed stands together, and progress is told by its newest line."""
    settled = []
    for output in outputs:
        printed = output.output_type == "stream" and output.name == "stdout"
        if printed and settled and (settled[-1].output_type, settled[-1].get("name")) == ("stream", "stdout"):
            settled[-1].text += output.text
        else:
            settled.append(output)
    for output in settled:
        if output.output_type == "stream":
            output.text = "".join(_newest(output.text.splitlines(keepends=True)))
    return settled


def _newest(lines: list[str]) -> list[str]:
    """The lines without those of running work that a later one of the same work replaces."""
    kept, told_later = [], set()
    for line in reversed(lines):
        told = PROGRESS.match(line)
        if told and told[2] == "running" and told[1] in told_later:
            continue
        if told:
            told_later.add(told[1])
        kept.append(line)
    return kept[::-1]


def front_page(
    page: Path,
    title: str,
    verdict: str,
    good: bool,
    facts: list[Fact],
    sections: list[Section],
    trouble: str = "",
    up: str = "",
) -> None:
    """Write the page that a run is entered by; `facts` are escaped, the sections' content is taken as it is. `up` is the
    address of the page above it, if there is one."""
    badge = f'<p><span class="verdict {"good" if good else "bad"}">{html.escape(verdict)}</span></p>'
    nav = f'<nav><a href="{html.escape(up)}">all runs</a></nav>' if up else ""
    parts = "".join(map(str, sections))
    _write_page(
        page, title, f"{nav}<h1>{html.escape(title)}</h1>{badge}{_trouble(trouble)}{_facts(facts)}{_contents(parts)}{parts}"
    )


def plain_page(page: Path, title: str, said: str, sections: list[Section], up: str = "") -> None:
    """Write a page of wide tables; `said`, which is escaped, opens it."""
    nav = f'<nav><a href="{html.escape(up)}">all runs</a></nav>' if up else ""
    parts = "".join(map(str, sections))
    _write_page(page, title, f"{nav}<h1>{html.escape(title)}</h1><p>{html.escape(said)}</p>{parts}", wide=True)


def _facts(facts: list[Fact]) -> str:
    return f'<p class="facts">{"".join(f"<span><b>{html.escape(k)}</b> {html.escape(v)}</span>" for k, v in facts)}</p>'


def _trouble(trouble: str) -> str:
    return f'<p class="trouble" role="alert">{html.escape(trouble)}</p>' if trouble else ""


def _contents(body: str) -> str:
    """A table of the contents, made of the body's second headings."""
    found = re.findall(r'<h2[^>]*\bid="([^"]*)"[^>]*>(.*?)</h2>', body, re.DOTALL)
    items = "".join(f'<li><a href="#{anchor}">{_words(heading)}</a></li>' for anchor, heading in found)
    return f'<nav class="toc" aria-label="contents"><ol>{items}</ol></nav>' if len(found) > 2 else ""


def _words(heading: str) -> str:
    """A heading's text, still escaped, without its tags and the sign that links to it."""
    return re.sub(r"<a class=\"anchor-link\".*?</a>|<[^>]*>", "", heading, flags=re.DOTALL).strip()


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title).strip("-")


def _write_page(page: Path, title: str, body: str, wide: bool = False) -> None:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    highlight = f"{light} @media (prefers-color-scheme: dark) {{ {dark} }} .highlight {{ background: none; }}"
    script = f"<script>{SORTING}</script>" if 'class="sortable"' in body else ""
    content = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{STYLE}{highlight}</style></head>'
        f"<body{' class=wide' if wide else ''}>{body}{script}</body></html>"
    )
    write_atomic(page, content.encode())
