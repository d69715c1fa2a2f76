"""Where the ball is in a frame, whether there is one, none or more, and how far it is from where it should be."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from trajvit.worlds.blobs import find_blobs

# Light below this share of full brightness is haze, not ball; a patch whose brightest pixel is darker is no ball.
HAZE, FAINTEST = 0.1, 0.25
# A patch with less light than this many white pixels is a speck; one with less than this share of the brightest
# patch's light is part of its surroundings, not a second ball.
LEAST_LIGHT_PX, SECOND = 0.5, 0.2


@dataclass(frozen=True)
class Balls:
    """What was found in each frame.

    `centres` (u, v) in px of the ball with the most light, the middle of the frame where there is none, the best
    constant guess; `radius` in px of a disc of full brightness with its light, 0 where there is none; `count` how many
    balls there are.
    """

    centres: Float[np.ndarray, "N T 2"]
    radius: Float[np.ndarray, "N T"]
    count: Int[np.ndarray, "N T"]

    @property
    def missing(self) -> Float[np.ndarray, " N"]:
        """The share of each clip's frames that show no ball."""
        return (self.count == 0).mean(axis=1)

    @property
    def doubled(self) -> Float[np.ndarray, " N"]:
        """The share of each clip's frames that show two balls or more."""
        return (self.count > 1).mean(axis=1)


def find_balls(frames: UInt8[np.ndarray, "N T H W C"]) -> Balls:
    """Find the balls: patches of connected pixels whose light stands out from the frame's background.

    The background is the frame's median; what rises above it by less than `HAZE`, or by no more than its noise does, is
    part of it. A patch larger than half the frame both ways is no ball: no world has such balls.
    """
    centres, radius = np.empty((*frames.shape[:2], 2)), np.empty(frames.shape[:2])
    count = np.empty(frames.shape[:2], np.int64)
    find_blobs(frames, HAZE, FAINTEST, LEAST_LIGHT_PX, SECOND, centres, radius, count)
    return Balls(centres, radius, count)


def ball_centres(
    frames: UInt8[np.ndarray, "N T H W C"],
) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
    """The centre of light (u, v) in px of each frame's ball, and whether there is a ball at all.

    Where there is none the centre of the frame is reported, the best constant guess.
    """
    balls = find_balls(frames)
    return balls.centres, balls.count > 0


def centre_error(frames: UInt8[np.ndarray, "N T H W C"], pixels: Float[np.ndarray, "N T 2"]) -> Float[np.ndarray, "N T"]:
    """Distance in px between the ball found in each frame and its true projection (u, v)."""
    return np.linalg.norm(ball_centres(frames)[0] - pixels, axis=-1)
