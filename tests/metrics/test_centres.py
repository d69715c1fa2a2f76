import numpy as np
import pytest
from trajvit.metrics.centres import ball_centres, centre_error, find_balls
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film


@pytest.fixture(scope="module", params=[{}, {"frames": 4, "height": 64, "width": 48, "channels": 3}])
def clips(request):
    return film(WorldConfig(**request.param), 0, "val", 0, 80)


def noisy(frames, deviation):
    noise = np.random.default_rng(0).normal(0, 255 * deviation, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def test_a_filmed_ball_is_one_ball_of_its_size(clips):
    balls = find_balls(clips.frames)
    assert (balls.count == 1).all() and not balls.missing.any() and not balls.doubled.any()
    assert np.abs(balls.radius - clips.radius).max() < 0.06


def test_its_centre_is_the_centre_of_all_light_above_the_haze(clips):
    light = np.clip(clips.frames.max(-1) / 255 - 0.1, 0, None)
    u = (light.sum(2) * np.arange(light.shape[3])).sum(-1) / light.sum((2, 3))
    assert np.allclose(ball_centres(clips.frames)[0][..., 0], u, atol=1e-9)


def test_a_doubled_ball_is_counted_and_the_brighter_one_is_the_ball(clips):
    ghost = np.roll(clips.frames, clips.frames.shape[2] // 2, axis=2) * 0.5
    double = np.maximum(clips.frames, ghost.astype(np.uint8))
    balls = find_balls(double)
    assert (balls.count >= 2).all() and (balls.doubled == 1).all()  # three where the ghost is cut by the border
    assert np.median(np.linalg.norm(balls.centres - clips.pixels, axis=-1)) < 0.05


def test_a_missing_ball_is_reported_and_counts_as_a_guess_at_the_middle(clips):
    frames = clips.frames.copy()
    frames[::2, 1] = 0
    balls = find_balls(frames)
    assert (balls.missing[::2] == 1 / frames.shape[1]).all() and not balls.missing[1::2].any()
    middle = (np.array(frames.shape[3:1:-1]) - 1) / 2
    assert np.allclose(centre_error(frames, clips.pixels)[::2, 1], np.linalg.norm(middle - clips.pixels[::2, 1], axis=-1))
    assert (balls.radius[::2, 1] == 0).all()


def test_a_faint_ball_is_found_where_it_is(clips):
    assert np.linalg.norm(ball_centres((clips.frames * 0.4).astype(np.uint8))[0] - clips.pixels, axis=-1).max() < 0.2


@pytest.mark.parametrize("deviation", [0.05, 0.1])
def test_noise_is_neither_a_ball_nor_a_second_ball(clips, deviation):
    assert (find_balls(noisy(np.zeros_like(clips.frames), deviation)).count == 0).all()
    balls = find_balls(noisy(clips.frames, deviation))
    assert (balls.count == 1).all() and np.linalg.norm(balls.centres - clips.pixels, axis=-1).mean() < 0.1


def test_static_and_white_frames_show_no_ball(clips):
    static = np.random.default_rng(0).integers(0, 256, clips.frames.shape, dtype=np.uint8)
    assert find_balls(static).missing.mean() > 0.99
    assert (find_balls(np.full_like(clips.frames, 255)).count == 0).all()


def test_a_ball_on_a_gray_background_is_found(clips):
    gray = np.maximum(clips.frames, 100)
    assert np.linalg.norm(ball_centres(gray)[0] - clips.pixels, axis=-1).max() < 0.2
