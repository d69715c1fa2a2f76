"""Runs the notebooks in order through papermill, each in its own kernel, and leaves a folder that explains itself."""

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets.config import Config

from trajvit.datasets.files import write_atomic
from trajvit.evaluation.measure import Metric, read_metrics
from trajvit.reporting.html import Section, front_page, notebook_page
from trajvit.reporting.live import HEADLESS
from trajvit.reporting.tables import Table, metrics_table
from trajvit.running.manifest import Manifest, NotebookState, close
from trajvit.running.parameters import KEPT, Parameters, read_parameters
from trajvit.running.places import NOTEBOOKS, ROOT, RUNS
from trajvit.running.stations import check_data
from trajvit.settings import InputError

DONE, FAILED, BAD_INPUT, NO_GO, INTERRUPTED = 0, 1, 2, 3, 75
ENDS = {DONE: "done", FAILED: "failed", BAD_INPUT: "failed", NO_GO: "no-go", INTERRUPTED: "interrupted"}
# The kernel is spoken to through a socket file instead of a TCP port that any local user could read.
LOCAL_KERNEL = Config({"KernelManager": {"transport": "ipc"}})
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(parameters_file: str, changes: list[str], only: list[str], out: str | None, say: Callable[[str], None]) -> int:
    """Run the notebooks (all, or those whose names begin with one of `only`) with the parameters; the exit code.

    Everything is checked before the first notebook starts; raises `InputError`. The run's folder is `out`, or one
    named after the file and its parameters, so that the same command continues its own run: what the library
    finished (data, trainings) is not made again. 0 done, 1 failed, 3 a gate said NO-GO, 75 interrupted.
    """
    parameters = read_parameters(parameters_file, changes)
    notebooks = _chosen(only)
    taken = {notebook: _names(notebook) for notebook in notebooks}
    run_id = f"{Path(parameters_file).stem}-{_fingerprint(parameters)}" if out is None else Path(out).name
    run_dir = RUNS / run_id if out is None else Path(out).resolve()
    parameters = Parameters(**parameters.model_dump() | {"run_dir": str(run_dir)})

    check_data(parameters)
    values = parameters.model_dump(mode="json")
    _refuse_another_run(run_dir, values)
    write_atomic(run_dir / KEPT, yaml.safe_dump(values, sort_keys=False).encode())
    manifest = Manifest(run_id, str(parameters_file), parameters.seed, [NotebookState(notebook.stem) for notebook in notebooks])
    manifest.write(run_dir)
    started, code = time.monotonic(), DONE
    for state, notebook in zip(manifest.notebooks, notebooks, strict=True):
        say(f"{notebook.stem}: running")
        state.state = "running"
        manifest.write(run_dir)
        code = _execute(notebook, {name: values[name] for name in taken[notebook]}, run_dir, state)
        manifest.write(run_dir)
        say(f"{notebook.stem}: {state.state} after {state.seconds:.0f} s{'; ' + state.error if state.error else ''}")
        if code != DONE:
            break
    close(manifest, ENDS[code], time.monotonic() - started)
    manifest.write(run_dir)
    _render(run_dir, manifest, parameters)
    say(f"{run_id}: {manifest.state} after {manifest.seconds:.0f} s; open {run_dir / 'index.html'}")
    return code


def _refuse_another_run(run_dir: Path, values: dict) -> None:
    path = run_dir / KEPT
    there = yaml.safe_load(path.read_text()) if path.exists() else values
    changed = [
        f"{name} = {there.get(name)!r} there, {value!r} asked for" for name, value in values.items() if there.get(name) != value
    ]
    if changed:
        raise InputError(f"{run_dir} holds another run ({', '.join(changed[:3])}): name another --out or the same parameters")


def _chosen(only: list[str]) -> list[Path]:
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    for prefix in only:
        if not any(notebook.name.startswith(prefix) for notebook in notebooks):
            raise InputError(f"--only {prefix} names no notebook; there are {', '.join(n.stem for n in notebooks)}")
    return [notebook for notebook in notebooks if not only or notebook.name.startswith(tuple(only))]


