import numpy as np
import pytest
from trajvit.metrics.distances import MOST_PARTS, beside_floor, frechet_distance, frechet_reach, kernel_distance
from trajvit.settings import InputError

RNG = np.random.default_rng(0)


def normal(count, mean, deviation, seed=0):
    return np.random.default_rng(seed).normal(size=(count, len(mean))) * deviation + mean


def exact(mean, covariance, seed=0):
    """Samples whose mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).normal(size=(200, len(mean)))
    white = (raw - raw.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_a_set_is_at_no_distance_from_itself():
    features = normal(200, np.zeros(8), 1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)
    # The unbiased estimate leaves each sample's kernel with itself out of the sums within a set.
    assert kernel_distance(features, features) < 0
    assert kernel_distance(features, np.roll(features, 1, axis=0)) == pytest.approx(kernel_distance(features, features))


def test_frechet_of_two_normal_distributions_is_what_the_formula_says():
    first, second = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 1.0, 9.0])
    apart = frechet_distance(exact(np.zeros(3), first), exact(np.array([3.0, 0, 4]), second, seed=1))
    assert apart == pytest.approx(25 + (2 - 1) ** 2 + (1 - 2) ** 2)


def test_frechet_of_covariances_that_do_not_commute():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    first, second = np.diag([1.0, 9.0]), turn @ np.diag([1.0, 9.0]) @ turn.T
    values = np.linalg.eigvals(first @ second)
    expected = np.trace(first) + np.trace(second) - 2 * np.sqrt(values.real).sum()
    zero = np.zeros(2)
    assert frechet_distance(exact(zero, first), exact(zero, second, seed=1)) == pytest.approx(expected)


def test_a_turn_of_all_features_changes_neither_distance():
    a, b = normal(100, np.zeros(6), 1), normal(100, np.ones(6), 2, seed=1)
    turn, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b))
    assert kernel_distance(a @ turn, b @ turn) == pytest.approx(kernel_distance(a, b))


def test_the_kernel_distance_is_zero_on_average_for_one_distribution_and_grows_with_the_shift():
    same = [kernel_distance(normal(60, np.zeros(4), 1, s), normal(60, np.zeros(4), 1, s + 100)) for s in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    moved = [kernel_distance(normal(600, np.zeros(4), 1), normal(600, np.full(4, by), 1, 1)) for by in (0.5, 1.0)]
    assert 0.05 < moved[0] < moved[1]


def test_the_kernel_distance_of_two_pairs_by_hand():
    a, b = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    within = (0 * 1 + 1) ** 3 + (2 * 3 + 1) ** 3
    between = np.mean([(x * y + 1) ** 3 for x in (0, 1) for y in (2, 3)])
    assert kernel_distance(a, b) == pytest.approx(within - 2 * between)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_real_clips_stand_at_the_floor_and_wrong_ones_far_above(distance):
    real, more = normal(2000, np.zeros(8), 1), normal(1000, np.zeros(8), 1, seed=1)
    good, bad = beside_floor(distance, more, real), beside_floor(distance, more + 1, real)
    assert good.samples == 1000 and abs(good.value - good.floor) < 0.1 * bad.value
    assert bad.floor == good.floor < 0.1 * bad.value


def test_too_few_samples_and_features_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"8 samples of 8 features .* at least 9"):
        frechet_distance(normal(8, np.zeros(8), 1), normal(50, np.zeros(8), 1))
    with pytest.raises(InputError, match="two of each"):
        kernel_distance(normal(1, np.zeros(8), 1), normal(50, np.zeros(8), 1))
    with pytest.raises(InputError, match="1 generated and 1 real samples were given; give one and two"):
        beside_floor(kernel_distance, normal(1, np.zeros(8), 1), normal(1, np.zeros(8), 1))
    with pytest.raises(InputError, match="one network"):
        frechet_distance(normal(50, np.zeros(8), 1), normal(50, np.zeros(7), 1))
    with pytest.raises(InputError, match="1 samples have features that are not finite"):
        broken = normal(50, np.zeros(8), 1)
        broken[3, 2] = np.nan
        kernel_distance(broken, normal(50, np.zeros(8), 1))


def test_the_floor_is_one_of_like_with_like_where_classes_take_turns():
    turns = np.arange(2000)[:, None] % 4 * 10.0
    features = normal(2000, np.zeros(3), 1) + turns
    assert beside_floor(frechet_distance, features[:500], features).floor < 1


def test_every_part_of_the_real_ones_is_compared_and_every_pair_makes_the_floor():
    real, made = np.arange(11.0)[:, None], np.full((3, 1), 100.0)
    compared = []

    def distance(features, others):
        compared.append((features[0, 0], others[0, 0]))
        return features[0, 0] + others[0, 0]

    found = beside_floor(distance, made, real)
    assert sorted(compared) == [(0, 3), (0, 6), (3, 6), (100, 0), (100, 3), (100, 6)]
    assert (found.value, found.floor, found.samples) == (103, 6, 3)


def test_a_measure_of_several_numbers_is_averaged_number_by_number():
    real, made = np.arange(6.0)[:, None], np.full((2, 1), 100.0)
    found = beside_floor(lambda features, others: (features[0, 0], others[0, 0]), made, real)
    assert np.allclose(found.value, [100, 2]) and np.allclose(found.floor, [(0 + 0 + 2) / 3, (2 + 4 + 4) / 3])


def test_no_more_parts_are_compared_than_pairs_can_be():
    compared = []
    beside_floor(lambda features, others: compared.append(1) or 0.0, np.zeros((2, 1)), np.zeros((4000, 1)))
    assert len(compared) == MOST_PARTS + MOST_PARTS * (MOST_PARTS - 1) // 2


@pytest.mark.parametrize(("moved", "deviation"), [(0.3, 0.8), (0.0, 1.0)])
def test_the_interval_of_a_frechet_distance_is_as_wide_as_draws_scatter(moved, deviation):
    """Far from the floor, and there, where it may be somewhat too wide."""
    labels = np.arange(400) % 4
    places = labels[:, None] * 5.0  # the classes lie far apart, and are drawn as often in each draw
    real = np.concatenate([normal(400, np.zeros(6), 1, seed) + places for seed in range(3)])
    draws = [normal(400, np.full(6, moved), deviation, 10 + seed) + places for seed in range(40)]
    scatter = np.std([beside_floor(frechet_distance, draw, real).value for draw in draws], ddof=1)
    reach = np.mean([frechet_reach(draw, labels, real) for draw in draws])
    assert 0.75 < reach / (1.96 * scatter) < 1.5
