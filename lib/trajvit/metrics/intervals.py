"""How sure a mean over clips is."""

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
# The 97.5 % point of Student's t for 1, 2, ... degrees of freedom.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def bootstrap_ci95(values: Float[np.ndarray, " N"], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, chapter 13)."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = rng.multinomial(values.size, np.full(values.size, 1 / values.size), size=RESAMPLES)  # (resamples, N)
    low, high = np.percentile(counts @ values / values.size, [2.5, 97.5])
    return float(low), float(high)


def seeds_ci95(values: Float[np.ndarray, " seeds"]) -> tuple[float, float]:
    """The 95 % interval of the mean of a few trainings that differ in their seed, 2 to 10, by Student's t."""
    mean, half = values.mean(), STUDENT_T[values.size - 2] * values.std(ddof=1) / values.size**0.5
    return float(mean - half), float(mean + half)
