"""From (config, seed, split, i) to a filmed clip: the only place where samples are made."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, Family
from trajvit.worlds.renderer import margin, render
from trajvit.worlds.streams import normals, split_key, uniforms

# Which Philox blocks of a sample hold what.
PARAMETER_BLOCK, CAMERA_BLOCK, NOISE_BLOCK = 0, 8, 16
MAX_ATTEMPTS = 2000


@dataclass(frozen=True)
class Clips:
    """A batch of filmed clips; the layout that holds everywhere on disk and in numpy.

    frames (N, T, H, W, C) uint8, 0 black to 255; label (N,) uint8, a position in `FAMILIES`;
    points (N, T, 3) float32, the ball's centre (x, y, z) in m; pixels (N, T, 2) float32, its image (u, v) in px;
    radius (N, T) float32, its radius in the image in px.
    """

    frames: UInt8[np.ndarray, "N T H W C"]
    label: UInt8[np.ndarray, " N"]
    points: Float32[np.ndarray, "N T 3"]
    pixels: Float32[np.ndarray, "N T 2"]
    radius: Float32[np.ndarray, "N T"]


def film(config: WorldConfig, seed: int, split: str, start: int, stop: int) -> Clips:
    """Film the samples `start`..`stop - 1` of a split.

    Sample i is a function of (config, seed, split, i) alone, on any machine. Its family is i modulo their number,
    so classes are balanced to within one sample in any prefix. Parameters with which the ball would leave the frame
    are drawn again. Raises `InputError` when almost no draw keeps the ball inside.
    """
    key = split_key(seed, split)
    samples = np.arange(start, stop, dtype=np.int64)
    label = (samples % len(FAMILIES)).astype(np.uint8)
    count, times = samples.size, config.frames
    points = np.empty((count, times, 3), np.float32)
    pixels = np.empty((count, times, 2), np.float32)
    radius = np.empty((count, times), np.float32)
    for number, family in enumerate(FAMILIES):
        pending = np.flatnonzero(label == number)
        for attempt in range(MAX_ATTEMPTS):
            if pending.size == 0:
                break
            drawn = _draw(config, family, key, samples[pending], attempt)
            whole = _inside(config, *drawn[1:])
            rows = pending[whole]
            points[rows], pixels[rows], radius[rows] = (array[whole] for array in drawn)
            pending = pending[~whole]
        else:
            raise InputError(
                f"in {MAX_ATTEMPTS} draws no {family.name} path kept the whole ball inside a "
                f"{config.height}x{config.width} frame: lower ball_radius_m or noise_m, or use a squarer frame"
            )
    frames = np.empty((count, times, config.height, config.width, config.channels), np.uint8)
    render(pixels, radius, _colour(config, key, samples), frames)
    return Clips(frames, label, points, pixels, radius)


def _draw(config: WorldConfig, family: Family, key, samples: Int[np.ndarray, " n"], attempt: int):
    """One draw of a family's paths: points (n, T, 3) m, pixels (n, T, 2) px, radius (n, T) px, all float32."""
    times = np.linspace(0, 1, config.frames)[None]  # (1, T), t_k = k / (T-1)
    priors = family.priors(config.variety)
    u = uniforms(key, samples, attempt, len(priors), PARAMETER_BLOCK)
    parameters = {name: prior.at(u[:, j : j + 1]) for j, (name, prior) in enumerate(priors.items())}
    points = np.stack(np.broadcast_arrays(*family.path(parameters, times)), axis=-1)  # (n, T, 3)
    if config.noise_m:
        noise = normals(key, samples, attempt, points[0].size, NOISE_BLOCK)
        points = points + config.noise_m * noise.reshape(points.shape)
    points = _on_grid(points)

    turn = np.deg2rad(config.roll_degrees) * (2 * uniforms(key, samples, attempt, 1, CAMERA_BLOCK) - 1)
    roll = _on_grid(np.concatenate([np.cos(turn), np.sin(turn)], axis=1))
    camera = config.camera
    depth = points[..., 2] if config.size == "perspective" else np.full(points.shape[:2], camera.REFERENCE_M)
    pixels, radius = camera.project(points, roll), camera.radius(config.ball_radius_m, depth)
    return points.astype(np.float32), pixels.astype(np.float32), radius.astype(np.float32)


def _on_grid(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Round to multiples of 2^-18 (4 micrometres), so that a last-bit difference between two CPUs' sines is gone."""
    return np.round(values * 2.0**18) * 2.0**-18


def _inside(config: WorldConfig, pixels: Float32[np.ndarray, "n T 2"], radius: Float32[np.ndarray, "n T"]):
    """Which clips show the whole ball in every frame (n,)."""
    near, far = margin(radius)[..., None], np.array([config.width - 1, config.height - 1]) - margin(radius)[..., None]
    return ((pixels >= near) & (pixels <= far)).all(axis=(1, 2))


def _colour(config: WorldConfig, key, samples: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C"]:
    """White in gray worlds; in RGB a bright colour a sample, its strongest channel at 1 and no channel below 0.25."""
    if config.channels == 1:
        return np.ones((samples.size, 1))
    rgb = 0.25 + 0.75 * uniforms(key, samples, 0, 3, CAMERA_BLOCK + 1)
    return rgb / rgb.max(axis=1, keepdims=True)
