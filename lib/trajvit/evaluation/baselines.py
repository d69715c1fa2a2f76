"""Predictions without a network; every result stands beside them.

A predictor of frames takes (frames, given) to frames of the same shape, a predictor of centres to the ball's centres
(N, T, 2) in px in all frames; both look at the first `given` frames alone and give back what these show.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trajvit.datasets.loading import TrainingClips
from trajvit.metrics.centres import Balls, ball_centres, find_balls
from trajvit.metrics.neighbours import nearest
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES, frame_times
from trajvit.worlds.fitting import Law, fit_law, law_of

Frames = UInt8[np.ndarray, "N T H W C"]
Centres = Float[np.ndarray, "N T 2"]
FramePredictor = Callable[[UInt8[np.ndarray, "N T H W C"], int], UInt8[np.ndarray, "N T H W C"]]
CentrePredictor = Callable[[UInt8[np.ndarray, "N T H W C"], int], Float[np.ndarray, "N T 2"]]

# How well a ball's centre and its radius are found in a rendered frame, px (standard deviations; the radius with its
# bias), and the standard deviation of a parameter spread evenly over its range, in ranges.
FOUND_PX, FOUND_RADIUS_PX = 0.02, 0.016
EVEN = 12**-0.5
CHUNK = 1024


def blank(frames: Frames) -> Frames:
    """Black clips."""
    return np.zeros_like(frames)


def copy_last(frames: Frames, given: int) -> Frames:
    """The last of the first `given` frames, for ever after."""
    copied = frames.copy()
    copied[:, given:] = frames[:, given - 1 : given]
    return copied


def centres_of(predict: FramePredictor) -> CentrePredictor:
    """The balls that a predictor of frames draws."""
    return lambda frames, given: ball_centres(predict(frames, given))[0]


def constant_velocity(frames: Frames, given: int) -> Centres:
    """The ball goes on as between the last two of the given frames, as far as the border."""
    return _extrapolate(frames, given, terms=2)


def constant_acceleration(frames: Frames, given: int) -> Centres:
    """The ball goes on along the parabola through its last three places, as far as the border."""
    return _extrapolate(frames, given, terms=3)


def _extrapolate(frames: Frames, given: int, terms: int) -> Centres:
    """The polynomial through the last `terms` given centres. Raises `InputError` where fewer are given."""
    if given < terms:
        raise InputError(f"{given} frames were given; this extrapolation needs {terms}")
    centres, _ = ball_centres(frames[:, :given])
    ahead = np.arange(1, frames.shape[1] - given + 1)
    powers = np.vander(np.arange(1 - terms, 1), terms)
    future = np.vander(ahead, terms) @ np.linalg.inv(powers)  # (T - given, terms)
    return continued(centres, np.einsum("fk,nkd->nfd", future, centres[:, -terms:]), frames)


def continued(centres: Float[np.ndarray, "N given 2"], future: Float[np.ndarray, "N ahead 2"], frames: Frames) -> Centres:
    """Found and predicted centres together; no ball leaves the frame, as all know who have seen a few clips."""
    border = np.array([frames.shape[3], frames.shape[2]]) - 1
    return np.concatenate([centres, np.clip(future, 0, border)], axis=1)


@dataclass(frozen=True)
class LawExtrapolation:
    """Of each family the path that fits the given balls best, by least squares with the priors' ranges as bounds; of
    these the one with the least cost goes on.

    It knows the world as the oracle does, but picks one answer where the posterior would average.
    """

    config: WorldConfig
    laws: tuple[Law, ...]

    @classmethod
    def of(cls, config: WorldConfig) -> "LawExtrapolation":
        return cls(config, tuple(law_of(config, label) for label in range(len(NAMES))))

    def __call__(self, frames: UInt8[np.ndarray, "N T H W C"], given: int) -> Float[np.ndarray, "N T 2"]:
        balls, camera = find_balls(frames[:, :given]), self.config.camera
        seen = np.concatenate([balls.centres, balls.radius[..., None]], axis=-1)
        path_px = self.config.noise_m * camera.focal_px / camera.REFERENCE_M
        weight = 1 / np.hypot(FOUND_PX, path_px), 1 / FOUND_RADIUS_PX
        fits = [fit_law(law, seen, weight, ridge=1 / EVEN) for law in self.laws]
        paths = np.stack([fit.image(frame_times(self.config.frames))[..., :2] for fit in fits], axis=1)  # (N, laws, T, 2)
        best = np.argmin([fit.cost for fit in fits], axis=0)
        return continued(balls.centres, paths[np.arange(len(frames)), best, given:], frames)


@dataclass(frozen=True)
class NearestNeighbour:
    """The future of the training clip whose ball came most alike to its last given place, moved to this ball's place.

    `found` (K, T, 2) are the centres found in the training clips, `pixels` (K, T, 2) the true ones, in px. Clips whose
    ball was in other places are worth more than they cost: unmoved neighbours err twice as much.
    """

    found: Float[np.ndarray, "K T 2"]
    pixels: Float[np.ndarray, "K T 2"]

    def __call__(self, frames: UInt8[np.ndarray, "N T H W C"], given: int) -> Float[np.ndarray, "N T 2"]:
        centres, _ = ball_centres(frames[:, :given])
        last, known_last = centres[:, -1:], self.found[:, given - 1 : given]
        _, row = nearest(
            (centres - last).reshape(len(centres), -1), (self.found[:, :given] - known_last).reshape(len(self.found), -1)
        )
        return continued(centres, self.pixels[row, given:] - known_last[row] + last, frames)


def balls_of(clips: TrainingClips) -> Balls:
    """The balls found in all clips, a thousand of them in memory at a time."""
    parts = [find_balls(clips.levels(rows).movedim(1, -1).contiguous().numpy()) for rows in torch.arange(len(clips)).split(CHUNK)]
    return Balls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("centres", "radius", "count")))
