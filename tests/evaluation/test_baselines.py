import numpy as np
import pytest
import trajvit
from trajvit.datasets.loading import load_clips
from trajvit.evaluation.baselines import (
    LawExtrapolation,
    NearestNeighbour,
    balls_of,
    centres_of,
    constant_acceleration,
    constant_velocity,
    copy_last,
)
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film
from trajvit.worlds.renderer import render

GIVEN = 4


def error(centres, clips):
    """Each clip's mean error in px over the frames that were not given."""
    return np.linalg.norm(centres - clips.pixels, axis=-1)[:, GIVEN:].mean(1)


def drawn(pixels):
    frames = np.empty((len(pixels), 8, 32, 32, 1), np.uint8)
    render(pixels.astype(np.float32), np.full(pixels.shape[:2], 2.5, np.float32), np.ones((len(pixels), 1), np.float32), frames)
    return frames


@pytest.fixture(scope="module")
def clips():
    return film(WorldConfig(), 0, "test", 0, 400)


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    data = trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=1200)
    return {
        "copy last": centres_of(copy_last),
        "constant velocity": constant_velocity,
        "constant acceleration": constant_acceleration,
        "nearest neighbour": NearestNeighbour(balls_of(load_clips(data)).centres, data.array("pixels")),
        "law": LawExtrapolation.of(WorldConfig()),
    }


def test_constant_acceleration_is_exact_on_a_parabola():
    t = np.arange(8)[None, :, None]
    pixels = np.array([[[4.0, 20]]]) + np.array([[[3.0, -5]]]) * t + np.array([[[0.0, 1.2]]]) * t**2 / 2
    assert np.abs(constant_acceleration(drawn(pixels), GIVEN) - pixels).max() < 0.35  # a found centre's 0.02 px, 15-fold
    assert np.abs(constant_velocity(drawn(pixels), GIVEN) - pixels).max() > 5


def test_extrapolations_stay_in_the_frame_and_ask_for_enough_frames(clips):
    for predict in (constant_velocity, constant_acceleration):
        centres = predict(clips.frames, GIVEN)
        assert centres.min() >= 0 and centres.max() <= 31
    with pytest.raises(InputError, match="needs 3"):
        constant_acceleration(clips.frames, 2)


def test_nothing_that_comes_later_has_a_say(clips, predictors):
    blind = clips.frames.copy()
    blind[:, GIVEN:] = np.random.default_rng(0).integers(0, 256, blind[:, GIVEN:].shape)
    for name, predict in predictors.items():
        assert np.array_equal(predict(clips.frames, GIVEN), predict(blind, GIVEN)), name


def test_the_more_a_baseline_knows_the_nearer_it_comes(clips, predictors):
    errors = {name: error(predict(clips.frames, GIVEN), clips).mean() for name, predict in predictors.items()}
    assert (
        errors["law"]
        < 0.3
        < errors["nearest neighbour"]
        < 1.5
        < 4
        < min(errors["copy last"], errors["constant velocity"], errors["constant acceleration"])
    )


def test_a_training_clip_is_its_own_nearest_neighbour(predictors):
    training = film(WorldConfig(), 0, "train", 0, 100)
    assert error(predictors["nearest neighbour"](training.frames, GIVEN), training).max() < 0.1


def test_without_noise_the_law_extrapolates_better_still():
    config = WorldConfig(noise_m=0)
    quiet = film(config, 0, "test", 0, 400)
    assert np.median(error(LawExtrapolation.of(config)(quiet.frames, GIVEN), quiet)) < 0.07


def test_predictions_from_blank_clips_are_finite(predictors):
    for name, predict in predictors.items():
        assert np.isfinite(predict(np.zeros((4, 8, 32, 32, 1), np.uint8), GIVEN)).all(), name
