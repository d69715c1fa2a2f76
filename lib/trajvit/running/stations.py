"""The stations of a run, each one call from the parameters; what is finished already is loaded, not made again."""

from pathlib import Path

from trajvit.datasets.generator import generate, plan
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.evaluation.judge import Judge, JudgeConfig, train_judge
from trajvit.running.parameters import Parameters
from trajvit.training.recipe import Recipe, Trained, train
from trajvit.worlds.streams import SPLITS


def make_data(parameters: Parameters, split: str, on_progress: Listener = silent) -> Dataset:
    """The dataset of a split: `samples` clips of train, `eval_samples` of val and test."""
    return generate(**_dataset(parameters, split), on_progress=on_progress)


def check_data(parameters: Parameters) -> None:
    """Raise `InputError` where a dataset's folder holds something else than what the parameters ask for."""
    for split in SPLITS:
        plan(**_dataset(parameters, split))


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


def train_rung(parameters: Parameters, dataset: Dataset, samples: int, on_progress: Listener = silent) -> Trained:
    """MAGVIT trained on the first `samples` clips of `dataset`, at the ladder's compute."""
    steps = {"tokenizer_steps": parameters.ladder_tokenizer_steps, "transformer_steps": parameters.ladder_transformer_steps}
    recipe = Recipe(**parameters.recipe().model_dump() | steps)
    return train(recipe, dataset, parameters.run / "ladder" / str(samples), samples, on_progress)


def independent_judge(parameters: Parameters, dataset: Dataset, on_progress: Listener = silent) -> Judge:
    """The 3-D CNN on pixels, trained on `dataset`."""
    config = JudgeConfig(steps=parameters.judge_steps, seed=parameters.seed)
    return train_judge(config, dataset, parameters.run / "judge", on_progress=on_progress)
