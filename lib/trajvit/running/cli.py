"""The command line. Exit codes: 0 done, 1 failed, 2 bad arguments or parameters, 3 NO-GO, 75 interrupted and resumable.

Modules that import torch are imported inside their commands, so that making data starts at once.
"""

import sys
import time

import click

from trajvit.datasets.generator import generate
from trajvit.datasets.progress import Progress
from trajvit.datasets.verification import verify
from trajvit.settings import InputError
from trajvit.worlds.streams import SPLITS

LINE_EVERY_S = 2.0


def main(arguments: list[str]) -> int:
    """Run one command; the exit code. What is wrong is said in one line on stderr."""
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
        print("trajvit: interrupted; the same command continues", file=sys.stderr)
        return 75
    except (OSError, ArithmeticError) as error:
        print(f"trajvit: {' '.join(str(error).split())}; what is finished is kept, the same command continues", file=sys.stderr)
        return 1


class Lines:
    """Prints progress as plain lines, at most one every few seconds and one at each end."""

    def __init__(self):
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.state != "running" or time.monotonic() - self.last >= LINE_EVERY_S:
            self.last = time.monotonic()
            print(progress, file=sys.stderr, flush=True)


@click.group()
def commands() -> None:
    """trajvit: balls on 3-D trajectories, MAGVIT, and the best that any model could do."""


@commands.command("generate")
@click.option("--out", required=True, help="folder of the dataset; run again to resume")
@click.option("--samples", default=1200, show_default=True)
@click.option("--format", default="compact", show_default=True, help="compact, classic or TxHxWxC")
@click.option("--variety", default="textbook", show_default=True, type=click.Choice(["textbook", "varied"]))
@click.option("--split", default="train", show_default=True, type=click.Choice(SPLITS))
@click.option("--seed", default=0, show_default=True)
@click.option("--shard-size", type=int, help="samples in a shard; 16 MiB of frames by default")
@click.option("--size", default="perspective", show_default=True, type=click.Choice(["perspective", "constant"]))
@click.option("--ball-radius-m", default=0.23, show_default=True)
@click.option("--noise-m", default=0.004, show_default=True, help="noise on the path, metres; 0 for none")
@click.option("--roll-degrees", default=15.0, show_default=True, help="roll of the camera, either way; 0 for none")
def generate_command(**options) -> int:
    """Make a dataset, or finish it."""
    dataset = generate(on_progress=Lines(), **options)
    print(f"{dataset.root}: {len(dataset)} clips, config {dataset.config.hash}")
    return 0


@commands.command("verify")
@click.argument("dataset")
@click.option("--repair", is_flag=True, help="make damaged shards again")
def verify_command(dataset: str, repair: bool) -> int:
    """Re-read a dataset and compare every file with its recorded sha256."""
    found = verify(dataset, repair)
    print(f"{dataset}: {found}")
    return 0 if found.sound else 1


@commands.command("train")
@click.argument("parameters")
@click.option("--out", required=True, help="folder of the model; run again to resume")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
def train_command(parameters: str, out: str, changes: tuple[str, ...]) -> int:
    """Train both stages with the parameters of a YAML file; ends with weights as MAGVIT.from_pretrained reads them."""
    from trajvit.running.parameters import read_parameters
    from trajvit.running.stations import make_data, train_magvit

    settings = read_parameters(parameters, list(changes))
    train_magvit(settings, make_data(settings, "train", Lines()), out, on_progress=Lines())
    print(f"{out}: trained")
    return 0


@commands.command("run")
@click.argument("parameters")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
@click.option("--only", multiple=True, metavar="NN", help="run only this notebook; may be repeated")
@click.option("--out", help="folder of the run; reports/runs/<run id> by default")
def run_command(parameters: str, changes: tuple[str, ...], only: tuple[str, ...], out: str | None) -> int:
    """Run the notebooks with the parameters of a YAML file and render them."""
    from trajvit.running.runner import run

    return run(parameters, list(changes), list(only), out, say=lambda line: print(line, flush=True))
