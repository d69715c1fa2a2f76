"""A card for each family of trajectories: what it does, its equation and ranges, its path in space and its clip."""

import html

from trajvit.reporting.scenes import SHOWN_DRAW, SIDE_BY_SIDE, clip_image, drawn_scene, film_scene, path_image
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES


class Cards:
    """The families of a world as a notebook shows them, one flight of each drawn at random."""

    def __init__(self, config: WorldConfig):
        self.config = config

    def _repr_html_(self) -> str:
        return "".join(self._card(label) for label in range(len(FAMILIES)))

    def _card(self, label: int) -> str:
        scene = drawn_scene(self.config, label, SHOWN_DRAW)
        clips, _ = film_scene(self.config, scene)
        family = scene.family
        ranges = " · ".join(
            f"<b>{html.escape(name)}</b>&nbsp;{prior}" for name, prior in family.priors(self.config.variety).items()
        )
        said = (
            f"<h3>{label} &nbsp; {html.escape(family.name)}</h3><p>{html.escape(family.description)}</p>"
            f"<p><code>{html.escape(family.equation)}</code></p><p><small>{ranges}</small></p>"
        )
        pictures = path_image(scene, clips) + clip_image(scene, clips)
        return f'<div style="{SIDE_BY_SIDE}"><div style="flex:1 1 260px;min-width:0">{said}</div>{pictures}</div>'
