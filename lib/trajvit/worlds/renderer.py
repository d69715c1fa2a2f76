"""Draws the ball: an anti-aliased disc, bright on black, touched only inside its bounding box."""

import numpy as np
from jaxtyping import Float, Float32, UInt8

from trajvit.worlds.kernels import draw_discs

# Width in px of the soft edge. A smooth edge of 1.5 px keeps a disc's centre of light within 0.03 px of its centre for
# every radius from 1 px up; the usual linear edge of 1 px is off by up to 0.06 px.
EDGE_PX = 1.5


def margin(radius: Float32[np.ndarray, "n T"]) -> Float32[np.ndarray, "n T"]:
    """How far in px a ball's centre must stay from the centre of the outermost pixels for all its light to be seen."""
    return radius + np.float32(EDGE_PX / 2 - 1)


def render(
    pixels: Float32[np.ndarray, "n T 2"],
    radius: Float32[np.ndarray, "n T"],
    colour: Float[np.ndarray, "n C"],
    frames: UInt8[np.ndarray, "n T H W C"],
) -> None:
    """Draw discs of `radius` px at `pixels` (u, v) px into `frames`, which is overwritten.

    A pixel's brightness falls from `colour` (0 to 1 a channel) inside the disc to 0 outside along a smoothstep
    `EDGE_PX` wide, centred on the rim.
    """
    draw_discs(pixels.astype(np.float64), radius.astype(np.float64), colour, EDGE_PX, frames)
