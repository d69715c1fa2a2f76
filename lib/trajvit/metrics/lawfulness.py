"""Does the ball of a clip obey the law of its family?"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from trajvit.metrics.centres import find_balls
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES, frame_times
from trajvit.worlds.fitting import Fit, Law, fit_law, law_of

# A lawful path leaves at most this share of the frame's shorter side: 0.5 px of 32.
TOLERANCE = 1 / 64


@dataclass(frozen=True)
class Lawfulness:
    """How near each clip's ball keeps to the nearest path of its family.

    `residual` is the root of the mean over frames of the squared distance, in px, between the found centre and the
    fitted path; `single` whether every frame shows one ball; `lawful` both that and a residual within `limit_px`.
    `path` are the fitted centres (u, v) of all frames in px; `fits` holds, for each family, its clips' rows and their
    fit.
    """

    residual: Float[np.ndarray, " N"]
    single: Bool[np.ndarray, " N"]
    lawful: Bool[np.ndarray, " N"]
    limit_px: float
    path: Float[np.ndarray, "N T 2"]
    fits: tuple[tuple[Int[np.ndarray, " rows"], Fit], ...]

    def curves(self, points: int = 100) -> Float[np.ndarray, "N points 2"]:
        """The fitted paths as (u, v) in px at evenly spread times, for drawing."""
        return _images(self.fits, len(self.residual), np.linspace(0, 1, points))


def lawfulness(
    config: WorldConfig, frames: UInt8[np.ndarray, "N T H W C"], labels: Int[np.ndarray, " N"], tolerance: float = TOLERANCE
) -> Lawfulness:
    """Fit the equation of family `labels[i]`, seen through the world's camera, to the centres of light of clip i.

    The parameters and the roll of the camera are free within their priors' ranges. A frame without a ball enters as a
    guess at its middle, and the clip is not lawful. `tolerance` is the greatest lawful residual as a share of the
    frame's shorter side. Raises `InputError` for frames of another shape than the world's and for unknown labels.
    """
    if frames.shape[1:] != config.shape:
        raise InputError(f"clips of shape {frames.shape[1:]} were given for a world of {config.shape}: give that world's clips")
    if len(labels) != len(frames) or not np.isin(labels, np.arange(len(NAMES))).all():
        raise InputError(
            f"{len(labels)} labels {np.unique(labels)} were given for {len(frames)} clips: one in 0..{len(NAMES) - 1} each"
        )
    balls = find_balls(frames)
    limit = tolerance * min(config.height, config.width)
    seen = np.concatenate([balls.centres, balls.radius[..., None]], axis=-1)
    fits = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        # A tenth of the limit is as lawful as can be told from a filmed ball with its noise: no other start is needed.
        enough = config.frames * (limit / 10) ** 2
        fits.append((rows, fit_law(law(config, int(label)), seen[rows], weight=(1.0, 0.0), enough=enough)))
    path = _images(tuple(fits), len(frames), frame_times(config.frames))
    residual = np.sqrt(((path - balls.centres) ** 2).sum(-1).mean(-1))
    single = (balls.count == 1).all(axis=1)
    return Lawfulness(residual, single, single & (residual < limit), limit, path, tuple(fits))


@lru_cache(maxsize=32)
def law(config: WorldConfig, label: int) -> Law:
    """The law of a family in a world, drawn once."""
    return law_of(config, label)


def _images(fits, count: int, times: Float[np.ndarray, " M"]) -> Float[np.ndarray, "N M 2"]:
    image = np.empty((count, len(times), 2))
    for rows, fit in fits:
        image[rows] = fit.image(times)[..., :2]
    return image
