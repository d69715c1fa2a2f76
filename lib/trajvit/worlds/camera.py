"""A pinhole camera with fixed intrinsics. World axes: x right, y down, z away from the camera."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Camera:
    """Projects metres to pixels: u = f x / z + (W-1)/2 and v = f y / z + (H-1)/2, pixel centres at integers.

    The focal length f is min(H, W) pixels, so every format sees the same field of view (53 degrees).
    Balls fly between NEAREST_M and FARTHEST_M; a ball of constant size looks as it would at REFERENCE_M.
    """

    height: int
    width: int

    NEAREST_M: ClassVar[float] = 2.0
    REFERENCE_M: ClassVar[float] = 3.2
    FARTHEST_M: ClassVar[float] = 4.6

    @property
    def focal_px(self) -> float:
        return float(min(self.height, self.width))

    def project(self, points: Float[np.ndarray, "n T 3"], roll: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n T 2"]:
        """Image positions (u, v) in px of points in m, for a camera rolled by an angle given as (cos, sin)."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        cos, sin = roll[:, :1], roll[:, 1:]
        scale = self.focal_px / z
        u = scale * (cos * x - sin * y) + (self.width - 1) / 2
        v = scale * (sin * x + cos * y) + (self.height - 1) / 2
        return np.stack([u, v], axis=-1)

    def radius(self, radius_m: float, z):
        """Radius in px of a ball of `radius_m` metres at depth `z` metres: f R / z."""
        return self.focal_px * radius_m / z
