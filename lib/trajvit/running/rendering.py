"""The pages of a run: one a notebook that ran, and the one that it is entered by."""

import html
from pathlib import Path
from urllib.parse import quote

from trajvit.datasets.folders import Disk
from trajvit.evaluation.measure import Metric, Metrics, read_metrics
from trajvit.reporting.html import Section, front_page, notebook_page
from trajvit.reporting.tables import Table, metrics_table
from trajvit.running.manifest import Manifest, NotebookState
from trajvit.running.parameters import Parameters
from trajvit.running.places import RUNS

WORDS = {"done": "DONE", "no-go": "NO-GO"}


def render(run_dir: Path, manifest: Manifest, parameters: Parameters, names: list[str] | None = None) -> None:
    """Write the pages of the notebooks, or of those of `names`, and the front page."""
    there = Disk(run_dir).names()
    details = _details(manifest, parameters)
    for notebook in manifest.notebooks:
        ran = notebook.state not in ("waiting", "prepared") and f"{notebook.name}.ipynb" in there
        if ran and (names is None or notebook.name in names):
            executed, page = run_dir / f"{notebook.name}.ipynb", run_dir / f"{notebook.name}.html"
            notebook_page(executed, page, _facts(manifest, notebook, parameters), _trouble(notebook), details)
    front_page(
        run_dir / "index.html",
        f"Run {manifest.run_id}",
        WORDS.get(manifest.state, manifest.state.upper()),
        manifest.state == "done",
        manifest.facts(parameters),
        [*_sections(run_dir, manifest), *details],
        "; ".join(filter(None, map(_trouble, manifest.notebooks))),
        "../index.html" if (run_dir.parent / "index.html").exists() or run_dir.parent == RUNS else "",
    )


def recorded_metrics(run_dir: Path, notebook: str) -> Metrics:
    """The groups of metrics that a notebook of a run has recorded."""
    return {
        group: {name: Metric(**value) for name, value in values.items()}
        for group, values in read_metrics(run_dir).get(notebook, {}).items()
        if isinstance(values, dict) and all(isinstance(value, dict) and "unit" in value for value in values.values())
    }


def _facts(manifest: Manifest, notebook: NotebookState, parameters: Parameters) -> list[tuple[str, str]]:
    """The run's, but for what each notebook has of its own."""
    own = {"state": notebook.state, "took": f"{notebook.seconds:.0f} s", "commit": notebook.commit or manifest.commit}
    return [(name, own.get(name, value)) for name, value in manifest.facts(parameters)]


def _trouble(notebook: NotebookState) -> str:
    return f"{notebook.name}: {notebook.state}: {notebook.error}" if notebook.error else ""


def _details(manifest: Manifest, parameters: Parameters) -> list[Section]:
    values = [[key, str(value)] for key, value in parameters.model_dump(mode="json").items()]
    versions = [[name, version] for name, version in manifest.versions.items()]
    return [
        Section("Parameters", Table(["parameter", "value"], values)._repr_html_(), folded=True),
        Section("Versions", Table(["package", "version"], versions)._repr_html_(), folded=True),
    ]


def _sections(run_dir: Path, manifest: Manifest) -> list[Section]:
    pages = [n.name for n in manifest.notebooks if (run_dir / f"{n.name}.html").exists()]
    links = "".join(f'<li><a href="{quote(name)}.html">{html.escape(name)}</a></li>' for name in pages)
    rows = [[n.name, n.state, f"{n.seconds:.0f} s", n.commit, n.error] for n in manifest.notebooks]
    sections = [
        Section("Pages", f"<ol>{links}</ol>"),
        Section("Notebooks", Table(["notebook", "state", "took", "commit", "why"], rows)._repr_html_()),
    ]
    for name in pages:
        if metrics := recorded_metrics(run_dir, name):
            sections.append(Section(f"Figures of {name}", metrics_table(metrics)._repr_html_()))
    return sections
