"""The command line. Exit codes: 0 done, 1 failed, 2 bad arguments or parameters, 3 NO-GO, 75 interrupted and resumable.

Modules that import torch are imported inside their commands, so that making data starts at once.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import click

from trajvit.datasets.files import write_atomic
from trajvit.datasets.folders import open_folder
from trajvit.datasets.generator import generate
from trajvit.datasets.importing import SHARES, import_npz
from trajvit.datasets.progress import silent, watch
from trajvit.datasets.verification import Verification, verify
from trajvit.running.cli_bench import bench
from trajvit.running.cli_ec2 import ec2
from trajvit.running.lines import Latest, Lines, tell
from trajvit.settings import InputError
from trajvit.worlds.streams import SPLITS

ENDING_S = 5.0


def main(arguments: list[str]) -> int:
    """Run one command; the exit code. What is wrong is said in one line on stderr."""
    stop = Stop()
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        return commands.main(arguments, prog_name="trajvit", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        print(f"trajvit: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        if os.environ.get("RANK", "0") == "0":  # of many processes one says it
            print("trajvit: interrupted; the same command continues", file=sys.stderr)
        return 75
    except (OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        # A training that diverged would do so again.
        then = "" if isinstance(error, ArithmeticError) else ", the same command continues"
        print(f"trajvit: {' '.join(str(error).split())}; what is finished is kept{then}", file=sys.stderr)
        return 1


class Stop:
    """Ends the work at a signal as Ctrl-C does: cleanly, and to be continued.

    More signals soon after, as from those who press twice or from whole process groups, do not disturb the ending.
    """

    def __init__(self):
        self.last = -ENDING_S

    def __call__(self, *signalled) -> None:
        if time.monotonic() - self.last >= ENDING_S:
            self.last = time.monotonic()
            raise KeyboardInterrupt


@click.group()
def commands() -> None:
    """trajvit: balls on 3-D trajectories, MAGVIT, and the best that any model could do."""


@commands.command("generate")
@click.option("--out", required=True, help="folder, or s3://bucket/prefix, of the dataset; run again to resume")
@click.option("--samples", default=1200, show_default=True)
@click.option("--format", default="compact", show_default=True, help="compact, classic or TxHxWxC")
@click.option("--variety", default="textbook", show_default=True, type=click.Choice(["textbook", "varied"]))
@click.option("--split", default="train", show_default=True, type=click.Choice(SPLITS))
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", type=int, help="processes; by default one for small work and one a core for large")
@click.option("--shard-size", type=int, help="samples in a shard; 32 MiB of frames by default")
@click.option("--backend", default="loky", show_default=True, help="loky: this machine; dask: the cluster at --scheduler")
@click.option("--scheduler", help="address of a Dask scheduler, such as tcp://10.0.0.1:8786")
@click.option("--rank", default=0, show_default=True, help="which of several unconnected machines this is, from 0")
@click.option("--machines", default=1, show_default=True, help="how many fill the dataset together; each makes its part")
@click.option("--size", default="perspective", show_default=True, type=click.Choice(["perspective", "constant"]))
@click.option("--ball-radius-m", default=0.23, show_default=True)
@click.option("--noise-m", default=0.004, show_default=True, help="noise on the path, metres; 0 for none")
@click.option("--roll-degrees", default=15.0, show_default=True, help="roll of the camera, either way; 0 for none")
def generate_command(rank: int, machines: int, **options) -> int:
    """Make a dataset, or finish it."""
    dataset = generate(part=(rank, machines), on_progress=Lines(), **options)
    if dataset is None:
        print(f"{options['out']}: part {rank} of {machines} is done; other parts are not")
    else:
        print(f"{dataset.root}: {len(dataset)} clips, config {dataset.config.hash}")
    return 0


@commands.command("verify")
@click.argument("dataset")
@click.option("--repair", is_flag=True, help="make damaged shards again")
def verify_command(dataset: str, repair: bool) -> int:
    """Re-read a dataset, to the last byte: sha256, crc, balance, duplicates, and every clip against its config."""
    return _tell(dataset, verify(dataset, repair, Lines()), repair)


@commands.command("import-npz")
@click.argument("file")
@click.option("--out", required=True, help="folder, or s3://bucket/prefix, of the dataset; run again to resume")
@click.option("--share", default="all", show_default=True, type=click.Choice(SHARES), help="which of the file's samples")
def import_command(file: str, out: str, share: str) -> int:
    """Make a dataset of an .npz file of the earlier attempt, or finish it, and verify it."""
    dataset = import_npz(file, out, share, Lines())
    return _tell(out, verify(dataset.root), repaired=False)


def _tell(dataset: str, found: Verification, repaired: bool) -> int:
    """Print what a verification found and what to do about it; the exit code."""
    print(f"{dataset}: {found}")
    if found.damaged:
        ways = [] if repaired else [f"'python -m trajvit verify {dataset} --repair'"]
        if found.config.kind == "imported":
            ways.append(f"'python -m trajvit import-npz FILE --out {dataset} --share {found.config.share}'")
        print(f"trajvit: to repair it, run {', then '.join(ways)}", file=sys.stderr)
    return 0 if found.sound else 1


@commands.command("watch")
@click.argument("folder")
def watch_command(folder: str) -> int:
    """Follow work from its progress file, on this machine or another, until it ends; the exit code tells how."""
    shown = Latest()
    for sightings in watch(open_folder(folder)):
        shown(sightings)
    states = {found.progress.state for found in sightings}
    return 75 if "interrupted" in states else 1 if "failed" in states else 0


@commands.command("train")
@click.argument("parameters")
@click.option("--out", required=True, help="folder, or s3://bucket/prefix, of the model; run again to resume")
@click.option("--first", type=int, metavar="N", help="train on the first N clips alone")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
def train_command(parameters: str, out: str, first: int | None, changes: tuple[str, ...]) -> int:
    """Train both stages with the parameters of a YAML file; ends with weights as MAGVIT.from_pretrained reads them."""
    from trajvit.running.parameters import read_parameters
    from trajvit.running.stations import make_data, train_magvit
    from trajvit.training import processes
    from trajvit.training.devices import pick_device

    settings = read_parameters(parameters, list(changes))
    processes.join()
    pick_device(settings.device)
    say = silent if processes.number() else Lines()
    with processes.first_here():
        data = make_data(settings, "train", say)
    train_magvit(settings, data, out, first, say)
    if not processes.number():
        print(f"{out}: trained")
    processes.leave()
    return 0


@commands.command("run")
@click.argument("parameters")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
@click.option("--only", multiple=True, metavar="NN", help="run only this notebook; may be repeated")
@click.option("--out", help="folder of the run, or s3://bucket/prefix; reports/runs/<run id> by default")
@click.option("--sweep", "axes", multiple=True, metavar="NAME=A,B,C", help="a run for each value; repeated, for each combination")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="runs of a sweep at a time")
@click.option("--dry-run", is_flag=True, help="check everything, print the plan, change nothing")
@click.option("--prepare-only", is_flag=True, help="write the notebooks with their parameters, do not run them")
def run_command(
    parameters: str,
    changes: tuple[str, ...],
    only: tuple[str, ...],
    out: str | None,
    axes: tuple[str, ...],
    jobs: int,
    dry_run: bool,
    prepare_only: bool,
) -> int:
    """Run the notebooks with the parameters of a YAML file and render them; run again to continue."""
    from trajvit.running.planning import make_plan
    from trajvit.running.runner import run
    from trajvit.running.sweeps import make_sweep, run_sweep

    if axes and prepare_only:
        raise InputError("--prepare-only is for one run: leave --sweep out")
    if axes or dry_run:
        asked = parameters, list(changes), *([list(axes)] if axes else []), list(only), out
        plan = make_sweep(*asked) if axes else make_plan(*asked)
        if not dry_run:
            return run_sweep(plan, jobs, tell, Lines())
        for line in plan.lines():
            print(line)
        print("dry run: everything is in place, nothing was run or written")
        return 0
    return run(parameters, list(changes), list(only), out, tell, prepare_only)


@commands.command("index")
@click.argument("folder", required=False)
def index_command(folder: str | None) -> int:
    """Write the page of all runs in FOLDER, reports/runs by default."""
    from trajvit.running.overview import write_index
    from trajvit.running.places import RUNS

    print(write_index(Path(folder) if folder else RUNS))
    return 0


@commands.command("compare")
@click.argument("first")
@click.argument("second")
@click.option("--out", help="the page; reports/runs/compare-FIRST-SECOND.html by default")
def compare_command(first: str, second: str, out: str | None) -> int:
    """Compare two runs, given by their folders or their names in reports/runs."""
    from trajvit.running.comparison import compare, page_of
    from trajvit.running.records import find_run

    records = find_run(first), find_run(second)
    page = Path(out) if out else page_of(*records)
    print(compare(*records, page))
    print(page)
    return 0


@commands.command("figures")
@click.argument("runs", nargs=-1, required=True)
def figures_command(runs: tuple[str, ...]) -> int:
    """Print the headline figures of RUNS, given by their folders or their names in reports/runs, and all who predicted beside
    them, as Markdown tables.

    Its columns are called by the runs' varieties, or, where two have the same, as the runs are given.
    """
    from trajvit.evaluation.headlines import headlines
    from trajvit.reporting.tables import figures_table, predictions_table
    from trajvit.running.records import find_run

    records = [find_run(run) for run in runs]
    names = [one.parameters["variety"] for one in records]
    if len(set(names)) < len(names):
        names = list(runs)
    metrics = dict(zip(names, (one.metrics for one in records), strict=True))
    print(figures_table({name: headlines(of_run) for name, of_run in metrics.items()}).markdown())
    print(f"\n{predictions_table(metrics).markdown()}")
    return 0


@commands.command("gif")
@click.argument("checkpoint")
@click.option("--to", required=True, type=click.Path(dir_okay=False, path_type=Path), help="the file")
def gif_command(checkpoint: str, to: Path) -> int:
    """Draw what a trained model makes: test clips, its predictions of them from half of their frames, and clips that it generates."""
    import torch

    from trajvit.datasets.loading import to_frames, to_video
    from trajvit.magvit.model import MAGVIT
    from trajvit.magvit.tasks import given_frames
    from trajvit.reporting.animations import moving_clips
    from trajvit.running.parameters import read_parameters
    from trajvit.running.places import NOTEBOOKS
    from trajvit.running.stations import described, home
    from trajvit.worlds.families import NAMES
    from trajvit.worlds.film import film

    settings = read_parameters(NOTEBOOKS / "params" / "evaluate.yaml", described(_found(checkpoint)))
    model, world = MAGVIT.from_pretrained(home(settings.checkpoint)), settings.world()
    labels = torch.arange(2 * len(NAMES)) % len(NAMES)
    given, real = given_frames(world.frames), film(world, settings.seed, "test", 0, len(labels)).frames
    rows = {
        "real test clips": real,
        f"predicted from the first {given} frames": to_frames(model.predict(to_video(real)[:, :, :given])),
        f"generated: {', '.join(NAMES)}": to_frames(model.generate(labels)),
    }
    write_atomic(to, moving_clips(rows, alt="").gif)
    return 0


@commands.command("evaluate")
@click.argument("checkpoint")
@click.option("--data", help="folder of the datasets train, val and test; made where they are missing")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
@click.option("--out", help="folder of the results; reports/runs/<run id> by default")
def evaluate_command(checkpoint: str, data: str | None, changes: tuple[str, ...], out: str | None) -> int:
    """Evaluate a trained model as notebook 04 does: metrics.json and pages, beside baselines and the oracle."""
    from trajvit.running.parameters import read_parameters
    from trajvit.running.places import NOTEBOOKS, is_bucket
    from trajvit.running.runner import run
    from trajvit.running.stations import described, evaluation_data

    file, own = str(NOTEBOOKS / "params" / "evaluate.yaml"), described(_found(checkpoint))
    if data is None:
        data = evaluation_data(read_parameters(file, own + list(changes)))
    elif not is_bucket(data):
        data = str(Path(data).resolve())
    return run(file, [*own, f"data_dir={json.dumps(data)}", *changes], ["04"], out, tell)


def _found(checkpoint: str) -> str:
    """A checkpoint as parameters name it: what lies here by its whole path, since others are looked for below the repository."""
    from trajvit.magvit.published import published

    return str(Path(checkpoint).resolve()) if checkpoint not in published() and Path(checkpoint).exists() else checkpoint


commands.add_command(ec2)
commands.add_command(bench)
