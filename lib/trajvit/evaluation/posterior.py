"""What is known of a clip after its first frames: weighted samples of its family and of its future."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, Int

from trajvit.evaluation.sightings import SightingError
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, NAMES, frame_times, priors_as_arrays
from trajvit.worlds.film import optics
from trajvit.worlds.likelihood import share_kept
from trajvit.worlds.medians import geometric_median

KEPT_DRAWS = 200_000


@dataclass(frozen=True)
class Scene:
    """A world as the compiled functions of `trajvit.worlds` take it, with the errors of sightings in it.

    times (T,) s; priors (families, parameters, 3) as `priors_as_arrays`; optics (6,) as `families.trace`; errors (2,) px;
    kept (families,), the share of each family's draws in which the whole ball is in view: the others are drawn again.
    """

    times: Float64[np.ndarray, " T"]
    priors: Float64[np.ndarray, "K P 3"]
    optics: Float64[np.ndarray, "6"]
    noise_m: float
    roll_turns: float
    errors: Float64[np.ndarray, "2"]
    kept: Float64[np.ndarray, " K"]


@cache
def set_scene(world: WorldConfig, error: SightingError, seed: int) -> Scene:
    """The scene of a world. Raises `InputError` where a family is hardly ever in view."""
    times, priors, lens, roll = (
        frame_times(world.frames),
        priors_as_arrays(world.variety),
        optics(world),
        world.roll_degrees / 360,
    )
    kept = np.array(
        [share_kept(label, priors[label], times, lens, world.noise_m, roll, KEPT_DRAWS, seed) for label in range(len(FAMILIES))]
    )
    if kept.min() == 0:
        raise InputError(
            f"in {KEPT_DRAWS} draws no {NAMES[int(kept.argmin())]} path kept the whole ball inside a {world.height}x{world.width} "
            "frame: lower ball_radius_m or noise_m, or use a squarer frame"
        )
    return Scene(times, priors, lens, world.noise_m, roll, np.array([error.centre_px, error.radius_px]), kept)


@dataclass(frozen=True)
class Weighted:
    """Weighted samples of one clip: log_weights (M,), the families (M,), the future centres (M, T - given, 2) in px.

    The sum of a family's weights estimates its likelihood, up to a factor that all families of the clip share.
    """

    log_weights: Float64[np.ndarray, " M"]
    labels: Int[np.ndarray, " M"]
    futures: Float64[np.ndarray, "M A 2"]

    @property
    def effective(self) -> float:
        """Kish's effective number of samples."""
        if not self.log_weights.size:
            return 0.0
        weights = np.exp(self.log_weights - self.log_weights.max())
        return float(weights.sum() ** 2 / (weights**2).sum())


Infer = Callable[[Scene, Float64[np.ndarray, "N k 3"], int], Iterator[Weighted]]


@dataclass(frozen=True)
class Posterior:
    """What is known of N clips after some frames: class_probabilities (N, K); of the noisy ball centres (u, v) in px of the
    A frames ahead the mean and the geometric median, both (N, A, 2), and draws (N, S, A, 2), equally likely and in no
    order; effective (N,), how many independent samples this rests on."""

    class_probabilities: Float64[np.ndarray, "N K"]
    mean: Float64[np.ndarray, "N A 2"]
    median: Float64[np.ndarray, "N A 2"]
    draws: Float32[np.ndarray, "N S A 2"]
    effective: Float64[np.ndarray, " N"]


def summarize(weighted: Iterator[Weighted], draws: int, seed: int) -> Posterior:
    """The posterior of every clip from its weighted samples, with `draws` equally likely ones of them."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    return Posterior(*(np.stack(column) for column in zip(*(_one(clip, draws, rng) for clip in weighted), strict=True)))


def _one(clip: Weighted, draws: int, rng: np.random.Generator):
    """The row of one clip in each array of `Posterior`."""
    share = np.exp(clip.log_weights - clip.log_weights.max())
    share /= share.sum()
    heavy = share > 1e-9 / share.size
    share, labels, futures = share[heavy], clip.labels[heavy], clip.futures[heavy]
    mean = np.einsum("m,mac->ac", share, futures)
    median = mean.copy()
    for ahead in range(len(median)):
        geometric_median(np.ascontiguousarray(futures[:, ahead]), share, median[ahead])
    # Systematic resampling: one draw in each of `draws` equal shares of the weights.
    chosen = np.searchsorted(np.cumsum(share), (np.arange(draws) + rng.random()) / draws).clip(max=share.size - 1)
    return (
        np.bincount(labels, share, minlength=len(FAMILIES)),
        mean,
        median,
        futures[rng.permutation(chosen)].astype(np.float32),
        np.float64(1 / (share**2).sum()),
    )
