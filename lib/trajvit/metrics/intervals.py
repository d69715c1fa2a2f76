"""How sure a mean over clips is."""

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


def bootstrap_ci95(values: Float[np.ndarray, " N"], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, chapter 13)."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = rng.multinomial(values.size, np.full(values.size, 1 / values.size), size=RESAMPLES)  # (resamples, N)
    low, high = np.percentile(counts @ values / values.size, [2.5, 97.5])
    return float(low), float(high)
