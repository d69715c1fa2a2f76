"""Clips made from a class alone: are they of that class, lawful, like real ones, as varied, and new?"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from trajvit.datasets.loading import to_frames, to_video
from trajvit.evaluation.baselines import blank
from trajvit.evaluation.measure import BETWEEN_SETS, Metric
from trajvit.evaluation.scores import balls_shown
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.decoding import DecodingConfig
from trajvit.magvit.generation import SAMPLING
from trajvit.magvit.model import MAGVIT
from trajvit.metrics.centres import Balls, find_balls
from trajvit.metrics.distances import beside_floor, frechet_distance, frechet_reach, kernel_distance, mean_over_parts
from trajvit.metrics.diversity import NEIGHBOURS, Diversity, diversity
from trajvit.metrics.lawfulness import Lawfulness, lawfulness
from trajvit.metrics.memorization import CLOSE_PERCENTILE, memorization
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips

Frames = UInt8[np.ndarray, "N T H W C"]
Labels = Int[np.ndarray, " N"]
Generator = Callable[[Labels], Frames]


@dataclass(frozen=True)
class Generation:
    """`laws` is how the clips keep to their families' laws, None where the world is not known."""

    metrics: dict[str, Metric]
    frames: Frames
    labels: Labels
    laws: Lawfulness | None


def score_generation(
    model: MAGVIT,
    judge: VideoClassifier,
    clips: Clips,
    samples: int,
    seed: int = 0,
    decoding: DecodingConfig = SAMPLING,
    world: WorldConfig | None = None,
    learnt: Balls | None = None,
    rivals: Mapping[str, Generator] | None = None,
) -> Generation:
    """Generate `samples` clips, every class in turn, and hold them against the real `clips`, in the same order of classes.

    The judge is the independent 3-D CNN: what it says of real clips is the limit of what it can say of others, and its
    last layer's features are the space of all distances. With `world` the laws are tested, with `learnt`, the balls of
    the clips that it learnt from, whether they were copied. `rivals` generate beside it. Distances that need more samples than
    there are, are left out.
    """
    labels = np.arange(samples) % len(NAMES)
    frames = to_frames(model.generate(torch.from_numpy(labels), seed, decoding))
    others = {name: generate(labels) for name, generate in (rivals or {}).items()}
    metrics = _class_agreement(judge, clips, frames, labels, others) | balls_shown(frames)
    laws = None
    if world is not None:
        laws, real = lawfulness(world, frames, labels), lawfulness(world, clips.frames, clips.label.astype(np.int64))
        lawful = {name: lawfulness(world, made, labels).lawful.astype(float) for name, made in others.items()}
        metrics["lawful"] = Metric.mean(
            laws.lawful.astype(float), "share", {"blank": 0.0} | lawful, float(real.lawful.mean()), more_is_better=True
        )
        metrics["law_residual_px"] = Metric.mean(laws.residual, "px", {}, float(real.residual.mean()))
    metrics |= _distances(judge, clips, frames, labels, others)
    if learnt is not None:
        metrics["near_copies"] = _near_copies(find_balls(frames), find_balls(clips.frames), learnt)
    return Generation(metrics, frames, labels, laws)


def _class_agreement(
    judge: VideoClassifier, clips: Clips, frames: Frames, labels: Labels, others: Mapping[str, Frames]
) -> dict[str, Metric]:
    """Does the judge see the class that was asked for?"""

    def agreement(made: Frames, asked: np.ndarray) -> Float[np.ndarray, " N"]:
        return (judge.classify(to_video(made)).numpy() == asked).astype(float)

    baselines = {"chance": 1 / len(NAMES)} | {name: agreement(made, labels) for name, made in others.items()}
    limit = float(agreement(clips.frames, clips.label).mean())
    return {"class_agreement": Metric.mean(agreement(frames, labels), "share", baselines, limit, more_is_better=True)}


def _distances(
    judge: VideoClassifier, clips: Clips, frames: Frames, labels: Labels, others: Mapping[str, Frames]
) -> dict[str, Metric]:
    """How far the generated clips are from the real ones as a whole, in the judge's features; the limit is how far as many
    real clips are from others. The Fréchet distance has the interval of other draws, where three quarters of one are enough for it."""
    real, made = judge.features(to_video(clips.frames)), judge.features(to_video(frames))
    rivals = {"blank": judge.features(to_video(blank(frames)))} | {
        name: judge.features(to_video(other)) for name, other in others.items()
    }
    metrics, samples = {}, min(len(made), len(real) // 2)
    for name, distance, needed in (
        ("frechet_distance", frechet_distance, real.shape[1] + 1),
        ("kernel_distance", kernel_distance, 2),
    ):
        if samples >= needed:
            found = beside_floor(distance, made, real)
            baselines = {rival: float(mean_over_parts(distance, features, real)) for rival, features in rivals.items()}
            unit = f"{BETWEEN_SETS}{found.samples}"
            metrics[name] = Metric(value=float(found.value), unit=unit, baselines=baselines, limit=float(found.floor))
    if samples * 3 // 4 - len(NAMES) > real.shape[1]:
        reach = {rival: frechet_reach(features, labels, real) for rival, features in rivals.items()}
        metrics["frechet_distance"] = _of_other_draws(metrics["frechet_distance"], frechet_reach(made, labels, real), reach)
    if samples > NEIGHBOURS:
        found, black = beside_floor(diversity, made, real), mean_over_parts(diversity, rivals["blank"], real)
        for name, *of in zip(Diversity._fields, found.value, black, found.floor, strict=True):
            value, blank_value, limit = map(float, of)
            unit = "ratio" if name == "density" else "share"
            metrics[name] = Metric(value=value, unit=unit, baselines={"blank": blank_value}, limit=limit, more_is_better=True)
    return metrics


def _of_other_draws(distance: Metric, reach: float, rivals: Mapping[str, float]) -> Metric:
    """A distance with its 95 % interval and those of its differences to rivals, by how far to either side its own goes and theirs go."""
    differences = {}
    for rival, of_rival in rivals.items():
        apart, either = distance.value - distance.baselines[rival], math.hypot(reach, of_rival)
        differences[rival] = (apart - either, apart + either)
    return Metric(
        **distance.model_dump(exclude={"ci95", "differences"}),
        ci95=(max(distance.value - reach, 0.0), distance.value + reach),
        differences=differences,
    )


def _near_copies(made: Balls, held_out: Balls, learnt: Balls) -> Metric:
    """The share of generated clips that are nearer to a clip that was learnt from than all but 1 % of the real clips are, by the
    places and sizes of the ball in all frames."""
    found = memorization(*(_path(balls) for balls in (made, held_out, learnt)))
    return Metric.mean(found.closer.astype(float), "share", {"copies": 1.0}, CLOSE_PERCENTILE / 100)


def _path(balls: Balls) -> Float[np.ndarray, "N D"]:
    return np.concatenate([balls.centres, balls.radius[..., None]], axis=-1).reshape(len(balls.centres), -1)
