import numpy as np
import pytest
from trajvit.metrics.lawfulness import lawfulness
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import film
from trajvit.worlds.renderer import render


def drawn(pixels, config):
    """Clips of a ball at the given places."""
    frames = np.empty((len(pixels), *config.shape), np.uint8)
    radius = np.full(pixels.shape[:2], 2.5, np.float32)
    render(pixels.astype(np.float32), radius, np.ones((len(pixels), config.channels), np.float32), frames)
    return frames


@pytest.mark.parametrize("variety", ["textbook", "varied"])
@pytest.mark.parametrize("size", ["perspective", "constant"])
def test_real_clips_obey_their_own_law_and_no_other(variety, size):
    config = WorldConfig(variety=variety, size=size)
    clips = film(config, 0, "val", 0, 400)
    for label in range(len(NAMES)):
        lawful = lawfulness(config, clips.frames, np.full(400, label)).lawful
        own = clips.label == label
        assert lawful[own].mean() > 0.98 and lawful[~own].mean() < 0.02


def test_without_noise_only_the_rendering_is_left_over():
    config = WorldConfig(noise_m=0)
    clips = film(config, 0, "val", 0, 200)
    assert np.percentile(lawfulness(config, clips.frames, clips.label.astype(int)).residual, 99) < 0.05


def test_the_fitted_curve_runs_through_the_ball():
    config = WorldConfig(frames=16, height=64, width=64, channels=3, variety="varied")
    clips = film(config, 0, "val", 0, 40)
    law = lawfulness(config, clips.frames, clips.label.astype(int))
    curves = law.curves(16)
    assert law.limit_px == 1.0 and np.allclose(curves, law.path)
    assert np.linalg.norm(curves - clips.pixels, axis=-1).max() < 0.6


def test_random_walks_and_balls_at_rest_obey_no_law():
    config, rng = WorldConfig(), np.random.default_rng(0)
    walks = np.clip(15.5 + rng.normal(0, 3, (200, 8, 2)).cumsum(axis=1), 3, 28)
    labels = np.arange(200) % len(NAMES)
    assert lawfulness(config, drawn(walks, config), labels).lawful.mean() < 0.02
    at_rest = np.broadcast_to(rng.uniform(8, 24, (40, 1, 2)), (40, 8, 2))
    assert not lawfulness(config, drawn(at_rest, config), labels[:40]).lawful.any()


def test_a_path_is_lawful_up_to_the_tolerance():
    config = WorldConfig()
    clips = film(config, 0, "val", 0, 80)
    shaken = clips.pixels + np.random.default_rng(0).normal(0, 0.6, clips.pixels.shape)
    frames, labels = drawn(shaken, config), clips.label.astype(int)
    assert lawfulness(config, frames, labels).lawful.mean() < 0.6
    assert lawfulness(config, frames, labels, tolerance=1 / 16).lawful.all()


def test_clips_with_a_missing_or_a_second_ball_are_not_lawful():
    config = WorldConfig()
    clips = film(config, 0, "val", 0, 40)
    labels, gone = clips.label.astype(int), clips.frames.copy()
    gone[:, 5] = 0
    ghost = np.maximum(clips.frames, clips.frames[:, :, ::-1, ::-1] // 2)
    away = np.linalg.norm(clips.pixels - 15.5, axis=-1).max(axis=1) > 6
    for frames in (gone, ghost[away]):
        law = lawfulness(config, frames, labels[: len(frames)])
        assert not law.single.any() and not law.lawful.any()
    blank = lawfulness(config, np.zeros_like(clips.frames), labels)
    assert not blank.lawful.any() and np.isfinite(blank.residual).all()


def test_clips_of_another_world_and_unknown_families_are_refused():
    clips = film(WorldConfig(), 0, "val", 0, 4)
    with pytest.raises(InputError, match="give that world's clips"):
        lawfulness(WorldConfig(frames=16), clips.frames, np.zeros(4, int))
    with pytest.raises(InputError, match=r"one in 0\.\.3 each"):
        lawfulness(WorldConfig(), clips.frames, np.full(4, 4))
