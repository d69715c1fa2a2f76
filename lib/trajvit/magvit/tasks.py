"""The eleven tasks: the ten of MAGVIT (arXiv:2212.05199, section 3.2 and appendix B) and classification, one row each.

A task's condition is the visible part of a clip, padded to full size. `visible(clip)` says which pixels of a clip
of shape (T, H, W) are given; hidden pixels are filled by `pad` from visible ones alone. The class label is `given`,
`hidden` or `asked`; `share` is how often the task is drawn in training.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajvit.settings import InputError

Clip = tuple[int, int, int]
Video = Float[Tensor, "B C T H W"]
Visible = Bool[Tensor, "T H W"]


@dataclass(frozen=True)
class Task:
    """One row of the table."""

    name: str
    meaning: str
    visible: Callable[[Clip], Visible]
    pad: Callable[[Video, Visible], Video]
    label: Literal["given", "hidden", "asked"]
    share: float

    def shows_frames(self, clip: Clip) -> bool:
        """Whether it shows some frames and hides others, each as a whole."""
        visible = self.visible(clip).flatten(1)
        shown = visible.any(1)
        return bool(shown.any() and not shown.all() and visible[shown].all())


def given_frames(frames: int) -> int:
    """How many frames of a clip the prediction tasks are given: half."""
    return frames // 2


def _region(clip: Clip, t: slice = slice(None), h: slice = slice(None), w: slice = slice(None)) -> Visible:
    inside = torch.zeros(clip, dtype=torch.bool)
    inside[t, h, w] = True
    return inside


def _middle(size: int) -> slice:
    """The middle half of an axis."""
    return slice(size // 4, size - size // 4)


def _moving_strip(clip: Clip) -> Visible:
    """In each frame the columns of a strip half as wide as the frame, which moves from the left to the right."""
    frames, _, width = clip
    left = torch.linspace(0, width - width // 2, frames).round()[:, None]  # (T, 1)
    column = torch.arange(width)
    return ((column >= left) & (column < left + width // 2))[:, None, :].expand(clip).clone()


def _nothing(clip: Clip) -> Visible:
    return torch.zeros(clip, dtype=torch.bool)


def _everything(clip: Clip) -> Visible:
    return torch.ones(clip, dtype=torch.bool)


def _first_half(clip: Clip) -> Visible:
    return _region(clip, t=slice(given_frames(clip[0])))


def _both_ends(clip: Clip) -> Visible:
    """A quarter of the frames at either end, at least one."""
    ends = max(1, clip[0] // 4)
    return ~_region(clip, t=slice(ends, clip[0] - ends))


def _centre(clip: Clip) -> Visible:
    return _region(clip, h=_middle(clip[1]), w=_middle(clip[2]))


def _columns(clip: Clip) -> Visible:
    return _region(clip, w=_middle(clip[2]))


def _rows(clip: Clip) -> Visible:
    return _region(clip, h=_middle(clip[1]))


def _around_centre(clip: Clip) -> Visible:
    return ~_centre(clip)


def _around_moving_box(clip: Clip) -> Visible:
    """All but a box of half the frame's height and width, which moves from the left to the right."""
    return ~(_moving_strip(clip) & _rows(clip))


def _black(video: Video, visible: Visible) -> Video:
    return video * visible


def _repeat_last_frame(video: Video, visible: Visible) -> Video:
    last = int(visible.flatten(1).any(1).nonzero().max())
    return torch.where(visible, video, video[:, :, last : last + 1])


def _blend_ends(video: Video, visible: Visible) -> Video:
    """Hidden frames blend evenly from the last frame before them to the first after them."""
    hidden = (~visible.flatten(1).any(1)).nonzero().flatten()
    if not len(hidden):  # two frames have nothing between them
        return video
    first, stop = int(hidden.min()), int(hidden.max()) + 1
    before, after = video[:, :, first - 1 : first], video[:, :, stop : stop + 1]
    share = torch.arange(1, stop - first + 1, device=video.device) / (stop - first + 1)
    blend = before + (after - before) * share[:, None, None]  # (B, C, hidden, H, W)
    return torch.cat([video[:, :, :first], blend, video[:, :, stop:]], dim=2)


def _repeat_border(video: Video, visible: Visible) -> Video:
    """Each hidden pixel shows the nearest pixel of the visible box."""
    rows, columns = visible.any(2).any(0).nonzero().flatten(), visible.any(1).any(0).nonzero().flatten()
    row = torch.arange(video.shape[3]).clamp(int(rows.min()), int(rows.max()))
    column = torch.arange(video.shape[4]).clamp(int(columns.min()), int(columns.max()))
    return video[:, :, :, row][..., column]


TASKS = (
    Task("FP", "frame prediction: the second half of the frames from the first", _first_half, _repeat_last_frame, "hidden", 0.36),
    Task("FI", "frame interpolation: the middle from a quarter at either end", _both_ends, _blend_ends, "hidden", 0.02),
    Task("OPC", "central outpainting: the frame around its centre", _centre, _repeat_border, "hidden", 0.05),
    Task("OPV", "vertical outpainting: the sides of a vertical strip", _columns, _repeat_border, "hidden", 0.03),
    Task("OPH", "horizontal outpainting: above and below a horizontal strip", _rows, _repeat_border, "hidden", 0.03),
    Task("OPD", "dynamic outpainting: the sides of a moving vertical strip", _moving_strip, _black, "hidden", 0.03),
    Task("IPC", "central inpainting: the centre of the frame", _around_centre, _black, "hidden", 0.05),
    Task("IPD", "dynamic inpainting: a moving box", _around_moving_box, _black, "hidden", 0.04),
    Task("CG", "class-conditional generation: everything, from the class alone", _nothing, _black, "given", 0.32),
    Task("CFP", "class-conditional frame prediction", _first_half, _repeat_last_frame, "given", 0.04),
    Task("CLS", "classification: the class from the whole clip", _everything, _black, "asked", 0.03),
)

TASK_NAMES = tuple(task.name for task in TASKS)


def task_number(name: str) -> int:
    """The position of a task in `TASKS`. Raises `InputError` for an unknown name."""
    if name not in TASK_NAMES:
        raise InputError(f"task {name!r} is unknown; there are {', '.join(TASK_NAMES)}")
    return TASK_NAMES.index(name)


def prediction_from(given: int, name: str = "FP") -> Task:
    """Frame prediction, FP or CFP, from the first `given` frames instead of from half of them."""
    return replace(TASKS[task_number(name)], visible=lambda clip: _region(clip, t=slice(given)))


def condition(task: Task, video: Video) -> Video:
    """The condition video of a task: what is visible, and padding elsewhere; no hidden pixel has a say in it."""
    return task.pad(video, task.visible(tuple(video.shape[2:])).to(video.device))
