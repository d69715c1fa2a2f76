"""Where the ball is in a frame, and how far that is from where it should be."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

# Light below this share of full brightness is haze, not ball; a frame whose brightest pixel is darker shows no ball.
HAZE, FAINTEST = 0.1, 0.25


def ball_centres(
    frames: UInt8[np.ndarray, "N T H W C"],
) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
    """The centre of light (u, v) in px of each frame, and whether there is a ball at all.

    Where there is none the centre of the frame is reported, the best constant guess.
    """
    light = frames.max(axis=-1).astype(np.float64) / 255  # (N, T, H, W)
    found = light.max(axis=(2, 3)) >= FAINTEST
    return _centroids(np.clip(light - HAZE, 0, None) * found[..., None, None]), found


def _centroids(weight: Float[np.ndarray, "N T H W"]) -> Float[np.ndarray, "N T 2"]:
    """The centre of each frame's weight; the middle of the frame where there is none."""
    height, width = weight.shape[2:]
    total = weight.sum(axis=(2, 3))
    with np.errstate(invalid="ignore"):
        u = (weight.sum(axis=2) * np.arange(width)).sum(-1) / total
        v = (weight.sum(axis=3) * np.arange(height)).sum(-1) / total
    return np.stack([np.where(total > 0, u, (width - 1) / 2), np.where(total > 0, v, (height - 1) / 2)], axis=-1)


def centre_error(frames: UInt8[np.ndarray, "N T H W C"], pixels: Float[np.ndarray, "N T 2"]) -> Float[np.ndarray, "N T"]:
    """Distance in px between the centre of light of each frame and the true projection (u, v)."""
    return np.linalg.norm(ball_centres(frames)[0] - pixels, axis=-1)
