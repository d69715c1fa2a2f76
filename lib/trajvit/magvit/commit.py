"""COMMIT: conditional masked modelling by interior tokens (arXiv:2212.05199, section 3.2).

Sequences are flattened token grids: tokens (B, L) int64 with L = t h w.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from trajvit.magvit.tasks import Clip, Task

Sequence = Int[Tensor, "B L"]


def interior(task: Task, clip: Clip, stride: Clip) -> Bool[Tensor, " L"]:
    """Which tokens of a task's condition see at least one given pixel; the others are mere padding (ispad, Eq. 5)."""
    visible = task.visible(clip).float()[None, None]
    return (F.max_pool3d(visible, stride, stride) > 0).flatten()


def cosine_schedule(progress: float | Tensor) -> Tensor:
    """The share of tokens still masked after a share `progress` of the decoding (MaskGIT's cosine)."""
    return torch.cos(torch.as_tensor(progress) * math.pi / 2)


@dataclass(frozen=True)
class Masked:
    """A training input and which part of the loss each of its positions belongs to."""

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
) -> Masked:
    """The multivariate conditional mask of Eq. 5, with a mask ratio drawn for each sample.

    A masked position holds the interior condition token if there is one and the mask token if not; an unmasked one
    holds the clip's own token. The loss is refine + mask + reconstruct over these three sets (Eq. 6). Samples in
    `whole` are masked in every position, as they are when decoding begins.
    """
    batch, length = tokens.shape
    draws = torch.rand(batch, 1 + length, device=tokens.device)
    count = (cosine_schedule(draws[:, :1]) * length).ceil().clamp(min=1)  # (B, 1)
    masked = (draws[:, 1:].argsort(1).argsort(1) < count) | whole[:, None]  # (B, L)
    stand_in = torch.where(interior, condition, mask_token)
    return Masked(
        tokens=torch.where(masked, stand_in, tokens),
        refine=masked & interior,
        mask=masked & ~interior,
        reconstruct=~masked,
    )
