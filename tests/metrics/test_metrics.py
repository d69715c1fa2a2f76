import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trajvit.metrics.centres import ball_centres, centre_error
from trajvit.metrics.codes import code_perplexity, code_usage
from trajvit.metrics.fidelity import C1, C2, HIGHEST_DB, WINDOW, foreground_psnr, psnr, ssim
from trajvit.metrics.intervals import bootstrap_ci95, paired_difference, share_ci95
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film


@pytest.fixture(scope="module", params=[1, 3])
def clips(request):
    return film(WorldConfig(channels=request.param), 0, "val", 0, 40)


def test_the_ball_is_found_where_it_was_drawn(clips):
    centres, found = ball_centres(clips.frames)
    assert found.all() and np.abs(centres - clips.pixels).max() < 0.1


def test_a_shifted_ball_is_off_by_the_shift(clips):
    error = centre_error(clips.frames, clips.pixels + np.float32([3, 4]))
    assert np.allclose(error, 5, atol=0.1)


def test_a_missing_ball_is_said_to_be_missing_and_put_in_the_middle(clips):
    centres, found = ball_centres(np.zeros_like(clips.frames))
    assert not found.any() and (centres == 15.5).all()


def test_faint_haze_is_not_a_ball(clips):
    hazy = np.maximum(clips.frames, 20)
    assert np.abs(ball_centres(hazy)[0] - ball_centres(clips.frames)[0]).max() < 0.05


def test_a_clip_is_perfectly_like_itself(clips):
    assert (psnr(clips.frames, clips.frames) == HIGHEST_DB).all()
    assert (foreground_psnr(clips.frames, clips.frames) == HIGHEST_DB).all()
    dark = np.zeros_like(clips.frames)
    assert (foreground_psnr(dark + 200, dark) < 3).all() and (foreground_psnr(dark, dark) == HIGHEST_DB).all()


def test_psnr_of_a_known_error():
    frames, reference = np.full((1, 2, 4, 4, 1), 51, np.uint8), np.zeros((1, 2, 4, 4, 1), np.uint8)
    assert psnr(frames, reference)[0] == pytest.approx(-20 * np.log10(0.2), abs=1e-4)


def test_ssim_is_that_of_its_windows():
    pair = np.random.default_rng(0).integers(0, 256, (2, 3, 1, 11, 12, 3), dtype=np.uint8)
    weight, found = np.outer(WINDOW, WINDOW)[..., None], []
    for place in (0, 1):  # the two windows of such frames
        x, y = pair[:, :, 0, :, place : place + 11] / 255

        def mean(values):
            return (weight * values).sum((1, 2))

        covariance, spread = mean(x * y) - mean(x) * mean(y), mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
        brightness = (2 * mean(x) * mean(y) + C1) / (mean(x) ** 2 + mean(y) ** 2 + C1)
        found.append((brightness * (2 * covariance + C2) / (spread + C2)).mean(-1))
    assert ssim(*pair) == pytest.approx(np.mean(found, axis=0), abs=1e-5)


def test_ssim_knows_the_same_the_darker_and_the_other(clips):
    assert ssim(clips.frames, clips.frames) == pytest.approx(1, abs=1e-6)
    light, dark = np.full((1, 2, 16, 16, 1), 204, np.uint8), np.full((1, 2, 16, 16, 1), 102, np.uint8)
    assert ssim(light, dark) == pytest.approx((2 * 0.8 * 0.4 + C1) / (0.8**2 + 0.4**2 + C1), abs=1e-4)
    assert (ssim(np.roll(clips.frames, 12, axis=3), clips.frames) < ssim(clips.frames // 2, clips.frames)).all()
    with pytest.raises(InputError, match="needs 11 pixels"):
        ssim(clips.frames[:, :, :8], clips.frames[:, :, :8])


def test_a_blank_or_misplaced_ball_cannot_hide_in_the_black(clips):
    blank, elsewhere = np.zeros_like(clips.frames), np.roll(clips.frames, 12, axis=3)
    assert (psnr(blank, clips.frames) > 15).all()
    assert (foreground_psnr(blank, clips.frames) < 8).all()
    assert (foreground_psnr(elsewhere, clips.frames) < 8).all()


def test_code_usage_and_perplexity_of_known_tokens():
    tokens = np.repeat(np.arange(4), 25)
    assert code_usage(tokens, 16) == 0.25 and code_perplexity(tokens, 16) == pytest.approx(4)
    assert code_perplexity(np.zeros(9, int), 16) == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_intervals_hold_the_mean_and_shrink_with_more_clips(seed):
    values = np.random.default_rng(seed).normal(size=1600)
    low, high = bootstrap_ci95(values)
    assert low <= values.mean() <= high
    few_low, few_high = bootstrap_ci95(values[:100])
    assert high - low < few_high - few_low
    assert (high - low) == pytest.approx(2 * 1.96 / 40, rel=0.2)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = [low <= 1 <= high for low, high in (bootstrap_ci95(rng.exponential(size=200)) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_a_share_of_all_is_not_certain():
    assert share_ci95(np.ones(4000)) == (pytest.approx(0.99904, abs=1e-5), 1)
    assert share_ci95(np.zeros(10)) == (0, pytest.approx(0.2775, abs=1e-4))
    some = np.arange(1000) % 4 == 0
    assert share_ci95(some.astype(float)) == pytest.approx(bootstrap_ci95(some.astype(float)), abs=0.003)


def test_pairing_tells_apart_what_single_intervals_cannot():
    rng = np.random.default_rng(0)
    hard = rng.exponential(5, size=400)
    first, second = hard + rng.normal(0, 0.2, 400), hard + 0.1 + rng.normal(0, 0.2, 400)
    (low, high), (other_low, other_high) = bootstrap_ci95(first), bootstrap_ci95(second)
    least, most = paired_difference(first, second)
    assert other_low < high and low < other_high
    assert least < (first - second).mean() < most < 0 and (least + most) / 2 == pytest.approx(-0.1, abs=0.03)


def test_a_method_does_not_differ_from_itself():
    values = np.random.default_rng(0).normal(size=50)
    assert paired_difference(values, values) == (0, 0)
    with pytest.raises(InputError, match="on the same clips"):
        paired_difference(values, values[1:])


def test_few_clips_do_not_tell_two_shares_apart():
    all_right, four_wrong = np.ones(1000), (np.arange(1000) >= 4).astype(float)
    low, high = paired_difference(all_right, four_wrong)
    assert low < 0 < 0.004 < high < 0.02, "McNemar's exact test: p = 0.125"
    assert paired_difference(all_right, (np.arange(1000) >= 9).astype(float))[0] > 0
    assert paired_difference(all_right, all_right)[1] > 0, "that neither erred once proves nothing"
    rng = np.random.default_rng(0)
    first, second = (rng.random((300, 200, 2)) < (0.9, 0.85)).astype(float).transpose(2, 0, 1)
    hits = [low <= 0.05 <= high for low, high in map(paired_difference, first, second)]
    assert 0.91 <= np.mean(hits) <= 0.99
