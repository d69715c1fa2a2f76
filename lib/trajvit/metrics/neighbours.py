"""Who is near whom: distances between two sets of vectors, in pieces that fit into memory."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

PIECE = 128


def nearest(
    points: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """The Euclidean distance from each of `points` to the nearest of `others`, and that one's row."""
    pieces = [(piece.min(axis=1), piece.argmin(axis=1)) for piece in distances(points, others)]
    distance, row = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return distance, row


def neighbour_radius(points: Float[np.ndarray, "N D"], k: int) -> Float[np.ndarray, " N"]:
    """The distance from each of `points` to the k-th nearest other one."""
    return np.concatenate([np.partition(piece, k, axis=1)[:, k] for piece in distances(points, points)])


def distances(points: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"]) -> Iterator[Float[np.ndarray, "n M"]]:
    """The Euclidean distances from `points` to all `others`, `PIECE` rows at a time."""
    # Centred, the squares of near points do not drown their difference.
    middle = others.mean(axis=0)
    others = others - middle
    squares = (others**2).sum(axis=1)
    for start in range(0, len(points), PIECE):
        piece = points[start : start + PIECE] - middle
        squared = (piece**2).sum(axis=1, keepdims=True) + squares - 2 * piece @ others.T
        yield np.sqrt(np.maximum(squared, 0))
