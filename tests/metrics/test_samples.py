"""Diversity, memorization and calibration: what sets of samples say of a model."""

import numpy as np
import pytest
from trajvit.metrics.calibration import reliability, sample_coverage
from trajvit.metrics.diversity import diversity
from trajvit.metrics.memorization import memorization
from trajvit.metrics.neighbours import nearest, neighbour_radius
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_neighbours_are_those_of_all_pairs():
    a, b = normal(700, 5), normal(90, 5, seed=1)
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    distance, row = nearest(a, b)
    assert np.allclose(distance, apart.min(1)) and np.array_equal(row, apart.argmin(1))
    own = np.sort(np.linalg.norm(b[:, None] - b[None], axis=-1), axis=1)
    assert np.allclose(neighbour_radius(b, 3), own[:, 3])


def test_a_set_is_as_precise_and_as_diverse_as_itself():
    one = normal(300, 4)
    same = diversity(one, one)
    assert same.precision == same.recall == same.coverage == 1 and same.density > 1


def test_two_draws_of_one_distribution_score_as_expected():
    # Naeem et al., section 3.3: density is 1 and coverage 1 - 1/2^k on average.
    found = diversity(normal(2000, 3), normal(2000, 3, seed=1))
    assert found.density == pytest.approx(1, abs=0.05) and found.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_collapse_costs_recall_and_coverage_and_wildness_costs_precision():
    real = normal(500, 3)
    collapsed, wild = diversity(0.1 * normal(500, 3, seed=1), real), diversity(10 * normal(500, 3, seed=1), real)
    assert collapsed.precision > 0.95 and collapsed.recall < 0.1 and collapsed.coverage < 0.3
    assert wild.precision < 0.1 and wild.density < 0.1
    with pytest.raises(InputError, match="5 neighbours need 6 of each"):
        diversity(real, real[:5])


def test_copied_training_clips_are_caught_and_new_ones_are_not():
    def rows(split, start, stop):
        return film(WorldConfig(), 0, split, start, stop).frames.reshape(stop - start, -1).astype(np.float32) / 255

    training, held_out, new = rows("train", 0, 1000), rows("test", 0, 300), rows("val", 0, 300)
    copies = np.clip(training[100:400] + 0.01 * normal(300, training.shape[1]).astype(np.float32), 0, 1)
    caught, cleared = memorization(copies, held_out, training), memorization(new, held_out, training)
    assert (
        np.median(caught.generated) < 0.3 * np.median(caught.held_out)
        and caught.closer.mean() > 0.95
        and np.array_equal(caught.row, np.arange(100, 400))
    )
    assert np.median(cleared.generated) == pytest.approx(np.median(cleared.held_out), rel=0.15) and cleared.closer.mean() < 0.05
    assert memorization(training[:9], held_out, training).generated.max() < 0.1
    with pytest.raises(InputError, match="at least one of each"):
        memorization(new[:0], held_out, training)


def test_a_classifier_that_is_as_right_as_it_says_has_no_calibration_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 40_000)
    labels = (rng.random(40_000) >= sure).astype(int)  # the first class with probability `sure`
    good = reliability(np.stack([sure, 1 - sure], axis=1), labels)
    assert good.error < 0.01 and good.count.sum() == 40_000
    filled = good.count > 0
    assert np.allclose(good.confidence[filled], good.accuracy[filled], atol=0.03)


def test_calibration_error_of_known_answers():
    # Eight of ten right at 95 %: off by 0.15.
    probabilities, labels = np.tile([0.95, 0.05], (10, 1)), np.array([0] * 8 + [1] * 2)
    assert reliability(probabilities, labels).error == pytest.approx(0.15)
    assert reliability(np.eye(4)[[0, 1, 2]], np.array([0, 1, 2])).error == 0
    with pytest.raises(InputError, match="softmax"):
        reliability(np.ones((3, 4)), np.array([0, 1, 2]))


@pytest.mark.parametrize("samples", [4, 10])
def test_samples_of_the_truths_own_distribution_cover_it_as_they_should(samples):
    centre = 10 * normal(3000, 1, 2, 2)
    drawn = centre + normal(3000, samples, 2, 2, seed=1) * np.array([1.0, 3.0])
    truth = centre[:, 0] + normal(3000, 2, 2, seed=2) * np.array([1.0, 3.0])
    found = sample_coverage(drawn, truth)
    assert found.error < 0.015 and np.allclose(np.diff(found.covered, prepend=0), 1 / (samples + 1), atol=0.02)
    assert found.ci95[0] == 0 and found.error <= found.ci95[1] < 0.03


def test_samples_that_are_too_sure_cover_too_little_and_too_wide_ones_too_much():
    truth, drawn = normal(2000, 1, 2), normal(2000, 10, 1, 2, seed=1)
    sure, wide = sample_coverage(0.2 * drawn, truth), sample_coverage(5 * drawn, truth)
    assert sure.covered[4] < 0.2 and sure.covered[-2] < 0.5
    assert wide.covered[4] > 0.8
    assert sure.ci95[0] <= sure.error <= sure.ci95[1] and sure.ci95[0] > sample_coverage(drawn, truth).ci95[1]
    copies = sample_coverage(np.repeat(truth[:, None], 10, axis=1), truth)
    assert copies.error < 0.03  # all alike: the truth's rank is drawn by lot
    with pytest.raises(InputError, match="two at least"):
        sample_coverage(drawn[:, :1], truth)
