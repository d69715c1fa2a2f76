"""A ball to play with: sliders in JupyterLab, each change filmed at once; the picture alone where there is no screen."""

import html

import ipywidgets
from IPython.display import HTML, display

from trajvit.reporting.live import is_headless
from trajvit.reporting.scenes import (
    SHOWN_DRAW,
    SIDE_BY_SIDE,
    Scene,
    clip_image,
    drawn_scene,
    film_scene,
    path_image,
    strip_image,
)
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES, Either, Fixed, Uniform

FIRST = 2  # the family shown first: the helix, which uses all three dimensions
ROLL_DEGREES, NOISE_M = Uniform(-45.0, 45.0), Uniform(0.0, 0.1)


def playground(config: WorldConfig) -> None:
    """Show a ball of the world `config` with a control for whatever varies; where nobody looks, one picture of it."""
    if is_headless():
        display(HTML(picture(config, drawn_scene(config, FIRST, SHOWN_DRAW))))
    else:
        display(Playground(config).box)


def picture(config: WorldConfig, scene: Scene) -> str:
    """A scene as HTML: path, moving clip and film strip, and whether the generator would keep it."""
    clips, kept = film_scene(config, scene)
    verdict = (
        "The whole ball stays in view: the generator would keep these parameters."
        if kept
        else "<strong>The ball leaves the frame</strong>: the generator would draw other parameters."
    )
    return (
        f'<div style="{SIDE_BY_SIDE}">{path_image(scene, clips)}{clip_image(scene, clips)}</div>'
        f"<p>{strip_image(scene, clips)}</p><p><code>{html.escape(scene.family.equation)}</code><br>{verdict}</p>"
    )


class Playground:
    """The controls and the picture that follows them; `box` is what to display."""

    def __init__(self, config: WorldConfig):
        self.config, self.draw = config, SHOWN_DRAW
        self.family = one_of("family", {name: label for label, name in enumerate(NAMES)}, FIRST)
        self.variety = one_of("variety", {name: name for name in ("textbook", "varied")}, config.variety)
        self.another = ipywidgets.Button(description="draw another")
        self.camera = _control("roll (°)", ROLL_DEGREES, 0.0)
        self.noise = _control("noise (m)", NOISE_M, 0.0)
        self.noise_seed = ipywidgets.IntSlider(description="noise seed", max=99)
        self.varying: dict[str, ipywidgets.ValueWidget] = {}
        self.own, self.shown = ipywidgets.VBox(), ipywidgets.HTML()
        self.family.observe(self._choose, "value")
        self.variety.observe(self._choose, "value")
        self.another.on_click(self._draw_another)
        for control in (self.camera, self.noise, self.noise_seed):
            control.observe(self._redraw, "value")
        self._choose()
        controls = ipywidgets.VBox([self.own, self.camera, self.noise, self.noise_seed, self.another])
        wrapped = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
        self.box = ipywidgets.VBox([self.family, self.variety, ipywidgets.Box([controls, self.shown], layout=wrapped)])

    def scene(self) -> Scene:
        """What the controls say."""
        parameters = self.drawn.parameters | {name: control.value for name, control in self.varying.items()}
        return Scene(self.family.value, parameters, self.camera.value, self.noise.value, self.noise_seed.value)

    def _draw_another(self, _=None) -> None:
        self.draw += 1
        self._choose()

    def _choose(self, _=None) -> None:
        """Lay out the controls of the chosen family, for what varies, set to a flight drawn from it."""
        world = WorldConfig(**self.config.model_dump() | {"variety": self.variety.value})
        self.drawn = drawn_scene(world, self.family.value, self.draw)
        priors = self.drawn.family.priors(world.variety)
        self.varying = {
            name: _control(name, prior, self.drawn.parameters[name])
            for name, prior in priors.items()
            if not isinstance(prior, Fixed)
        }
        for control in self.varying.values():
            control.observe(self._redraw, "value")
        self.own.children = tuple(self.varying.values())
        self._redraw()

    def _redraw(self, _=None) -> None:
        self.shown.value = picture(self.config, self.scene())


def _control(name: str, prior: Uniform | Either, value: float) -> ipywidgets.ValueWidget:
    """A control over what a parameter is drawn from."""
    if isinstance(prior, Either):
        return one_of(name, {f"{end:g}": end for end in (prior.low, prior.high)}, value)
    step = (prior.high - prior.low) / 100
    return ipywidgets.FloatSlider(value, min=prior.low, max=prior.high, step=step, description=name, readout_format=".3f")


def one_of(name: str, options: dict[str, object], value: object) -> ipywidgets.ToggleButtons:
    """A button for each of some options, by name."""
    style = {"button_width": "auto"}
    return ipywidgets.ToggleButtons(description=name, options=list(options.items()), value=value, style=style)
