"""One prediction from several views of a clip: the geometric self-ensemble (Lim et al., arXiv:1707.02921, section 3.4)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajvit.datasets.loading import rolled

Video = Float[Tensor, "B C T H W"]

MOVES = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # px down and across
DARK = 0.02  # what is no brighter is background: five of 255 levels, as a tokenizer leaves where it was black


def self_ensemble(complete: Callable[[Video], Video], video: Video) -> Video:
    """The mean of what `complete` makes of clips and of four copies of them, moved by a pixel along each diagonal, moved back.

    Each copy falls otherwise on the grid of tokens, so what these tell wrongly of where things are comes out
    otherwise. Where light would leave the view, in what is shown or in what `complete` made of it, a clip stays on that axis. What
    was made of a copy out of the clip's view is cut off.
    """
    first = complete(video)
    lit = first.amax((1, 2)) > DARK  # (B, H, W)
    total = first
    for move in MOVES:
        down, across = _with_room(lit.any(2), move[0]), _with_room(lit.any(1), move[1])
        moves = bool(down.any() or across.any())
        made = complete(rolled(rolled(video, down, 3), across, 4)) if moves else first
        total = total + _moved_back(_moved_back(made, down, 3), across, 4)
    return total / (1 + len(MOVES))


def with_mirror_image(complete: Callable[[Video], Video]) -> Callable[[Video], Video]:
    """The mean of what `complete` makes of clips and of their mirror images, mirrored back: of worlds that look alike in one."""
    return lambda video: (complete(video) + complete(video.flip(4)).flip(4)) / 2


def _with_room(lit: Bool[Tensor, "B S"], by: int) -> Int[Tensor, " B"]:
    """`by`, one pixel, for the clips whose last row or column on that side is dark, and 0 for the others."""
    return torch.where(lit[:, -1 if by > 0 else 0], 0, by)


def _moved_back(made: Video, by: Int[Tensor, " B"], axis: int) -> Video:
    """Clips that were moved `by` a pixel, or not, as they were; what leaves the view does not enter it at the other end."""
    places = torch.arange(made.shape[axis], device=made.device)
    leaves = (by[:, None] > 0) & (places == 0) | (by[:, None] < 0) & (places == len(places) - 1)  # (B, S)
    return rolled(made.masked_fill(leaves.view(len(made), 1, 1, *((-1, 1) if axis == 3 else (1, -1))), 0), -by, axis)
