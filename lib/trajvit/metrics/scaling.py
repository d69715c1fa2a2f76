"""How an error falls with the number of training samples, and how far that is known.

Power laws of this kind: Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically"; with a floor that no
number of samples passes: Henighan et al. 2020, "Scaling Laws for Autoregressive Generative Modeling".
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajvit.metrics.intervals import resampled_means

LEAST_SIZES = 3  # two points lie on every power law, and three on nearly every one with a floor
FLOORS = np.linspace(0.0, 0.99, 100)  # as shares of the smallest error


@dataclass(frozen=True)
class ScalingLaw:
    """error(N) = floor + amount N^-exponent, as fitted to the errors and to each of R bootstrap resamples of the clips, but
    never below `limit`, the best that can be reached.

    `resamples` (R, 3) are floor, amount and exponent of each. `doubts` say why the law is not determined; there are none
    where it is. The resamples know how the choice of clips scatters an error, not how another training's seed would.
    """

    floor: float
    amount: float
    exponent: float
    resamples: Float[np.ndarray, "R 3"]
    limit: float
    doubts: tuple[str, ...]

    @property
    def determined(self) -> bool:
        return not self.doubts

    @property
    def exponent_ci95(self) -> tuple[float, float]:
        low, high = np.percentile(self.resamples[:, 2], [2.5, 97.5])
        return float(low), float(high)

    def at(self, samples: int) -> float:
        """The error expected of so many samples."""
        return max(self.floor + self.amount * samples**-self.exponent, self.limit)

    def ci95_at(self, samples: int) -> tuple[float, float]:
        """The 95 % interval of that error."""
        low, high = np.percentile(self._resampled_at(samples), [2.5, 97.5])
        return float(low), float(high)

    def gain_ci95(self, fewer: int, more: int) -> tuple[float, float]:
        """The 95 % interval of how much the error falls from `fewer` samples to `more`."""
        low, high = np.percentile(self._resampled_at(fewer) - self._resampled_at(more), [2.5, 97.5])
        return float(low), float(high)

    def _resampled_at(self, samples: int) -> Float[np.ndarray, " R"]:
        floor, amount, exponent = self.resamples.T
        return np.maximum(floor + amount * samples**-exponent, self.limit)

    def __str__(self) -> str:
        floor = f"{self.floor:.3g} + " if self.floor else ""
        low, high = self.exponent_ci95
        said = f"error = {floor}{self.amount:.3g} N^{0.0 - self.exponent:.2g} (exponent {0.0 - high:.2g} to {0.0 - low:.2g})"
        return said + (f"; not determined: {'; '.join(self.doubts)}" if self.doubts else "")


def fit_scaling_law(samples: Int[np.ndarray, " K"], errors: Float[np.ndarray, "K N"], limit: float = 0.0) -> ScalingLaw:
    """Fit a law to the errors of N clips under models trained on K >= 2 numbers of samples, the same clips for each.

    A plain power law, unless that misses a measured error by more than its 95 % interval and one with a floor does not.
    """
    measured = errors.mean(axis=1)
    resampled = resampled_means(errors)  # (R, K)
    half = np.ptp(np.percentile(resampled, [2.5, 97.5], axis=0), axis=0) / 2
    fits, floors = True, FLOORS[:1]
    for floors in (FLOORS[:1], FLOORS) if len(samples) >= LEAST_SIZES else (FLOORS[:1],):
        floor, amount, exponent = _fit(samples, measured[None], floors)[0]
        missed = np.abs(floor + amount * samples**-exponent - measured)
        if fits := bool((missed <= half).all()):
            break
    if not fits:  # the simpler of two that miss
        floors = FLOORS[:1]
        floor, amount, exponent = _fit(samples, measured[None], floors)[0]
    law = ScalingLaw(float(floor), float(amount), float(exponent), _fit(samples, resampled, floors), limit, ())
    return ScalingLaw(**vars(law) | {"doubts": tuple(_doubts(law, len(samples), fits))})


def _fit(
    samples: Int[np.ndarray, " K"], means: Float[np.ndarray, "R K"], floors: Float[np.ndarray, " F"]
) -> Float[np.ndarray, "R 3"]:
    """Floor, amount and exponent of each row: least squares of the logarithms, at the best of the `floors`."""
    least = np.maximum(means, 1e-9)
    floor = floors[:, None] * least.min(axis=1)  # (F, R)
    x, y = np.log(samples), np.log(least - floor[..., None])  # (K,), (F, R, K)
    slope = (y * (x - x.mean())).sum(-1) / ((x - x.mean()) ** 2).sum()
    intercept = y.mean(-1) - slope * x.mean()
    fitted = floor[..., None] + np.exp(intercept[..., None] + slope[..., None] * x)
    best = (np.log(fitted / least) ** 2).sum(-1).argmin(0)  # (R,)
    rows = np.arange(len(means))
    return np.stack([floor[best, rows], np.exp(intercept[best, rows]), -slope[best, rows]], axis=-1)


def _doubts(law: ScalingLaw, sizes: int, fits: bool):
    if sizes < LEAST_SIZES:
        yield f"{sizes} sizes lie on every power law, {LEAST_SIZES} test one"
    elif law.floor and sizes <= LEAST_SIZES:
        yield f"{sizes} sizes lie on a power law with a floor, {LEAST_SIZES + 1} test one"
    if law.exponent_ci95[0] <= 0:
        yield "the error does not clearly fall with more samples"
    if not fits:
        yield "no power law, with a floor or without, passes within the intervals of all errors"
