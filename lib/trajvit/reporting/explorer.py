"""A model to play with: a clip, what MAGVIT makes of it ten times over, and what can be known, side by side.

In JupyterLab each change of a control is answered at once; where nobody looks, one example stands in its place.
"""

import html
import time
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from IPython.display import HTML, display
from jaxtyping import Float, UInt8

from trajvit.datasets.loading import to_frames, to_video
from trajvit.datasets.thumbnail import thumbnail
from trajvit.evaluation.oracle import oracle
from trajvit.magvit.decoding import DRAWING, DecodingConfig
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS, Task, condition, given_frames, task_number
from trajvit.metrics.centres import find_balls
from trajvit.reporting.animations import image_tag
from trajvit.reporting.live import is_headless
from trajvit.reporting.playground import one_of
from trajvit.reporting.scenes import SIDE_BY_SIDE
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips, film

SAMPLES, PANEL_PX, SEED = 10, 224, 0
MAGVIT_COLOUR, ORACLE_COLOUR = "#6ea8ff", "#f2a65a"
FORESEEN = ("FP", "CFP")  # the tasks of which the oracle knows the posterior
SHOWN = tuple(task.name for task in TASKS if task.name != "CLS")


@dataclass(frozen=True)
class Choice:
    """What to look at: the `clip`-th test clip of a family, a task, how many frames of it FP and CFP are given, and how
    to decode: at first as futures are drawn."""

    family: int = 3
    clip: int = 1
    task: str = "FP"
    given: int = 4
    sampler: str = DRAWING.sampler
    steps: int = DRAWING.steps
    temperature: float = DRAWING.temperature
    guidance: float = DRAWING.guidance


def explorer(model: MAGVIT, world: WorldConfig) -> None:
    """Show a model with a control for whatever can be asked of it; where nobody looks, one example."""
    if is_headless():
        display(HTML(picture(model, world, Choice(given=given_frames(world.frames)))))
    else:
        display(Explorer(model, world).box)


def picture(model: MAGVIT, world: WorldConfig, choice: Choice) -> str:
    """A choice as HTML: the clip, its condition, ten completions laid over one another, their paths and the oracle's."""
    began = time.perf_counter()
    clips = _clip(world, choice.family, choice.clip)
    asked = {name: getattr(choice, name) for name in ("sampler", "steps", "temperature", "guidance")}
    decoding = DecodingConfig(**DRAWING.model_dump() | asked)
    shown, completed = _complete(model, clips, choice, decoding)
    took = time.perf_counter() - began
    panels = [
        _moving(clips.frames[0], "the clip"),
        _moving(shown, f"what {choice.task} shows"),
        _moving(completed.mean(axis=0).round().astype(np.uint8), f"ten completions, laid over one another ({took:.2f} s)"),
        _paths(world, clips, find_balls(completed).centres, MAGVIT_COLOUR, "the balls of the ten; white, the true one"),
    ]
    if choice.task in FORESEEN:
        known = oracle(clips, world, choice.given)
        seen = find_balls(clips.frames[:, : choice.given]).centres
        draws = np.concatenate([np.repeat(seen, SAMPLES, axis=0), known.draws[0, :SAMPLES]], axis=1)
        panels.append(_paths(world, clips, draws, ORACLE_COLOUR, "ten draws of the oracle's posterior"))
    return f'<div style="{SIDE_BY_SIDE}">{"".join(panels)}</div>'


def _clip(world: WorldConfig, family: int, number: int) -> Clips:
    """The `number`-th test clip of a family: in each run of as many clips as families there is one of each."""
    some = film(world, SEED, "test", number * len(NAMES), (number + 1) * len(NAMES))
    row = np.flatnonzero(some.label == family)
    return Clips(*(getattr(some, name)[row] for name in Clips.__dataclass_fields__))


