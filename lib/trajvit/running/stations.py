"""The stations of a run, each one call from the parameters; what is finished already is loaded, not made again."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from trajvit.datasets.folders import open_folder
from trajvit.datasets.generator import generate, plan
from trajvit.datasets.labour import at_once
from trajvit.datasets.loading import load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset, ImportedConfig, open_dataset, read_config
from trajvit.evaluation.autoregressive import AutoregressiveConfig, train_autoregressive
from trajvit.evaluation.baselines import (
    LawExtrapolation,
    NearestNeighbour,
    balls_of,
    centres_of,
    constant_acceleration,
)
from trajvit.evaluation.evaluation import Beside
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.oracle import bayes_limit, oracle_by_frames
from trajvit.evaluation.perceptron import PerceptronConfig, train_perceptron
from trajvit.evaluation.pixel_predictors import KINDS as PIXEL_PREDICTORS
from trajvit.evaluation.pixel_predictors import PixelPredictorConfig, train_pixel_predictor
from trajvit.evaluation.scores import TRIVIAL
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.published import located, published
from trajvit.magvit.tasks import given_frames
from trajvit.running.launching import train_in_processes
from trajvit.running.parameters import PUBLISHED, Parameters
from trajvit.running.places import is_bucket, place
from trajvit.settings import InputError
from trajvit.training.devices import pick_device
from trajvit.training.recipe import Recipe, Trained, train
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.streams import SPLITS

AFTER = "autoregressive"
# What to do about a checkpoint's training.json that cannot be used.
RESTORE = "restore it, or remove it to evaluate on the clips that the parameters name"


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
    samples: int | None = None,
    on_progress: Listener = silent,
) -> Trained:
    """MAGVIT trained on the first `samples` clips of `dataset` (all by default), in the run's folder by default, in as many
    processes as the parameters say."""
    out = parameters.run / "magvit" if out is None else out
    if parameters.processes > 1:
        train_in_processes(parameters, samples or len(dataset), out, on_progress)
    return train(parameters.recipe(), dataset, out, samples, on_progress)


def evaluated(parameters: Parameters, on_progress: Listener = silent) -> tuple[str, MAGVIT, Recipe, Dataset]:
    """The MAGVIT of `checkpoint` with its name, which is empty for the run's own, its recipe, and the clips it was trained on,
    for its rivals to be trained on too.

    Where a checkpoint does not say which clips those were, or they are of another world than the run's, they are the run's.
    """
    name = chosen_checkpoint(parameters)
    dataset = make_data(learnt_from(parameters, name), "train", on_progress)
    if not name:
        return name, train_magvit(parameters, dataset, on_progress=on_progress).model, parameters.recipe(), dataset
    model = MAGVIT.from_pretrained(home(name)).to(pick_device(parameters.device))
    return name, model, Recipe(**_recipe_told(name)), dataset


def learnt_from(parameters: Parameters, name: str) -> Parameters:
    """The parameters that make the clips of which the MAGVIT of that name learnt: the run's own, or those of the checkpoint."""
    clips = _training_clips(name) if name else {}
    known = "seed" in clips and clips["variety"] == parameters.variety
    if not known or (clips["seed"], clips["samples"]) == (parameters.seed, parameters.samples):
        return parameters
    own = parameters.model_copy(update=clips)
    return own.model_copy(update={"data_dir": evaluation_data(own)})


def chosen_checkpoint(parameters: Parameters) -> str:
    """The checkpoint that notebook 04 evaluates, empty for the run's own. Raises `InputError` for a model of other clips."""
    asked, world = parameters.checkpoint, "x".join(map(str, parameters.world().shape))
    if asked == PUBLISHED:
        fitting = {"format": world, "variety": parameters.variety}
        return next((name for name in published() if fitting.items() <= _training_clips(name).items()), "")
    if asked and (takes := _training_clips(asked)["format"]) != world:
        raise InputError(f"{asked} takes clips of {takes}, and the data's are {world}: set format or name another checkpoint")
    return asked


def described(checkpoint: str) -> list[str]:
    """The `name=value` changes of parameters with which a checkpoint was trained and its own kind of clips is made: its
    `training.json` says which, or, where there is none, its config the format alone. Raises `InputError` for what is no
    checkpoint."""
    changes = _recipe_told(checkpoint) | {"checkpoint": checkpoint} | _training_clips(checkpoint)
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def _training_clips(checkpoint: str) -> dict[str, str | int]:
    """The parameters of the clips that a checkpoint was trained on, as far as it tells. Raises `InputError`."""
    shape = MAGVIT.from_pretrained(home(checkpoint)).config.tokenizer
    clips = {"format": "x".join(map(str, (*shape.clip, shape.channels)))}
    data = _training(checkpoint).get("data", {})
    if data.get("kind") == "filmed":
        try:
            clips |= {"variety": data["world"]["variety"], "seed": data["seed"], "samples": data["samples"]}
            told = {"split": data["split"]} | data["world"]
        except (KeyError, TypeError):
            raise InputError(f"{home(checkpoint)}/training.json does not tell its clips: {RESTORE}") from None
        ours = {"split": "train"} | WorldConfig.named(clips["format"], variety=clips["variety"]).model_dump(mode="json")
        if others := [f"{name} = {value!r}" for name, value in told.items() if value != ours.get(name)]:
            raise InputError(
                f"{home(checkpoint)} learnt from clips of {', '.join(others)}; runs film train clips of the worlds as they are by "
                "default: name a model that learnt from such"
            )
    return clips


def home(checkpoint: str) -> str:
    """Where a checkpoint lies: a folder, below the repository unless absolute, or a place in a bucket."""
    where = str(located(checkpoint))
    return where if is_bucket(where) else str(place(where))


