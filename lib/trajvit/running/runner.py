"""Runs the notebooks in order through papermill, each in its own kernel, and leaves a folder that explains itself."""

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets.config import Config

from trajvit.datasets.files import write_atomic
from trajvit.evaluation.measure import read_metrics
from trajvit.reporting.live import HEADLESS
from trajvit.running.away import held
from trajvit.running.curves import training_curve
from trajvit.running.machine import stand
from trajvit.running.manifest import now
from trajvit.running.overview import write_index
from trajvit.running.parameters import KEPT
from trajvit.running.places import ROOT, RUNS
from trajvit.running.planning import Plan, Station, make_plan, source_of
from trajvit.running.rendering import render
from trajvit.settings import InputError

DONE, FAILED, BAD_INPUT, NO_GO, INTERRUPTED = 0, 1, 2, 3, 75
ENDS = {DONE: "done", FAILED: "failed", BAD_INPUT: "failed", NO_GO: "no-go", INTERRUPTED: "interrupted"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
Say = Callable[[str], None]


def run(parameters_file: str, changes: list[str], only: list[str], out: str | None, say: Say, prepare_only: bool = False) -> int:
    """Run the notebooks (all, or those whose names begin with one of `only`) with the parameters; the exit code.

    Everything is checked before the first notebook starts; raises `InputError`. The run's folder is `out`, which may be
    `s3://bucket/prefix`, or one named after the file and its parameters, so that the same command continues its own run at
    the first notebook that is not done. 0 done, 1 failed, 2 a notebook refused its parameters, 3 a gate said NO-GO,
    75 interrupted. With `prepare_only` the notebooks are written with their parameters and not run.
    """
    plan, code = make_plan(parameters_file, changes, only, out), INTERRUPTED
    with (
        suppress(Unfinished, Interrupted),
        held(plan.place, plan.run_dir, len(plan.stations), lambda: stand(plan.run_dir)[::2], say),
    ):
        write_atomic(plan.run_dir / KEPT, yaml.safe_dump(plan.parameters.model_dump(mode="json"), sort_keys=False).encode())
        code = _prepare(plan, say) if prepare_only else _run(plan, say)
        if plan.run_dir.parent == RUNS:
            write_index(RUNS)
        if code != DONE:  # so that the one who watches is told
            raise (Interrupted if code == INTERRUPTED else Unfinished)(ENDS[code])
    return code


class Unfinished(Exception):
    """The run did not get through, and has said why."""


class Interrupted(KeyboardInterrupt):
    """The run was interrupted, and has said so."""


def _prepare(plan: Plan, say: Say) -> int:
    """Write the notebooks that are not done with their parameters."""
    manifest = plan.manifest()
    for station in plan.stations:
        if station.state.state != "done":
            _papermill(station, plan, prepare_only=True)
            manifest.state = station.state.state = "prepared"
            say(f"{plan.run_dir / station.path.name}: prepared")
    manifest.write(plan.run_dir)
    return DONE


def _run(plan: Plan, say: Say) -> int:
    manifest, code = plan.manifest(), DONE
    manifest.write(plan.run_dir)
    for station in plan.stations:
        state, name = station.state, station.path.stem
        if state.state == "done":
            say(f"{name}: done already")
            continue
        say(f"{name}: running")
        state.state, state.commit, state.source = "running", manifest.commit, source_of(station.path)
        manifest.write(plan.run_dir)
        code = _execute(station, plan)
        manifest.seconds = round(sum(notebook.seconds for notebook in manifest.notebooks), 1)
        manifest.write(plan.run_dir)
        say(f"{name}: {state.state} after {state.seconds:.0f} s{'; ' + state.error if state.error else ''}")
        if code != DONE:
            break
        render(plan.run_dir, manifest, plan.parameters, [name])
    whole = all(notebook.state == "done" for notebook in manifest.notebooks)
    manifest.state = ENDS[code] if code != DONE or whole else plan.earlier.state  # where others than those asked for are not done
    manifest.finished, manifest.curve = now(), training_curve(plan.run_dir) or manifest.curve
    manifest.write(plan.run_dir)
    render(plan.run_dir, manifest, plan.parameters)
    say(f"{plan.run_id}: {manifest.state} after {manifest.seconds:.0f} s; open {plan.run_dir / 'index.html'}")
    return code


def _papermill(station: Station, plan: Plan, prepare_only: bool = False) -> None:
    """Have a notebook executed into the run's folder, and what it wrote there on the disk.

    The kernel is spoken to through socket files in a folder of our own, instead of TCP ports that any local user could read.
    """
    values = plan.parameters.model_dump(mode="json")
    executed = plan.run_dir / station.path.name
    with TemporaryDirectory(prefix="trajvit-") as sockets:
        papermill.execute_notebook(
            str(station.path),
            str(executed),
            {name: values[name] for name in station.names},
            prepare_only=prepare_only,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=True,
            stdout_file=sys.stdout,
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
        )
    write_atomic(executed, executed.read_bytes())  # papermill's own may still be lost after the manifest says that it is done


def _execute(station: Station, plan: Plan) -> int:
    """Execute one notebook into the run's folder and say in its state how it went."""
    os.environ[HEADLESS] = "1"
    state, started, before = station.state, time.monotonic(), station.state.seconds
    code, state.state, state.error = DONE, "done", ""
    try:
        _papermill(station, plan)
    except KeyboardInterrupt:
        code, state.state, state.error = INTERRUPTED, "interrupted", "interrupted from the keyboard"
    except PapermillExecutionError as error:
        code = {InputError.__name__: BAD_INPUT, KeyboardInterrupt.__name__: INTERRUPTED}.get(error.ename, FAILED)
        state.state, state.error = ENDS[code], f"cell {error.exec_count}: {error.ename}: {_line(error.evalue)}"
    except DeadKernelError:
        code, state.state, state.error = FAILED, "failed", "the notebook's kernel died (killed, or out of memory)"
    except (PapermillException, OSError, RuntimeError) as error:
        code, state.state, state.error = FAILED, "failed", f"{type(error).__name__}: {_line(error)}"
    state.seconds = round(before + time.monotonic() - started, 1)
    if code == DONE and (missed := _missed(plan.run_dir, state.name)):
        code, state.state, state.error = NO_GO, "no-go", missed
    return code


def _missed(run_dir: Path, notebook: str) -> str:
    """What an enforced gate that says NO-GO names as its reasons; empty where there is none."""
    gate = read_metrics(run_dir).get(notebook, {}).get("gate")
    if not gate or gate["verdict"] != "NO-GO" or not gate["enforced"]:
        return ""
    return "; ".join(
        f"{row['name']} = {row['value']:.3g}, asked {row['asked']}" for row in gate["rows"] if row["verdict"] == "NO-GO"
    )


def _line(text: object) -> str:
    return " ".join(ANSI.sub("", str(text)).split())[:300]