def _complete(
    model: MAGVIT, clips: Clips, choice: Choice, decoding: DecodingConfig
) -> tuple[UInt8[np.ndarray, "T H W C"], UInt8[np.ndarray, "S T H W C"]]:
    """What a task shows of a clip, and what the model makes of it."""
    task: Task = TASKS[task_number(choice.task)]
    video, labels = to_video(clips.frames).expand(SAMPLES, -1, -1, -1, -1), None
    if task.label == "given":
        labels = torch.full((SAMPLES,), choice.family)
    if choice.task in FORESEEN:
        completed = model.predict(video[:, :, : choice.given], labels=labels, decoding=decoding)
        shown = clips.frames[0] * (np.arange(clips.frames.shape[1]) < choice.given)[:, None, None, None].astype(np.uint8)
        return shown, to_frames(completed)
    return to_frames(condition(task, video[:1]))[0], to_frames(model.complete(video, choice.task, labels, decoding=decoding))


def _panel(content: str, title: str) -> str:
    return f'<figure style="margin:0;width:{PANEL_PX}px">{content}<figcaption><small>{html.escape(title)}</small></figcaption></figure>'


def _moving(frames: UInt8[np.ndarray, "T H W C"], title: str) -> str:
    return _panel(image_tag(thumbnail(frames), "gif", title, PANEL_PX), title)


def _paths(world: WorldConfig, clips: Clips, centres: Float[np.ndarray, "S T 2"], colour: str, title: str) -> str:
    """Paths in the frame, and the true ball at each time."""
    lines = "".join(
        f'<polyline points="{" ".join(f"{u:.2f},{v:.2f}" for u, v in path)}" fill="none" stroke="{colour}" '
        f'stroke-width="0.25" stroke-opacity="0.7"/>'
        + "".join(f'<circle cx="{u:.2f}" cy="{v:.2f}" r="0.35" fill="{colour}"/>' for u, v in path)
        for path in centres
    )
    true = "".join(
        f'<circle cx="{u:.2f}" cy="{v:.2f}" r="{radius:.2f}" fill="none" stroke="white" stroke-width="0.2"/>'
        for (u, v), radius in zip(clips.pixels[0], clips.radius[0], strict=True)
    )
    said = html.escape(title, quote=True)
    return _panel(
        f'<svg viewBox="-0.5 -0.5 {world.width} {world.height}" width="{PANEL_PX}" role="img" aria-label="{said}">'
        f'<rect x="-0.5" y="-0.5" width="100%" height="100%" fill="black"/>{lines}{true}</svg>',
        title,
    )


class Explorer:
    """The controls and the picture that follows them; `box` is what to display."""

    def __init__(self, model: MAGVIT, world: WorldConfig):
        self.model, self.world, first = model, world, Choice()
        stride = model.config.tokenizer.stride[0]
        self.controls: dict[str, ipywidgets.ValueWidget] = {
            "family": one_of("family", {name: label for label, name in enumerate(NAMES)}, first.family),
            "clip": ipywidgets.IntSlider(first.clip, 0, 99, description="clip", continuous_update=False),
            "task": ipywidgets.Dropdown(options=SHOWN, value=first.task, description="task"),
            "given": one_of("given", {str(k): k for k in range(stride, world.frames, stride)}, given_frames(world.frames)),
            "sampler": one_of("sampler", {name: name for name in ("random", "confidence", "halton", "slices")}, first.sampler),
            "steps": ipywidgets.IntSlider(first.steps, 1, 24, description="steps", continuous_update=False),
            "temperature": _slider("temperature", first.temperature, 2.0),
            "guidance": _slider("guidance", first.guidance, 4.0),
        }
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        self.controls["task"].observe(self._offer_given, "value")
        self.shown = ipywidgets.HTML()
        self._redraw()
        wrapped = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
        self.box = ipywidgets.Box([ipywidgets.VBox(list(self.controls.values())), self.shown], layout=wrapped)

    def choice(self) -> Choice:
        """What the controls say."""
        return Choice(**{name: control.value for name, control in self.controls.items()})

    def _offer_given(self, _) -> None:
        """How many frames are given is a question of the prediction tasks alone."""
        self.controls["given"].disabled = self.controls["task"].value not in FORESEEN

    def _redraw(self, _=None) -> None:
        self.shown.value = picture(self.model, self.world, self.choice())


def _slider(name: str, value: float, highest: float) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(value, min=0.0, max=highest, step=0.1, description=name, continuous_update=False)
