"""The stations of a run, each one call from the parameters; what is finished already is loaded, not made again."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from trajvit.datasets.folders import open_folder
from trajvit.datasets.generator import generate, plan
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset, ImportedConfig, open_dataset, read_config
from trajvit.evaluation.baselines import CentrePredictor, LawExtrapolation, NearestNeighbour
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.oracle import Oracle, oracle
from trajvit.evaluation.perceptron import PerceptronConfig, train_perceptron
from trajvit.evaluation.scores import TRIVIAL
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import given_frames
from trajvit.running.parameters import Parameters
from trajvit.running.places import place
from trajvit.settings import InputError
from trajvit.training.recipe import Recipe, Trained, train
from trajvit.worlds.streams import SPLITS


def make_data(parameters: Parameters, split: str, on_progress: Listener = silent) -> Dataset:
    """The dataset of a split, `samples` clips of train and `eval_samples` of val and test: the one that was imported
    there, or else filmed."""
    return _imported(parameters, split) or generate(**_dataset(parameters, split), on_progress=on_progress)


def check_data(parameters: Parameters) -> None:
    """Raise `InputError` where a dataset's folder holds something else than what the parameters ask for, or where two
    datasets were imported from the same samples."""
    shares: dict[tuple[str, str], str] = {}
    for split in SPLITS:
        dataset = _imported(parameters, split)
        if dataset is None:
            plan(**_dataset(parameters, split))
            continue
        config = dataset.config
        for (sha256, share), other in shares.items():
            if config.sha256 == sha256 and (config.share == share or "all" in (config.share, share)):
                raise InputError(
                    f"{other} and {split} in {parameters.data_dir} hold the same imported samples: import each of them with "
                    f"its own share, --share {other} and --share {split}"
                )
        shares[config.sha256, config.share] = split


def _imported(parameters: Parameters, split: str) -> Dataset | None:
    """What was imported into a split's folder, or None; all of it is used.

    Raises `InputError` unless the parameters ask for just these clips in train, and for no more than these in val and
    test, whose shares of a file are not of one size; and where some of it is missing.
    """
    config = read_config(open_folder(parameters.data(split)))
    if not isinstance(config, ImportedConfig):
        return None
    format = "x".join(map(str, config.world.shape))
    changes = []
    if split == "train" and parameters.samples != config.samples:
        changes.append(f"samples={config.samples}")
    if split != "train" and parameters.eval_samples > config.samples:
        changes.append(f"eval_samples={config.samples}")
    if parameters.world().shape != config.world.shape:
        changes.append(f"format={format}")
    if changes:
        raise InputError(f"{parameters.data(split)} holds {config.samples} imported clips of {format}: set {', '.join(changes)}")
    return open_dataset(parameters.data(split))


def _dataset(parameters: Parameters, split: str) -> dict:
    return {
        "out": parameters.data(split),
        "samples": parameters.samples if split == "train" else parameters.eval_samples,
        "format": parameters.format,
        "variety": parameters.variety,
        "split": split,
        "seed": parameters.seed,
    }


def train_magvit(
    parameters: Parameters,
    dataset: Dataset,
    out: str | Path | None = None,
    on_progress: Listener = silent,
) -> Trained:
    """MAGVIT trained on `dataset`, in the run's folder by default."""
    return train(parameters.recipe(), dataset, parameters.run / "magvit" if out is None else out, on_progress=on_progress)


def evaluated_magvit(parameters: Parameters, dataset: Dataset, on_progress: Listener = silent) -> MAGVIT:
    """The MAGVIT of `checkpoint`, or else the one that is trained on `dataset`. Raises `InputError` for one of other clips."""
    if not parameters.checkpoint:
        return train_magvit(parameters, dataset, on_progress=on_progress).model
    model = MAGVIT.from_pretrained(place(parameters.checkpoint))
    shape, world = model.config.tokenizer, dataset.config.world
    if (*shape.clip, shape.channels) != world.shape:
        raise InputError(
            f"{parameters.checkpoint} takes clips of {'x'.join(map(str, (*shape.clip, shape.channels)))}, and the data's are "
            f"{'x'.join(map(str, world.shape))}: set format or name another checkpoint"
        )
    return model


def described(checkpoint: str) -> list[str]:
    """The `name=value` changes of parameters with which a checkpoint's own kind of clips is made: its `training.json`
    says which, or, where there is none, its config the format alone. Raises `InputError` for what is no checkpoint."""
    shape = MAGVIT.from_pretrained(place(checkpoint)).config.tokenizer
    changes = [f"checkpoint={checkpoint}", f"format={'x'.join(map(str, (*shape.clip, shape.channels)))}"]
    manifest = place(checkpoint) / "training.json"
    if manifest.exists() and (data := json.loads(manifest.read_text())["data"])["kind"] == "filmed":
        changes += [f"variety={data['world']['variety']}", f"seed={data['seed']}", f"samples={data['samples']}"]
    kind = "-".join(change.partition("=")[2] for change in changes[1:])
    return [*changes, f"data_dir=data/evaluation/{kind}"]


def train_rung(parameters: Parameters, dataset: Dataset, samples: int, on_progress: Listener = silent) -> Trained:
    """MAGVIT trained on the first `samples` clips of `dataset`, at the ladder's compute."""
    steps = {"tokenizer_steps": parameters.ladder_tokenizer_steps, "transformer_steps": parameters.ladder_transformer_steps}
    recipe = Recipe(**parameters.recipe().model_dump() | steps)
    return train(recipe, dataset, parameters.run / "ladder" / str(samples), samples, on_progress)


def independent_judge(parameters: Parameters, dataset: Dataset, on_progress: Listener = silent) -> VideoClassifier:
    """The 3-D CNN on pixels, trained on `dataset`."""
    config = JudgeConfig(steps=parameters.judge_steps, seed=parameters.seed)
    return train_judge(config, dataset, parameters.run / "judge", on_progress=on_progress)


def rivals(parameters: Parameters, dataset: Dataset, on_progress: Listener = silent) -> dict[str, CentrePredictor]:
    """What predicts the ball's path beside MAGVIT, trained on the same clips; the world's laws only where it is known."""
    given = given_frames(dataset.config.world.frames)
    config = PerceptronConfig(steps=parameters.rival_steps, seed=parameters.seed)
    perceptron = train_perceptron(config, dataset, given, parameters.run / "perceptron", on_progress=on_progress)
    found = TRIVIAL | {"nearest_neighbour": NearestNeighbour.of(dataset), "perceptron": perceptron}
    if isinstance(dataset.config, ImportedConfig):
        return found
    return found | {"law_extrapolation": LawExtrapolation.of(dataset.config.world)}


def known_future(parameters: Parameters, dataset: Dataset) -> Float[np.ndarray, "N ahead 2"] | None:
    """The oracle's centres in px in the second half of the clips, from the first; None where their world is not known."""
    known = _known(parameters, dataset, given_frames(dataset.config.world.frames))
    return known and known.median


def bayes_accuracy(parameters: Parameters, dataset: Dataset) -> float | None:
    """How often the oracle names the family of a whole clip; None where the clips' world is not known."""
    known = _known(parameters, dataset, dataset.config.world.frames)
    return known and float((known.class_probabilities.argmax(1) == dataset.array("label")).mean())


def _known(parameters: Parameters, dataset: Dataset, given: int) -> Oracle | None:
    """What can be known from the first `given` frames; None for imported clips, whose world is not known."""
    if isinstance(dataset.config, ImportedConfig):
        return None
    return oracle(dataset.read(), dataset.config.world, given, cache=parameters.run / "oracle")
