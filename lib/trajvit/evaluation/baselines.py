"""Predictions that need no learning; every result stands beside them."""

import numpy as np
from jaxtyping import Float, UInt8

from trajvit.metrics.centres import ball_centres


def blank(frames: UInt8[np.ndarray, "N T H W C"]) -> UInt8[np.ndarray, "N T H W C"]:
    """Black clips."""
    return np.zeros_like(frames)


def copy_last(frames: UInt8[np.ndarray, "N T H W C"], given: int) -> UInt8[np.ndarray, "N T H W C"]:
    """The last of the first `given` frames, for ever after."""
    copied = frames.copy()
    copied[:, given:] = frames[:, given - 1 : given]
    return copied


def constant_velocity(frames: UInt8[np.ndarray, "N T H W C"], given: int) -> Float[np.ndarray, "N T 2"]:
    """Ball centres (u, v) in px if the ball went on as between the last two of the first `given` frames."""
    centres, _ = ball_centres(frames[:, :given])
    velocity = centres[:, -1] - centres[:, -2]  # (N, 2)
    ahead = np.arange(1, frames.shape[1] - given + 1)[None, :, None]
    return np.concatenate([centres, centres[:, -1:] + velocity[:, None] * ahead], axis=1)
