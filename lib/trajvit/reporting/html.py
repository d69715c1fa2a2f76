"""Pages that stand alone: an executed notebook, and the front page of a run. Nothing is loaded from anywhere."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from trajvit.datasets.files import write_atomic

WIDGET = "application/vnd.jupyter.widget-view+json"

STYLE = """
:root { --ink: #1f2328; --faint: #6b7280; --line: #e3e6ea; --accent: #3b6fb6; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 80px; max-width: 1040px; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .6em 0; } h2 { font-size: 1.25rem; margin-top: 2em; }
a { color: var(--accent); } nav, .facts { color: var(--faint); font-size: .85rem; } .anchor-link { display: none; }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.45; padding: 10px 12px; border-radius: 6px; background: #f6f7f9; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1em 0; font-size: .85rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
.prompt, .celltag_parameters { display: none; }
.output_stderr pre, .output_error pre { background: #fdf1f0; }
.switch { position: sticky; top: 0; float: right; font-size: .85rem; background: #fff; padding: 4px 8px; }
body:not(:has(#code:checked)) .input { display: none; }
.verdict { display: inline-block; padding: 2px 12px; border-radius: 12px; color: #fff; font-weight: 600; }
.good { background: #1b7f3b; } .bad { background: #b3261e; }
"""

Fact = tuple[str, str]


@dataclass(frozen=True)
class Section:
    """A part of a front page: a title and ready HTML."""

    title: str
    content: str


def notebook_page(notebook: Path, page: Path, facts: list[Fact]) -> None:
    """Render an executed notebook to one self-contained HTML page, code folded away behind a switch."""
    document = nbformat.read(notebook, as_version=4)
    for cell in document.cells:
        outputs = cell.get("outputs", [])
        cell["outputs"] = [output for output in outputs if WIDGET not in output.get("data", {})]
    body, _ = HTMLExporter(template_name="basic", embed_images=True).from_notebook_node(document)
    body = re.sub(r"<img(?![^>]*\balt=)", '<img alt="figure"', body)
    title = next(
        (line[2:] for cell in document.cells for line in cell.source.splitlines() if line.startswith("# ")), notebook.stem
    )
    switch = '<label class="switch"><input type="checkbox" id="code"> show code</label>'
    home = '<nav><a href="index.html">all pages of this run</a></nav>'
    _write_page(page, title, f"{switch}{home}{_facts(facts)}{body}")


def front_page(page: Path, title: str, verdict: str, good: bool, facts: list[Fact], sections: list[Section]) -> None:
    """Write the page that a run is entered by; `facts` are escaped, the sections' content is taken as it is."""
    badge = f'<p><span class="verdict {"good" if good else "bad"}">{html.escape(verdict)}</span></p>'
    parts = "".join(f"<h2>{html.escape(section.title)}</h2>{section.content}" for section in sections)
    _write_page(page, title, f"<h1>{html.escape(title)}</h1>{badge}{_facts(facts)}{parts}")


def _facts(facts: list[Fact]) -> str:
    return f'<p class="facts">{" · ".join(f"{html.escape(name)}: {html.escape(value)}" for name, value in facts)}</p>'


def _write_page(page: Path, title: str, body: str) -> None:
    highlight = HtmlFormatter().get_style_defs(".highlight")
    content = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{STYLE}{highlight}</style></head>'
        f"<body>{body}</body></html>"
    )
    write_atomic(page, content.encode())
