"""Draws the ball: an anti-aliased disc, bright on black, touched only inside its bounding box."""

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from trajvit.worlds.discs import draw_discs, weigh_light


def render(
    pixels: Float32[np.ndarray, "n T 2"],
    radius: Float32[np.ndarray, "n T"],
    colour: Float32[np.ndarray, "n C"],
    frames: UInt8[np.ndarray, "n T H W C"],
) -> None:
    """Draw discs of `radius` px at `pixels` (u, v) px into `frames`, which is overwritten.

    A pixel's brightness falls from `colour` (0 to 1 a channel) inside the disc to 0 outside along a smoothstep
    `EDGE_PX` wide, centred on the rim.
    """
    frames.fill(0)
    draw_discs(pixels, radius, colour, frames)


def light_centres(frames: UInt8[np.ndarray, "N T H W C"]) -> Float64[np.ndarray, "N T 2"]:
    """The intensity-weighted centre (u, v) in px of all light in each frame, the brightest channel counting; the middle
    of the frame where there is none."""
    centres = np.empty((*frames.shape[:2], 2))
    weigh_light(frames, centres)
    return centres
