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

from trajvit.magvit.quantizers import rounded
from trajvit.magvit.tasks import Clip, Task
from trajvit.magvit.tokenizer import TokenizerConfig

FlatTokens = Int[Tensor, "B L"]


def interior(task: Task, clip: Clip, stride: Clip) -> Bool[Tensor, " L"]:
    """Which tokens of a task's condition see at least one given pixel; the others are mere padding (ispad, Eq. 5)."""
    visible = task.visible(clip).float()[None, None]
    return (F.max_pool3d(visible, stride, stride) > 0).flatten()


def own_tokens(task: Task, config: TokenizerConfig) -> Bool[Tensor, " L"]:
    """Which tokens of a task's condition are the clip's own, whatever it hides: all where all is shown, and those of the first
    slices that are shown whole, of a tokenizer that looks at no later ones. They are known: nothing is to be decoded there."""
    slices = task.visible(config.clip).unflatten(0, (config.grid[0], -1)).flatten(1).all(1)  # (t,)
    whole = slices.cumprod(0).bool() if config.padding == "causal" else slices.all().expand_as(slices)
    return whole.repeat_interleave(math.prod(config.grid[1:]))


def shown_digits(digits: Float[Tensor, "B L n"], interior: Bool[Tensor, "B L"] | Bool[Tensor, " L"]) -> Float[Tensor, "B L n"]:
    """Of a condition's digits, rounded or not, those of its interior tokens; NaN elsewhere."""
    return digits.masked_fill(~interior[..., None], torch.nan)


def shown_tokens(shown: Float[Tensor, "B L n"], levels: tuple[int, ...], mask_token: int) -> FlatTokens:
    """The tokens that `shown_digits` are rounded to, and the mask token elsewhere."""
    return torch.where(shown.isnan().any(-1), mask_token, rounded(shown.nan_to_num(), levels))


Schedule = Literal["cosine", "uniform", "pow", "log", "exp"]


def masked_share(progress: float | Tensor, length: int, schedule: Schedule = "cosine") -> Tensor:
    """The share of `length` tokens still masked after a share `progress` of the decoding, from 1 down to 0.

    The functions gamma of MaskGIT (arXiv:2202.04200, section 3.3) as MAGVIT's code has them: cosine and `pow`, 1 - r^2,
    unveil few tokens first and many last; `uniform` as many in each step; `log` many first; `exp` nearly all last, and here all.
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
    """A training input and which part of the loss each of its positions belongs to; known ones belong to none."""

    tokens: FlatTokens  # the mask token's number where masked and no interior condition token stands in
    refine: Bool[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]
    reconstruct: Bool[Tensor, "B L"]


def masked_positions(
    draws: Float[Tensor, "B L1"],
    whole: Bool[Tensor, " B"],
    from_the_end: Bool[Tensor, " B"],
    generates: Bool[Tensor, " B"],
    begun: float,
    per_slice: int,
    device: torch.device | str,
) -> Bool[Tensor, "B L"]:
    """Which positions of each sample are masked, in grids of time slices of `per_slice` positions; sorted, and given, on `device`.

    Samples in `whole`: every position, as when decoding begins. Others `from_the_end`: all slices after some slice, and a random
    part of that one, which is what decoding by slices meets; the share s that is masked has the density 3/2 s^(1/2), since
    the first slices, which leave most open, decide most. Where such a sample `generates`, of which a share `begun` alone is drawn
    (the rest is predicted from it), s is 1 - begun v^(3/2) of a uniform v. Others: random positions, as many as the cosine
    schedule leaves after a random share of the decoding (the paper's). `draws` are uniform random numbers: one for each
    sample's share and one for each of its positions. What is given is on the CPU.
    """
    length, draw = draws.shape[1] - 1, draws[:, :1]
    ends = torch.where(generates[:, None], 1 - begun * draw**1.5, (1 - draw) ** (2 / 3))
    share = torch.where(from_the_end[:, None], ends, masked_share(draw, length))
    count = (share * length).ceil().clamp(min=1).long()  # (B, 1)
    later = torch.arange(length) // per_slice * from_the_end[:, None]  # (B, L)
    drawn, count, whole = (given.to(device, non_blocking=True) for given in (draws[:, 1:] - later, count, whole[:, None]))
    return (drawn.argsort(1).argsort(1) < count) | whole


def commit_mask(
    tokens: FlatTokens, shown: FlatTokens, known: Bool[Tensor, "B L"], mask_token: int, masked: Bool[Tensor, "B L"]
) -> Masked:
    """The multivariate conditional mask of Eq. 5.

    A masked position holds what is shown there, the interior condition token if there is one and the mask token if not
    (`shown_tokens`); an unmasked one holds the clip's own token. The loss is refine + mask + reconstruct over these three sets
    (Eq. 6), here without those tokens that are the clip's own in either case (`own_tokens`; docs/tried.md).
    """
    interior = shown != mask_token
    return Masked(
        tokens=torch.where(masked, shown, tokens),
        refine=masked & interior & ~known,
        mask=masked & ~interior,
        reconstruct=~masked & ~known,
    )
