"""How sure a mean over clips is."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from trajvit.settings import InputError

RESAMPLES = 2000
# The 97.5 % point of the normal distribution.
NORMAL = 1.959964
# The same of Student's t for 1, 2, ... degrees of freedom.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def mean_ci95(values: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """The 95 % interval of the mean of `values`: a share's where they are hits and misses, or else the bootstrap's."""
    return share_ci95(values) if _hits(values) else bootstrap_ci95(values)


def bootstrap_ci95(values: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.percentile(_resamples(values.size) @ values / values.size, [2.5, 97.5])
    return float(low), float(high)


def share_ci95(hits: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """The 95 % interval of a share, of N clips with 1 for a hit and 0 for a miss (Wilson, J. Am. Stat. Assoc. 22, 1927).

    Where all hit or none do, all resamples are alike and the bootstrap would be sure; this is not.
    """
    squared = NORMAL**2 / hits.size

    def lowest(share: float) -> float:
        half = NORMAL * (share * (1 - share) / hits.size + squared / (4 * hits.size)) ** 0.5
        return share**2 / (share + squared / 2 + half)  # which loses no digits where next to none hit

    share = float(hits.mean())
    return lowest(share), 1 - lowest(1 - share)


def resampled_means(values: Float[np.ndarray, "K N"]) -> Float[np.ndarray, "R K"]:
    """The means of K rows of values of the same N clips in each bootstrap resample of the clips."""
    return _resamples(values.shape[1]) @ values.T / values.shape[1]


@lru_cache(maxsize=2)
def _resamples(size: int) -> Float[np.ndarray, "resamples N"]:
    """How often each of `size` values is drawn in each resample: kept, since one evaluation asks for it a hundred times."""
    rng = np.random.Generator(np.random.Philox(key=0))
    return rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64)


def seeds_ci95(values: Float[np.ndarray, " seeds"]) -> tuple[float, float]:
    """The 95 % interval of the mean of a few trainings that differ in their seed, 2 to 10, by Student's t."""
    mean, half = values.mean(), STUDENT_T[values.size - 2] * values.std(ddof=1) / values.size**0.5
    return float(mean - half), float(mean + half)


def paired_difference(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " M"]) -> tuple[float, float]:
    """The 95 % interval of the mean of `first - second`, two methods' values on the same clips in the same order: the bootstrap's
    or, of hits and misses, that of two shares.

    Pairing takes out how hard each clip is, so it tells apart methods whose own intervals overlap. Raises `InputError`
    where the clips cannot be the same.
    """
    if len(first) != len(second) or not len(first):
        raise InputError(f"{len(first)} and {len(second)} values were given: pair two methods' values on the same clips")
    first, second = first.astype(np.float64), second.astype(np.float64)
    return _paired_shares_ci95(first, second) if _hits(first) and _hits(second) else bootstrap_ci95(first - second)


def _hits(values: Float[np.ndarray, " N"]) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _paired_shares_ci95(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares of the same clips (Newcombe, Statistics in Medicine 17, 2635, 1998, method 10).

    Where few clips tell the two apart, or none, the bootstrap would be too sure; this is not.
    """
    share, other = first.mean(), second.mean()
    alike = (first * second).mean() - share * other  # (ad - bc) / N^2 of the fourfold table
    spread = (share * (1 - share) * other * (1 - other)) ** 0.5
    correlation = (alike if alike < 0 else max(0.0, alike - 0.5 / first.size)) / spread if spread else 0.0
    (low, high), (other_low, other_high) = share_ci95(first), share_ci95(second)

    def reach(own: float, others: float) -> float:
        return float((own**2 - 2 * correlation * own * others + others**2) ** 0.5)

    apart = float(share - other)
    return apart - reach(share - low, other_high - other), apart + reach(high - share, other - other_low)
