"""The command line of measurements. What needs torch is imported inside the commands."""

import click

from trajvit.datasets.generator import generate
from trajvit.running.lines import Lines


@click.group()
def bench() -> None:
    """Measure this machine, or the recipe; each prints one JSON line."""


@bench.command("generate")
@click.option("--samples", default=1_000_000, show_default=True, help="clips written to disk, several times over")
def bench_generate_command(samples: int) -> None:
    """How fast clips are made, in memory and on disk, against a plain loop and against filling memory."""
    from trajvit.running.bench import bench_generate

    _print_json(bench_generate(samples))


@bench.command("train")
def bench_train_command() -> None:
    """How fast both stages learn, nano and small, and what share of the machine's peak that is."""
    from trajvit.running.bench_model import bench_train

    _print_json(bench_train())


@bench.command("decode")
def bench_decode_command() -> None:
    """How fast clips are decoded in 12 steps, against token by token."""
    from trajvit.running.bench_model import bench_decode

    _print_json(bench_decode())


@bench.command("ablate")
@click.option("--samples", default=2000, show_default=True, help="training clips")
@click.option("--eval-samples", default=200, show_default=True, help="clips of the val stream")
@click.option("--variety", type=click.Choice(["textbook", "varied"]), default="textbook", show_default=True)
@click.option("--tokenizer-steps", default=120, show_default=True)
@click.option("--transformer-steps", default=160, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="trainings a variation, 2 to 10")
@click.option("--out", default="data/ablations", show_default=True, help="folder of the clips and trainings; it resumes")
@click.option("--to", default="reports/ablations.json", show_default=True, help="the file that notebook 03 shows")
def bench_ablate_command(samples: int, eval_samples: int, variety: str, out: str, to: str, **budget) -> None:
    """What each part of the recipe is worth: equal budgets, one change each, several seeds."""
    from trajvit.evaluation.ablations import Budget, ablate, write_ablations
    from trajvit.running.places import place

    chosen, root, say = Budget(**budget), place(out), Lines()
    train = generate(out=root / "train", samples=samples, variety=variety, on_progress=say)
    val = generate(out=root / "val", samples=eval_samples, variety=variety, split="val", on_progress=say)
    found = ablate(chosen, train, val, root / "trainings", say)
    write_ablations(place(to), chosen, train, found)
    _print_json({f"{row.group}: {row.name}": {name: row.mean(name) for name in row.metrics} for row in found})


def _print_json(measured: dict) -> None:
    import json

    print(json.dumps(measured))
