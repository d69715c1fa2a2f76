"""Are generated clips copies of the training set?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trajvit.metrics.neighbours import nearest
from trajvit.settings import InputError

CLOSE_PERCENTILE = 1


@dataclass(frozen=True)
class Memorization:
    """Distances to the nearest training clip: of each generated clip, of each held-out real one, and the two compared.

    `closer` are the generated clips that are nearer to a training clip than the held-out clips' percentile
    `CLOSE_PERCENTILE`: 1 in 100 of new clips. `row` is each generated clip's nearest training clip.
    """

    generated: Float[np.ndarray, " N"]
    held_out: Float[np.ndarray, " M"]
    row: Int[np.ndarray, " N"]
    closer: Bool[np.ndarray, " N"]


def memorization(
    generated: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"], training: Float[np.ndarray, "K D"]
) -> Memorization:
    """Compare generated with held-out real clips in their distance to the training clips, in any space of vectors, such as the ball's
    centre and radius in every frame.

    Raises `InputError` where a set is empty.
    """
    if not (len(generated) and len(held_out) and len(training)):
        raise InputError(
            f"{len(generated)} generated, {len(held_out)} held-out and {len(training)} training samples were given: give at "
            f"least one of each"
        )
    (near, row), (usual, _) = nearest(generated, training), nearest(held_out, training)
    return Memorization(near, usual, row, near < np.percentile(usual, CLOSE_PERCENTILE))
