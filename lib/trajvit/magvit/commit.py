"""COMMIT: conditional masked modelling by interior tokens (arXiv:2212.05199, section 3.2).

Sequences are flattened token grids: tokens (B, L) int64 with L = t h w.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajvit.magvit.tasks import Clip, Task

Sequence = Int[Tensor, "B L"]


def interior(task: Task, clip: Clip, stride: Clip) -> Bool[Tensor, " L"]:
    """Which tokens of a task's condition see at least one given pixel; the others are mere padding (ispad, Eq. 5)."""
    visible = task.visible(clip).float()[None, None]
    return (F.max_pool3d(visible, stride, stride) > 0).flatten()


Schedule = Literal["cosine", "uniform", "pow", "log", "exp"]


def masked_share(progress: float | Tensor, length: int, schedule: Schedule = "cosine") -> Tensor:
    """The share of `length` tokens still masked after a share `progress` of the decoding, from 1 down to 0.

    The functions gamma of MaskGIT (arXiv:2202.04200, section 3.3) as MAGVIT's code has them: cosine and `pow`, 1 - r^2,
    unveil few tokens first and many last; `uniform` as many in each step; `log` many first; `exp` nearly all last.
    """
    r = torch.as_tensor(progress, dtype=torch.float64)
    share = {
        "cosine": lambda: torch.cos(r * math.pi / 2),
        "uniform": lambda: 1 - r,
        "pow": lambda: 1 - r**2,
        "log": lambda: -torch.log2(r.clamp(min=1 / length)) / math.log2(max(length, 2)),
        "exp": lambda: (1 - torch.exp2(-math.log2(max(length, 2)) * (1 - r))) / (1 - 1 / max(length, 2)),
    }[schedule]()
    return share.clamp(0, 1)


@dataclass(frozen=True)
class Masked:
    """A training input and which part of the loss each of its positions belongs to, if any."""

    tokens: Sequence  # the mask token's number where masked and no interior condition token stands in
    refine: Bool[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]
    reconstruct: Bool[Tensor, "B L"]


def commit_mask(
    tokens: Sequence,
    condition: Sequence,
    interior: Bool[Tensor, "B L"],
    mask_token: int,
    whole: Bool[Tensor, " B"],
    draws: Float[Tensor, "B L1"],
    from_the_end: Bool[Tensor, " B"],
    beginning: Bool[Tensor, " B"],
    per_slice: int,
) -> Masked:
    """The multivariate conditional mask of Eq. 5, with a mask ratio drawn for each sample.

    A masked position holds the interior condition token if there is one and the mask token if not; an unmasked one
    holds the clip's own token. The loss is refine + mask + reconstruct over these three sets (Eq. 6). Samples in
    `whole` are masked in every position, as they are when decoding begins. Where the paper's masks lie anywhere, those of
    samples `from_the_end` lie in the last time slices of `per_slice` positions, and in any positions of the first of these:
    so decoding by slices leaves them. How many is drawn with a density that grows as the root of their share: the first
    slices, which leave most open, decide most. Of samples at their `beginning` all slices are masked but the first, and of that
    any number of positions, each as often; it alone is learnt from, since nothing after it is decoded before it. `draws` are
    uniform random numbers, one for each sample's ratio and one for each of its positions; these, `from_the_end` and
    `beginning` are on the CPU.
    """
    length, device = tokens.shape[1], tokens.device
    share = torch.where(from_the_end[:, None], (1 - draws[:, :1]) ** (2 / 3), masked_share(draws[:, :1], length))
    share = torch.where(beginning[:, None], 1 - draws[:, :1] * per_slice / length, share)
    count = (share * length).ceil().clamp(min=1).long()  # (B, 1)
    slice_number = torch.arange(length) // per_slice
    later = slice_number * (from_the_end | beginning)[:, None]  # (B, L)
    order = (draws[:, 1:] - later).to(device, non_blocking=True).argsort(1).argsort(1)
    masked = (order < count.to(device, non_blocking=True)) | whole[:, None]  # (B, L)
    learnt = ((slice_number == 0) | ~beginning[:, None]).to(device, non_blocking=True)
    stand_in = torch.where(interior, condition, mask_token)
    return Masked(
        tokens=torch.where(masked, stand_in, tokens),
        refine=masked & interior & learnt,
        mask=masked & ~interior & learnt,
        reconstruct=~masked,
    )
