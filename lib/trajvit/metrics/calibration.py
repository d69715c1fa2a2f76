"""Is a model as often right as it says?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajvit.metrics.intervals import resampled_means
from trajvit.settings import InputError

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """How sure and how right a classifier is, in bins of equal width of its confidence, and the mean gap between the two.

    `confidence` and `accuracy` are means over the clips of a bin, NaN where `count` is 0; `error` is the expected
    calibration error, the mean over clips of their bin's |accuracy - confidence|.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]
    error: float


def reliability(probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> Reliability:
    """Expected calibration error of the likeliest class (Guo et al., arXiv:1706.04599).

    Raises `InputError` where the rows of `probabilities` are not N distributions.
    """
    sums_to_one = np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)
    if len(labels) != len(probabilities) or not len(labels) or not sums_to_one or (probabilities < 0).any():
        raise InputError(
            f"{len(probabilities)} rows of probabilities, not all summing to 1, or not as many as the {len(labels)} labels: "
            f"give each clip's softmax"
        )
    sure = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, sure, BINS) / count
        accuracy = np.bincount(place, right, BINS) / count
    gap = np.nan_to_num(np.abs(accuracy - confidence))
    return Reliability(confidence, accuracy, count, float((gap * count).sum() / len(labels)))


@dataclass(frozen=True)
class Coverage:
    """How often the truth lies in the central regions of a model's S samples.

    `level` (S+1,) are the shares that regions of growing size should cover, `covered` (S+1,) the shares that they do. `error` is the
    mean of |covered - level|: above zero for a calibrated model, too, by chance. `ci95` is its 95 % interval, by the basic
    bootstrap over the N predictions (Davison and Hinkley 1997, section 5.2): resampling adds to the error once more what
    chance has added to it, so what is drawn is mirrored at the error.
    """

    level: Float[np.ndarray, " ranks"]
    covered: Float[np.ndarray, " ranks"]
    error: float
    ci95: tuple[float, float]


def sample_coverage(samples: Float[np.ndarray, "N S T D"], truth: Float[np.ndarray, "N T D"]) -> Coverage:
    """Do S samples of each of N predictions spread as the truth does? Each of the T frames counts by itself.

    Truth and samples are ranked by their mean distance to one another, the most central first: a multivariate rank
    histogram (Gneiting et al. 2008, Test 17, 211; Thorarinsdottir et al., arXiv:1310.0236). Where the truth is one more
    draw of the model's, its rank is even on 1..S+1, whatever the distribution. Ties are broken at random.
    Raises `InputError` for fewer than two samples.
    """
    if samples.shape[1] < 2:
        raise InputError(f"{samples.shape[1]} samples a clip were given; coverage needs two at least, better ten")
    pool = np.concatenate([truth[:, None], samples], axis=1).astype(np.float64)  # (N, S+1, T, D)
    apart = np.stack([np.linalg.norm(pool - pool[:, one : one + 1], axis=-1).sum(axis=1) for one in range(pool.shape[1])], axis=1)
    tie = np.random.Generator(np.random.Philox(key=0)).random(apart.shape)  # (N, S+1, T)
    before = (apart < apart[:, :1]) | ((apart == apart[:, :1]) & (tie < tie[:, :1]))
    rank = before[:, 1:].sum(axis=1)  # (N, T), 0 for the most central
    held = (rank[:, :, None] == np.arange(pool.shape[1])).sum(axis=1)  # (N, S+1), in how many frames the truth had each rank
    level = np.arange(1, pool.shape[1] + 1) / pool.shape[1]

    share = held / rank.shape[1]
    covered = share.mean(axis=0).cumsum()
    error = float(_off(covered[None], level)[0])
    low, high = np.percentile(_off(resampled_means(share.T).cumsum(axis=1), level), [2.5, 97.5])
    return Coverage(level, covered, error, (max(0.0, 2 * error - float(high)), max(error, 2 * error - float(low))))


def _off(covered: Float[np.ndarray, "R ranks"], level: Float[np.ndarray, " ranks"]) -> Float[np.ndarray, " R"]:
    return np.abs(covered - level).mean(axis=1)
