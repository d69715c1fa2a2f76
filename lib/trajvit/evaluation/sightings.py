"""Where and how large the ball is in the rendered frames, and how far off such a reading is."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8

from trajvit.metrics.centres import ball_centres
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.disc_fitting import fit_discs
from trajvit.worlds.discs import EDGE_PX
from trajvit.worlds.film import film
from trajvit.worlds.streams import MAX_SEED

MEASURED_CLIPS = 2000
CHUNK = 256
# A start for the fit has at least this radius in px.
SMALLEST_PX = 0.5


@dataclass(frozen=True)
class SightingError:
    """Standard deviation in px of one coordinate of a centre and of a radius, as read off a frame."""

    centre_px: float
    radius_px: float


def sight(frames: UInt8[np.ndarray, "N T H W C"]) -> Float64[np.ndarray, "N T 3"]:
    """The ball's centre and radius (u, v, radius) in px in every frame.

    `ball_centres` finds the ball to about 0.013 px in a 32x32 frame, and all its light tells its radius; the renderer's
    own disc is then fitted to the pixels, which is 25 times sharper: as much as 8 bits of brightness let anybody know.
    Raises `InputError` for a frame without a ball.
    """
    discs = np.empty((*frames.shape[:2], 3))
    for start in range(0, len(frames), CHUNK):
        some = frames[start : start + CHUNK]
        centres, found = ball_centres(some)
        if not found.all():
            clip, frame = np.argwhere(~found)[0]
            raise InputError(
                f"frame {frame} of clip {start + clip} shows no ball; the oracle knows real clips only: give it what film() made"
            )
        light = some.max(axis=-1).sum(axis=(2, 3), dtype=np.float64) / 255
        # Light of a disc with a smoothstep edge E wide: pi (r^2 + E^2 / 20).
        radius = np.sqrt(np.maximum(light / np.pi - EDGE_PX**2 / 20, SMALLEST_PX**2))
        discs[start : start + CHUNK] = np.concatenate([centres, radius[..., None]], axis=-1)
    fit_discs(frames, discs)
    return discs


@cache
def measure_sighting_error(world: WorldConfig, seed: int) -> SightingError:
    """How far sightings are off in clips of `world` that are of another stream than any data set's.

    It hardly depends on where the ball is and how large it is (by a tenth over the whole range of depths), so one
    standard deviation will do.
    """
    clips = film(world, MAX_SEED - seed, "val", 0, MEASURED_CLIPS)
    discs = sight(clips.frames)
    return SightingError(float((discs[..., :2] - clips.pixels).std()), float((discs[..., 2] - clips.radius).std()))
