import numpy as np
import pytest
from trajvit.metrics.scaling import fit_scaling_law

SIZES = np.array([1000, 5000, 30000])


def errors(truth, sizes=SIZES, clips=400, spread=0.3):
    """Errors of clips whose means are a law's, hard clips hard for all."""
    hardness = np.random.Generator(np.random.Philox(key=1)).lognormal(-(spread**2) / 2, spread, clips)
    return np.outer(truth(sizes.astype(float)), hardness / hardness.mean())


def test_a_power_law_is_found_and_continued():
    law = fit_scaling_law(SIZES, errors(lambda n: 30 * n**-0.3))
    assert law.determined and law.floor == 0
    assert (law.amount, law.exponent) == (pytest.approx(30, rel=1e-3), pytest.approx(0.3, rel=1e-3))
    assert law.at(100_000) == pytest.approx(30 * 1e5**-0.3, rel=1e-3)
    low, high = law.ci95_at(100_000)
    assert low < law.at(100_000) < high
    low, high = law.gain_ci95(30_000, 100_000)
    assert 0 < low < law.at(30_000) - law.at(100_000) < high
    assert fit_scaling_law(SIZES, errors(lambda n: 30 * n**-0.3), limit=0.9).at(10**9) == 0.9


def test_a_floor_is_found_where_the_errors_bend():
    sizes = np.array([1000, 3000, 10_000, 30_000])
    law = fit_scaling_law(sizes, errors(lambda n: 0.5 + 300 * n**-0.8, sizes))
    assert law.determined and law.floor == pytest.approx(0.5, abs=0.02) and law.exponent == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("sizes", "truth", "why"),
    [
        (SIZES[:2], lambda n: 30 * n**-0.3, "2 sizes lie on every power law"),
        (SIZES, lambda n: 0.5 + 300 * n**-0.8, "3 sizes lie on a power law with a floor, 4 test one"),
        (SIZES, lambda n: 1 + 0 * n, "does not clearly fall"),
        (SIZES, lambda n: np.where(n < 10_000, 2.0, 1.0) + n * 1e-9, "no power law"),
    ],
)
def test_what_is_not_determined_says_why(sizes, truth, why):
    law = fit_scaling_law(sizes, errors(truth, sizes))
    assert not law.determined and why in str(law)
