"""From (config, seed, split, i) to a filmed clip: the only place where samples are made."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.discs import EDGE_PX
from trajvit.worlds.families import FAMILIES, MAX_ATTEMPTS, NAMES, draw_colours, frame_times, priors_as_arrays, trace
from trajvit.worlds.renderer import render
from trajvit.worlds.streams import split_key


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


def optics(config: WorldConfig) -> Float64[np.ndarray, "6"]:
    """How the camera sees the ball, as `families.trace` takes it."""
    camera = config.camera
    shown_depth = 0.0 if config.size == "perspective" else camera.REFERENCE_M
    # All of a ball's light is in view where its rim, with half of the soft edge, stays on the outermost pixels.
    beyond = EDGE_PX / 2 - 1
    return np.array([camera.focal_px, config.height, config.width, config.ball_radius_m, shown_depth, beyond], np.float64)


def film(
    config: WorldConfig, seed: int, split: str, start: int, stop: int, canvas: UInt8[np.ndarray, "M T H W C"] | None = None
) -> Clips:
    """Film the samples `start`..`stop - 1` of a split.

    Sample i is a function of (config, seed, split, i) alone, to the bit, on any machine. Its family is i modulo their
    number, so classes are balanced to within one sample in any prefix. Parameters with which the ball would leave the
    frame, with or without its noise, are drawn again. Given a `canvas` of at least as many clips, the frames are drawn
    there: new memory costs more than drawing. Raises `InputError` when almost no draw keeps the ball inside.
    """
    key = split_key(seed, split)
    count, times = stop - start, config.frames
    points = np.empty((count, times, 3), np.float32)
    pixels = np.empty((count, times, 2), np.float32)
    radius = np.empty((count, times), np.float32)
    filmed = trace(
        key,
        start,
        priors_as_arrays(config.variety),
        frame_times(times),
        optics(config),
        config.noise_m,
        config.roll_degrees / 360,
        points,
        pixels,
        radius,
    )
    if filmed < count:
        raise InputError(
            f"in {MAX_ATTEMPTS} draws no {NAMES[(start + filmed) % len(FAMILIES)]} path kept the whole ball inside a "
            f"{config.height}x{config.width} frame: lower ball_radius_m or noise_m, or use a squarer frame"
        )
    colour = np.ones((count, config.channels), np.float32)
    if config.channels == 3:
        draw_colours(key, start, colour)
    frames = np.empty((count, *config.shape), np.uint8) if canvas is None else canvas[:count]
    render(pixels, radius, colour, frames)
    label = (np.arange(start, stop) % len(FAMILIES)).astype(np.uint8)
    return Clips(frames, label, points, pixels, radius)


def film_path(config: WorldConfig, label: int, points: Float[np.ndarray, "T 3"], roll_degrees: float) -> Clips:
    """Film one given path of family `label`, its points in m at the times of a clip's frames: a batch of one clip.

    The camera is rolled by `roll_degrees` and the ball is white. It is filmed as it flies, also out of the frame.
    """
    roll = np.deg2rad(roll_degrees)
    pixels = config.camera.project(points[None], np.array([[np.cos(roll), np.sin(roll)]])).astype(np.float32)
    depth = points[None, :, 2] if config.size == "perspective" else np.full((1, len(points)), config.camera.REFERENCE_M)
    radius = config.camera.radius(config.ball_radius_m, depth).astype(np.float32)
    frames = np.empty((1, *config.shape), np.uint8)
    render(pixels, radius, np.ones((1, config.channels), np.float32), frames)
    return Clips(frames, np.array([label], np.uint8), points[None].astype(np.float32), pixels, radius)


def whole_in_view(config: WorldConfig, clips: Clips) -> Bool[np.ndarray, " N"]:
    """Of which clips `film` would keep the parameters: all of the ball's light is inside the frame, in every frame."""
    reach = clips.radius[..., None] + EDGE_PX / 2 - 1
    far = np.array([config.width, config.height]) - 1
    return ((clips.pixels >= reach) & (clips.pixels <= far - reach)).all(axis=(1, 2))
