"""One flight of one ball, told by its family's parameters: its path in space, its moving clip, its film strip."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trajvit.datasets.thumbnail import thumbnail
from trajvit.reporting.animations import image_tag
from trajvit.reporting.figures import path_in_space
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, Either, Family, Prior, frame_times, path
from trajvit.worlds.film import Clips, film_path, whole_in_view

CLIP_PX, FRAME_PX, GREY = 256, 64, 128
SHOWN_DRAW = 38  # of the scenes that can be drawn, one that shows each family well
SMOOTH = 121  # points of a curve that looks smooth
SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:8px 24px;align-items:center"


@dataclass(frozen=True)
class Scene:
    """A ball of family `label` with all its `parameters`, by name; noise of `noise_m` metres on its path, drawn from
    `noise_seed`; a camera rolled by `roll_degrees`."""

    label: int
    parameters: dict[str, float]
    roll_degrees: float = 0.0
    noise_m: float = 0.0
    noise_seed: int = 0

    @property
    def family(self) -> Family:
        return FAMILIES[self.label]


def film_scene(config: WorldConfig, scene: Scene) -> tuple[Clips, bool]:
    """The clip of a scene, a batch of one, and whether the generator would keep it: the whole ball stays in view."""
    smooth = path(scene.label, scene.parameters, frame_times(config.frames))
    noise = scene.noise_m * np.random.default_rng(scene.noise_seed).standard_normal(smooth.shape)
    with_noise, without = (film_path(config, scene.label, points, scene.roll_degrees) for points in (smooth + noise, smooth))
    return with_noise, bool(whole_in_view(config, with_noise)[0] and whole_in_view(config, without)[0])


def drawn_scene(config: WorldConfig, label: int, draw: int) -> Scene:
    """Scene number `draw` of a family, without noise and roll: drawn as the generator does, again until it is kept."""
    rng = np.random.default_rng(draw)
    kept = False
    while not kept:
        priors = FAMILIES[label].priors(config.variety)
        scene = Scene(label, {name: _draw(prior, rng.random()) for name, prior in priors.items()})
        _, kept = film_scene(config, scene)
    return scene


def _draw(prior: Prior, u: float) -> float:
    share = round(u) if isinstance(prior, Either) else u
    return prior.low + share * (prior.high - prior.low)


def path_image(scene: Scene, clips: Clips) -> str:
    """The path in 3-D, the places at which the ball is filmed marked, as an HTML image."""
    curve = path(scene.label, scene.parameters, np.linspace(0, 1, SMOOTH))
    buffer = io.BytesIO()
    path_in_space(curve, clips.points[0], scene.label).savefig(buffer, format="png")
    return image_tag(buffer.getvalue(), "png", f"3-D path of a {scene.family.name} flight")


def clip_image(scene: Scene, clips: Clips) -> str:
    """The moving clip as an HTML image."""
    return image_tag(thumbnail(clips.frames[0]), "gif", f"moving clip of a {scene.family.name} flight", CLIP_PX)


def strip_image(scene: Scene, clips: Clips) -> str:
    """The frames of the clip side by side as an HTML image."""
    apart = np.pad(clips.frames[0], ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=GREY)
    strip = Image.fromarray(np.concatenate(apart, axis=1)[:, :-1].squeeze())
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    width = round(FRAME_PX * strip.width / strip.height)
    return image_tag(buffer.getvalue(), "png", f"the {len(apart)} frames of the {scene.family.name} clip", width)
