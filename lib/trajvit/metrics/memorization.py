"""Are generated clips copies of the training set?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajvit.metrics.neighbours import nearest
from trajvit.settings import InputError

CLOSE_PERCENTILE = 1


@dataclass(frozen=True)
class Memorization:
    """Distances to the nearest training clip: of each generated clip, of each held-out real one, and the two compared.

    `median_ratio` is the generated clips' median over the held-out clips': 1 for new clips, 0 for copies. `share_closer`
    is the share of generated clips nearer to a training clip than the held-out clips' percentile `CLOSE_PERCENTILE`:
    0.01 for new clips. `row` is each generated clip's nearest training clip.
    """

    generated: Float[np.ndarray, " N"]
    held_out: Float[np.ndarray, " M"]
    row: Int[np.ndarray, " N"]
    median_ratio: float
    share_closer: float


def memorization(
    generated: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"], training: Float[np.ndarray, "K D"]
) -> Memorization:
    """Compare generated with held-out real clips in their distance to the training clips, in pixels or features.

    Give clips of pixels as float32 rows. Raises `InputError` where a set is empty.
    """
    if not (len(generated) and len(held_out) and len(training)):
        raise InputError(
            f"{len(generated)} generated, {len(held_out)} held-out and {len(training)} training samples were given: give at "
            f"least one of each"
        )
    (near, row), (usual, _) = nearest(generated, training), nearest(held_out, training)
    return Memorization(
        near,
        usual,
        row,
        median_ratio=float(np.median(near) / max(np.median(usual), 1e-12)),
        share_closer=float((near < np.percentile(usual, CLOSE_PERCENTILE)).mean()),
    )
