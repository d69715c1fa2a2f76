"""The tasks MAGVIT is trained on: what each is given, one row a task (arXiv:2212.05199, table 7, and CLS).

A task's condition is the visible part of a clip, padded to full size. `visible(clip)` says which pixels of a clip
of shape (T, H, W) are given; hidden pixels are filled by `pad`. The class label is `given`, `hidden` or `asked`;
`share` is how often the task is drawn in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


def given_frames(frames: int) -> int:
    """How many frames of a clip the prediction tasks are given: half."""
    return frames // 2


def _first_half(clip: Clip) -> Visible:
    visible = torch.zeros(clip, dtype=torch.bool)
    visible[: given_frames(clip[0])] = True
    return visible


def _everything(clip: Clip) -> Visible:
    return torch.ones(clip, dtype=torch.bool)


def _nothing(clip: Clip) -> Visible:
    return torch.zeros(clip, dtype=torch.bool)


def _repeat_last_frame(video: Video, visible: Visible) -> Video:
    last = int(visible.flatten(1).any(1).nonzero().max())
    return torch.where(visible, video, video[:, :, last : last + 1])


def _black(video: Video, visible: Visible) -> Video:
    return video * visible


TASKS = (
    Task("FP", "frame prediction: the second half of the frames from the first", _first_half, _repeat_last_frame, "hidden", 0.45),
    Task("CFP", "class-conditional frame prediction", _first_half, _repeat_last_frame, "given", 0.1),
    Task("CG", "class-conditional generation", _nothing, _black, "given", 0.28),
    Task("CLS", "classification: the class from the whole clip", _everything, _black, "asked", 0.17),
)

TASK_NAMES = tuple(task.name for task in TASKS)


def task_number(name: str) -> int:
    """The position of a task in `TASKS`. Raises `InputError` for an unknown name."""
    if name not in TASK_NAMES:
        raise InputError(f"task {name!r} is unknown; there are {', '.join(TASK_NAMES)}")
    return TASK_NAMES.index(name)


def condition(task: Task, video: Video) -> Video:
    """The condition video of a task: what is visible, and padding elsewhere; no hidden pixel has a say in it."""
    return task.pad(video, task.visible(tuple(video.shape[2:])).to(video.device))
