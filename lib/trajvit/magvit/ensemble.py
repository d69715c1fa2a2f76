"""One prediction from several views of a clip: the geometric self-ensemble (Lim et al., arXiv:1707.02921, section 3.4)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajvit.datasets.loading import rolled

Video = Float[Tensor, "B C T H W"]

MOVES = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # px down and across
DARK = 0.02  # what is no brighter is background: five of 255 levels, as a tokenizer leaves where it was black


def self_ensemble(complete: Callable[[Video], Video], video: Video) -> Video:
    """The mean of what `complete` makes of clips and of four copies of them, moved by a pixel along each diagonal, moved back.

    Each copy falls otherwise on the grid of tokens, so what rounding to a code tells wrongly of where things are comes out
    otherwise. Where light would leave the view, in what is shown or in what `complete` made of it, a clip stays on that axis; where
    what was made of a copy would leave the view as it is moved back, the clip's own counts once more.
    """
    first = complete(video)
    total, rows, columns = first, *_lit(first)
    for move in MOVES:
        down, across = (torch.where(_leaves(lit, by), 0, by) for lit, by in zip((rows, columns), move, strict=True))
        moves = bool(down.any() or across.any())
        made = complete(rolled(rolled(video, down, 3), across, 4)) if moves else first
        made_rows, made_columns = _lit(made)
        lost = (down != 0) & _leaves(made_rows, -move[0]) | (across != 0) & _leaves(made_columns, -move[1])
        back = rolled(rolled(made, -down, 3), -across, 4)
        total = total + torch.where(lost[:, None, None, None, None], first, back)
    return total / (1 + len(MOVES))


def with_mirror_image(complete: Callable[[Video], Video]) -> Callable[[Video], Video]:
    """The mean of what `complete` makes of clips and of their mirror images, mirrored back: of worlds that look alike in one."""
    return lambda video: (complete(video) + complete(video.flip(4)).flip(4)) / 2


def _lit(video: Video) -> tuple[Bool[Tensor, "B H"], Bool[Tensor, "B W"]]:
    """The rows and the columns of each clip in which there ever is light."""
    lit = video.amax((1, 2)) > DARK
    return lit.any(2), lit.any(1)


def _leaves(lit: Bool[Tensor, "B S"], by: int) -> Bool[Tensor, " B"]:
    """Whether light leaves the view of each clip that is moved by one pixel."""
    return lit[:, -1 if by > 0 else 0]
