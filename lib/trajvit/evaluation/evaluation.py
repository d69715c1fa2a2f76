"""The whole evaluation of a model, in one call: all eleven tasks, beside what others reach and what can be reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trajvit.datasets.labour import at_once
from trajvit.datasets.progress import Listener, silent
from trajvit.evaluation.baselines import CentrePredictor
from trajvit.evaluation.futures import Futures, score_futures
from trajvit.evaluation.generation import Generation, Generator, score_generation
from trajvit.evaluation.measure import Metric, Metrics
from trajvit.evaluation.oracle import Oracle
from trajvit.evaluation.scores import (
    TRIVIAL,
    Classification,
    Prediction,
    Reconstruction,
    Tasks,
    partly_shown,
    score_classification,
    score_completion,
    score_prediction,
    score_reconstruction,
    score_task,
)
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.model import MAGVIT
from trajvit.metrics.centres import Balls
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import Clips


@dataclass(frozen=True)
class Beside:
    """What a model is held against.

    The judge of what it generates, other 3-D CNNs as its rivals in classification, rivals in prediction and generation, and
    the balls of the clips that it learnt from, in all their views; for how many steps those rivals learnt that predict pixels.
    Where the world is known: the world itself, what the oracle knows of the clips from the first half of their frames, and how often
    it names their family, by frames seen.
    """

    judge: VideoClassifier
    cnns: Sequence[VideoClassifier]
    learnt: Balls
    predictors: Mapping[str, CentrePredictor] = field(default_factory=lambda: TRIVIAL)
    pixel_steps: Mapping[str, int] = field(default_factory=dict)
    generators: Mapping[str, Generator] = field(default_factory=dict)
    world: WorldConfig | None = None
    known: Oracle | None = None
    bayes: Mapping[int, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """All that was measured of a model, and what it made."""

    reconstruction: Reconstruction
    classification: Classification
    prediction: Prediction
    futures: Futures
    generation: Generation
    tasks: Tasks

    @property
    def metrics(self) -> Metrics:
        return {group: scored.metrics for group, scored in vars(self).items()}


def evaluate(
    model: MAGVIT,
    clips: Clips,
    beside: Beside,
    generated: int,
    futures: int,
    seed: int = 0,
    on_progress: Listener = silent,
) -> Evaluation:
    """Evaluate `model` on held-out `clips`, in the order in which they were filmed.

    `generated` clips are made for generation; of the first `futures` clips the future is drawn ten times. A model whose clips
    are blank or noise is scored like any other.
    """
    median = None if beside.known is None else beside.known.median
    clip = model.config.tokenizer.clip
    tasks = {f"task {task.name}": task for task in partly_shown(clip)}
    # Those that show whole frames are completed from several views; FP's completions are the predictions.
    longest_first = sorted(tasks.items(), key=lambda named: not named[1].shows_frames(clip))
    scores = {  # what takes longest first
        "prediction": lambda _: score_prediction(model, clips, beside.predictors, median),
        "generation": lambda _: score_generation(
            model, beside.judge, clips, generated, seed, world=beside.world, learnt=beside.learnt, rivals=beside.generators
        ),
        "futures": lambda _: score_futures(model, clips, futures, beside.known, seed),
        **{
            name: lambda _, task=task: score_task(model, clips, task, median) for name, task in longest_first if task.name != "FP"
        },
        "classification": lambda _: score_classification(model, clips, beside.cnns, beside.bayes),
        "reconstruction": lambda _: score_reconstruction(model, clips),
    }
    found = at_once("evaluate", scores, len(clips.label), on_progress)
    by_task = {
        task.name: found.pop(name) if name in found else score_completion(clips, task, found["prediction"].frames, median)
        for name, task in tasks.items()
    }
    return Evaluation(tasks=Tasks(by_task), **found)