def _names(notebook: Path) -> list[str]:
    """The parameters that a notebook declares. Raises `InputError` where one is not a parameter of runs."""
    names = list(papermill.inspect_notebook(str(notebook)))
    if strangers := set(names) - set(Parameters.model_fields):
        raise InputError(f"{notebook.name} declares {', '.join(sorted(strangers))}, unknown to Parameters: add it there")
    return names


def _fingerprint(parameters: Parameters) -> str:
    return hashlib.sha256(parameters.model_dump_json().encode()).hexdigest()[:8]


def _execute(notebook: Path, parameters: dict, run_dir: Path, state: NotebookState) -> int:
    """Execute one notebook into the run's folder and say in `state` how it went."""
    os.environ[HEADLESS] = "1"
    executed, started = run_dir / notebook.name, time.monotonic()
    code, state.state = DONE, "done"
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=True,
            stdout_file=sys.stdout,
            config=LOCAL_KERNEL,
        )
    except KeyboardInterrupt:
        code, state.state, state.error = INTERRUPTED, "interrupted", "interrupted from the keyboard"
    except PapermillExecutionError as error:
        code = {InputError.__name__: BAD_INPUT, KeyboardInterrupt.__name__: INTERRUPTED}.get(error.ename, FAILED)
        state.state, state.error = ENDS[code], f"cell {error.exec_count}: {error.ename}: {_line(error.evalue)}"
    except DeadKernelError:
        code, state.state, state.error = FAILED, "failed", "the notebook's kernel died (killed, or out of memory)"
    except (PapermillException, OSError, RuntimeError) as error:
        code, state.state, state.error = FAILED, "failed", f"{type(error).__name__}: {_line(error)}"
    state.seconds = round(time.monotonic() - started, 1)
    gate = read_metrics(run_dir).get(notebook.stem, {}).get("gate") if code == DONE else None
    if gate and gate["verdict"] == "NO-GO" and gate["enforced"]:
        code, state.state = NO_GO, "no-go"
        state.error = "; ".join(
            f"{row['name']} = {row['value']:.3g}, asked {row['asked']}" for row in gate["rows"] if row["verdict"] == "NO-GO"
        )
    return code


def _line(text: object) -> str:
    return " ".join(ANSI.sub("", str(text)).split())[:300]


def _render(run_dir: Path, manifest: Manifest, parameters: Parameters) -> None:
    """One page a notebook that ran, and the front page."""
    facts = manifest.facts(parameters)
    rows = []
    for notebook in manifest.notebooks:
        executed, page = run_dir / f"{notebook.name}.ipynb", run_dir / f"{notebook.name}.html"
        if executed.exists() and notebook.state != "waiting":
            notebook_page(executed, page, facts)
        rows.append([notebook.name, notebook.state, f"{notebook.seconds:.0f} s", notebook.error])
    front_page(
        run_dir / "index.html",
        f"Run {manifest.run_id}",
        {"done": "DONE", "no-go": "NO-GO"}.get(manifest.state, manifest.state.upper()),
        manifest.state == "done",
        [*facts, ("seconds", f"{manifest.seconds:.0f}")],
        _sections(run_dir, manifest, rows, parameters),
    )


def _sections(run_dir: Path, manifest: Manifest, rows: list[list[str]], parameters: Parameters) -> list[Section]:
    pages = [n.name for n in manifest.notebooks if (run_dir / f"{n.name}.html").exists()]
    links = "".join(f'<li><a href="{name}.html">{name}</a></li>' for name in pages)
    sections = [
        Section("Pages", f"<ol>{links}</ol>"),
        Section("Notebooks", Table(["notebook", "state", "took", "why"], rows)._repr_html_()),
    ]
    everything = read_metrics(run_dir)
    for name in pages:
        groups = {group: values for group, values in everything.get(name, {}).items() if _is_metrics(values)}
        if groups:
            metrics = {group: {key: Metric(**value) for key, value in values.items()} for group, values in groups.items()}
            sections.append(Section(f"Figures of {name}", metrics_table(metrics)._repr_html_()))
    settings = Table(["parameter", "value"], [[key, str(value)] for key, value in parameters.model_dump(mode="json").items()])
    return [*sections, Section("Parameters", settings._repr_html_())]


def _is_metrics(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(value, dict) and "unit" in value for value in values.values())