def _recipe_told(checkpoint: str) -> dict:
    """What a checkpoint tells of its recipe, by the names that there are now."""
    return {name: value for name, value in _training(checkpoint).get("recipe", {}).items() if name in Recipe.model_fields}


def _training(checkpoint: str) -> dict:
    """What a checkpoint tells of its training, in `training.json`; nothing where there is none. Raises `InputError` for a
    damaged one."""
    try:
        told = json.loads(open_folder(home(checkpoint)).read("training.json") or b"{}")
    except ValueError as error:
        raise InputError(f"{home(checkpoint)}/training.json cannot be read ({error}): {RESTORE}") from None
    if not isinstance(told, dict) or not all(isinstance(told.get(part, {}), dict) for part in ("data", "recipe")):
        raise InputError(f"{home(checkpoint)}/training.json does not tell of a training: {RESTORE}")
    return told


def evaluation_data(parameters: Parameters) -> str:
    """Where the clips of an evaluation are kept unless it is told: those of other parameters are kept elsewhere."""
    shape = "x".join(map(str, parameters.world().shape))
    told = (shape, parameters.variety, parameters.seed, parameters.samples, parameters.eval_samples)
    return f"data/evaluation/{'-'.join(map(str, told))}"


def independent_judge(parameters: Parameters, dataset: Dataset, on_progress: Listener = silent) -> VideoClassifier:
    """The 3-D CNN on pixels that judges what is generated, trained on `dataset`."""
    config = JudgeConfig(steps=parameters.judge_steps, seed=parameters.seed)
    return train_judge(config, dataset, parameters.run / "judge", on_progress=on_progress)


def stand_beside(
    parameters: Parameters, model: MAGVIT, recipe: Recipe, train: Dataset, test: Dataset, on_progress: Listener = silent
) -> Beside:
    """What `model` is held against on the clips of `test`: rivals, trained on `train`, whose clips it learnt by `recipe`, and
    what can be known of the clips, where their world is known."""
    if str(train.root) != str(parameters.data("train")):  # other clips than those of the run, and of notebook 02's judge
        parameters = parameters.model_copy(update={"run_dir": f"{parameters.run_dir}/rivals"})
    run, world, clips = parameters.run, known_world(test), test.read()
    learnt = {"balls": lambda _: balls_of(recipe.learnt(load_clips(train)))}
    limits = oracle_by_frames(clips, world, run / "oracle") if world else {}
    made = at_once("beside", _rivals(parameters, model, recipe, train) | limits | learnt, len(train), on_progress)
    found = made["balls"].centres[:: recipe.views]  # in the clips themselves, of which each is its own first view
    on_pixels = {kind: made[kind] for kind in PIXEL_PREDICTORS if kind in made}
    laws = {"law_extrapolation": LawExtrapolation.of(train.config.world)} if known_world(train) else {}
    known = {made[name].given: made[name] for name in limits}
    return Beside(
        judge=made["judge"],
        cnns=[made["cnn"], made["cnn of half"]],
        learnt=made["balls"],
        predictors=TRIVIAL
        | {"constant_acceleration": constant_acceleration}
        | {kind: centres_of(predictor) for kind, predictor in on_pixels.items()}
        | {"nearest_neighbour": NearestNeighbour(found, train.array("pixels")), "perceptron": made["perceptron"]}
        | laws,
        pixel_steps={kind: predictor.steps for kind, predictor in on_pixels.items()},
        generators={AFTER: partial(made[AFTER].generate, seed=parameters.seed)} if AFTER in made else {},
        world=world,
        known=known.get(given_frames(clips.frames.shape[1])),
        bayes=bayes_limit(known.values(), clips.label),
    )


def _rivals(parameters: Parameters, model: MAGVIT, recipe: Recipe, train: Dataset) -> dict[str, Callable[[Listener], Any]]:
    """What trains each network that `model`, which learnt by `recipe`, is held against, those that take longest first.

    From pixels: predictors of frames, the judge, and beside it other CNNs, of another seed, of all the frames and of half of
    them. From the places of the balls a perceptron. From the model's tokens what generates them one after the other.
    """
    run, seed, whole = parameters.run, parameters.seed, train.config.world.frames
    half, judge = given_frames(whole), JudgeConfig(steps=parameters.judge_steps, seed=seed + 1)
    calls = {}
    if parameters.pixel_steps:
        for kind in PIXEL_PREDICTORS:
            config = PixelPredictorConfig(kind=kind, steps=parameters.pixel_steps, seed=seed)
            calls[kind] = partial(train_pixel_predictor, config, recipe, train, half, run / kind)
    if parameters.autoregressive_steps:
        config = AutoregressiveConfig(
            steps=parameters.autoregressive_steps,
            batch_size=recipe.transformer_batch,
            learning_rate=recipe.learning_rate,
            seed=seed,
        )
        calls[AFTER] = partial(train_autoregressive, config, recipe, model, train, run / AFTER)
    perceptron = PerceptronConfig(steps=parameters.rival_steps, seed=seed, mirrored=recipe.mirrored)
    return calls | {
        "judge": partial(independent_judge, parameters, train),
        "cnn": partial(train_judge, judge, train, run / f"pixel_classifier_{whole}", given=whole),
        "cnn of half": partial(train_judge, judge, train, run / f"pixel_classifier_{half}", given=half),
        "perceptron": partial(train_perceptron, perceptron, train, half, run / "perceptron"),
    }


def known_world(dataset: Dataset) -> WorldConfig | None:
    """The world in which a dataset was filmed; None for imported clips."""
    return None if isinstance(dataset.config, ImportedConfig) else dataset.config.world
