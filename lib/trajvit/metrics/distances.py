"""How far the distribution of generated clips is from that of real ones, in features of an own network.

Features are (N, D) arrays, one row a clip, all of one network. The network is ours, so no figure is comparable with a
published FVD: call these *own-feature Fréchet video distance* and *own-feature kernel distance*, and show the floor beside
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from trajvit.metrics.intervals import NORMAL
from trajvit.metrics.neighbours import PIECE
from trajvit.settings import InputError

Features = Float[np.ndarray, "_ _"]
Moments = tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]  # mean and covariance
Measure = Callable[[Features, Features], float | Sequence[float]]  # of one set beside another: one number, or several
MOST_PARTS = 8  # of the real features, which are compared in pairs
PICKS = 40  # of three quarters of the generated features


def frechet_distance(features: Features, others: Features) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the means and covariances of two sets (Heusel et al., arXiv:1706.08500).

    Raises `InputError` when a set has no more samples than features: its covariance would be singular.
    """
    _check_alike(features, others)
    for one in (features, others):
        if len(one) <= one.shape[1]:
            raise InputError(
                f"{len(one)} samples of {one.shape[1]} features were given; the Fréchet distance needs more samples than "
                f"features: give at least {one.shape[1] + 1}, or use the kernel distance"
            )
    own = _moments(features)
    return _frechet(own, _square_root(own[1]), _moments(others))


def kernel_distance(features: Features, others: Features) -> float:
    """The unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (Binkowski et al., arXiv:1801.01401).

    It is 0 on average for two sets drawn from one distribution, and may be negative; a little less where both take the classes
    in turn. Raises `InputError` for fewer than two samples.
    """
    _check_alike(features, others)
    if min(len(features), len(others)) < 2:
        raise InputError(f"{len(features)} and {len(others)} samples were given; the kernel distance needs two of each")
    within = sum((_kernel_sum(one, one) - (_kernel(one, one)).sum()) / (len(one) * (len(one) - 1)) for one in (features, others))
    return float(within - 2 * _kernel_sum(features, others) / (len(features) * len(others)))


@dataclass(frozen=True)
class Measured:
    """What generated features come to beside real ones, and the floor: what real ones come to, as many, beside others.

    Both are as many numbers, (K,) float, as the measure tells; () for one.
    """

    value: Float[np.ndarray, "*K"]
    floor: Float[np.ndarray, "*K"]
    samples: int


def beside_floor(measure: Measure, generated: Features, real: Features) -> Measured:
    """A measure of generated features beside real ones, and its real-vs-real floor at the same sample size n, on which both depend.

    n is what `generated` and half of `real` have both. `real` is cut, in its order, into at most `MOST_PARTS` parts of n; in the order
    in which they were filmed each has all classes as often. The value is the mean over the parts and the floor that over all
    their pairs, since one pair may be half as far again as another. Too few samples raise `InputError`, of their own or the measure's.
    """
    parts = _parts(generated, real)
    floor = _mean([measure(one, other) for one, other in combinations(parts, 2)])
    return Measured(mean_over_parts(measure, generated, real), floor, len(parts[0]))


def mean_over_parts(measure: Measure, generated: Features, real: Features) -> Float[np.ndarray, "*K"]:
    """The value of `beside_floor` alone."""
    parts = _parts(generated, real)
    return _mean([measure(generated[: len(part)], part) for part in parts])


def frechet_reach(generated: Features, labels: Int[np.ndarray, " N"], real: Features) -> float:
    """How far to either side the 95 % interval of `beside_floor`'s Fréchet distance goes, over draws of as many clips of the same `labels`.

    By the jackknife that leaves a quarter out (Shao and Wu, Annals of Statistics 17, 1176, 1989): distances of m of the n clips, the same
    share of each class, have (n - m) / m times the variance of whole draws. Only their scatter counts, not their mean, which is
    higher for fewer clips. (A bootstrap would take clips twice, which moves a distance.) The chance in the real clips is left out.
    Each label has two clips or more, and three quarters of all are more than there are features.
    """
    parts, rng = _parts(generated, real), np.random.Generator(np.random.Philox(key=0))
    generated, labels = generated[: len(parts[0])], labels[: len(parts[0])]
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept, beside = [len(rows) * 3 // 4 for rows in classes], _moments(np.concatenate(parts))
    root = _square_root(beside[1])  # once for all picks
    picks = [
        np.concatenate([rng.permutation(rows)[:count] for rows, count in zip(classes, kept, strict=True)]) for _ in range(PICKS)
    ]
    scatter = float(np.std([_frechet(beside, root, _moments(generated[pick])) for pick in picks], ddof=1))
    return NORMAL * scatter * (sum(kept) / (len(generated) - sum(kept))) ** 0.5


def _frechet(moments: Moments, root: Float[np.ndarray, "D D"], others: Moments) -> float:
    """The distance of two sets by their moments; `root` is the square root of the first covariance."""
    (mean, covariance), (other_mean, other_covariance) = moments, others
    # tr (C1 C2)^(1/2) = tr (C1^(1/2) C2 C1^(1/2))^(1/2), whose argument is symmetric.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0)).sum()
    apart = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return max(float(apart), 0.0)


def _mean(measured: Sequence[float | Sequence[float]]) -> Float[np.ndarray, "*K"]:
    return np.asarray(np.mean(measured, axis=0))


def _parts(generated: Features, real: Features) -> list[Features]:
    samples = min(len(generated), len(real) // 2)
    if not samples:
        raise InputError(f"{len(generated)} generated and {len(real)} real samples were given; give one and two at least")
    return [real[at : at + samples] for at in range(0, len(real) - samples + 1, samples)][:MOST_PARTS]


def _check_alike(features: Features, others: Features) -> None:
    if features.shape[1] != others.shape[1]:
        raise InputError(f"{features.shape[1]} and {others.shape[1]} features were given: compare those of one network")
    for one in (features, others):
        if not np.isfinite(one).all():
            raise InputError(
                f"{int((~np.isfinite(one)).any(axis=1).sum())} samples have features that are not finite: leave them out"
            )


def _moments(features: Features) -> Moments:
    features = features.astype(np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def _square_root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _kernel(features: Features, others: Features) -> Float[np.ndarray, " N"]:
    """The kernel of each row with the same row of `others`."""
    return ((features.astype(np.float64) * others).sum(axis=1) / features.shape[1] + 1) ** 3


def _kernel_sum(features: Features, others: Features) -> float:
    """The sum of the kernel over all pairs."""
    features, others = features.astype(np.float64) / features.shape[1], others.astype(np.float64)
    return float(sum(((features[at : at + PIECE] @ others.T + 1) ** 3).sum() for at in range(0, len(features), PIECE)))
