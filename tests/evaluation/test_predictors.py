import numpy as np
import pytest
import torch
import trajvit
from trajvit.datasets.loading import to_video
from trajvit.evaluation.autoregressive import AutoregressiveConfig, train_autoregressive
from trajvit.evaluation.baselines import centres_of, copy_last
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.perceptron import PerceptronConfig, train_perceptron
from trajvit.evaluation.pixel_predictors import PixelPredictorConfig, fold_of, train_pixel_predictor
from trajvit.magvit import published
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tokenizer import Tokenizer
from trajvit.magvit.transformer import MaskedTransformer
from trajvit.metrics.distances import beside_floor, frechet_distance, kernel_distance
from trajvit.settings import InputError
from trajvit.training.recipe import Recipe
from trajvit.worlds.config import ClipShape, WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import film

GIVEN = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=1200)


@pytest.fixture(scope="module")
def clips():
    return film(WorldConfig(), 0, "test", 0, 200)


def error(centres, clips):
    return np.linalg.norm(centres - clips.pixels, axis=-1)[:, GIVEN:].mean()


def blinded(frames):
    blind = frames.copy()
    blind[:, GIVEN:] = 0
    return blind


def test_the_perceptron_on_found_balls_leaves_the_simple_baselines_far_behind(data, clips, tmp_path):
    perceptron = train_perceptron(PerceptronConfig(steps=300, batch_size=128), data, GIVEN, tmp_path)
    predicted = perceptron(clips.frames, GIVEN)
    assert error(predicted, clips) < 0.8
    assert np.array_equal(predicted, perceptron(blinded(clips.frames), GIVEN))
    with pytest.raises(InputError, match="trained on 4: train another"):
        perceptron(clips.frames, 3)


def test_a_finished_perceptron_is_loaded_and_another_is_refused(data, clips, tmp_path):
    config = PerceptronConfig(steps=5)
    first = train_perceptron(config, data, GIVEN, tmp_path)(clips.frames, GIVEN)
    assert np.array_equal(first, train_perceptron(config, data, GIVEN, tmp_path)(clips.frames, GIVEN))
    with pytest.raises(InputError, match="belongs to another training"):
        train_perceptron(PerceptronConfig(steps=5, width=64), data, GIVEN, tmp_path)
    with pytest.raises(InputError, match="leave one to predict"):
        train_perceptron(config, data, 8, tmp_path)


def test_what_learnt_from_mirror_images_predicts_both_alike(tmp_path):
    data = trajvit.generate(out=tmp_path / "data", samples=64, variety="varied")
    frames = film(WorldConfig(variety="varied"), 0, "test", 0, 20).frames
    recipe, config = Recipe(mirrored=True, shifts=2), PixelPredictorConfig(width=8, steps=2, batch_size=4)
    pixels = train_pixel_predictor(config, recipe, data, GIVEN, tmp_path / "simvp")
    alike = pixels(frames, GIVEN).astype(int) - pixels(frames[:, :, :, ::-1].copy(), GIVEN)[:, :, :, ::-1]
    assert abs(alike).max() <= 1
    for mirrored in (True, False):
        config = PerceptronConfig(steps=20, batch_size=16, mirrored=mirrored)
        centres = train_perceptron(config, data, GIVEN, tmp_path / f"perceptron {mirrored}")
        (u, v), (image_u, image_v) = (centres(f, GIVEN).transpose(2, 0, 1) for f in (frames, frames[:, :, :, ::-1].copy()))
        assert (np.allclose(u, 31 - image_u, atol=1e-3) and np.allclose(v, image_v, atol=1e-3)) == mirrored
    with pytest.raises(InputError, match="belongs to another training"):
        train_pixel_predictor(PixelPredictorConfig(width=8, steps=2, batch_size=4), Recipe(), data, GIVEN, tmp_path / "simvp")


@pytest.mark.parametrize("kind", ["simvp", "convlstm"])
def test_a_predictor_of_pixels_learns_to_move_the_ball(data, clips, tmp_path, kind):
    config = PixelPredictorConfig(kind=kind, width=16, steps=120, batch_size=16, learning_rate=4e-3)
    predict = train_pixel_predictor(config, Recipe(), data, GIVEN, tmp_path)
    frames = predict(clips.frames, GIVEN)
    assert np.array_equal(frames[:, :GIVEN], clips.frames[:, :GIVEN])
    assert np.array_equal(frames, predict(blinded(clips.frames), GIVEN))
    assert error(centres_of(predict)(clips.frames, GIVEN), clips) < 0.8 * error(centres_of(copy_last)(clips.frames, GIVEN), clips)
    with pytest.raises(InputError, match="trained on 4 of 8: train another"):
        predict(clips.frames, 5)


def test_a_rival_that_comes_along_is_taken_where_it_learnt_likewise_and_for_as_long(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "WEIGHTS", tmp_path / "weights")
    data = trajvit.generate(out=tmp_path / "data", samples=16)
    frames = data.array("frames")

    def trained(steps, out, shifts=2, data=data):
        config = PixelPredictorConfig(width=8, steps=steps, batch_size=4)
        return train_pixel_predictor(config, Recipe(shifts=shifts), data, GIVEN, tmp_path / out)

    there = tmp_path / "weights" / "mine" / "simvp.safetensors"
    there.parent.mkdir(parents=True)
    long = trained(3, "long")
    there.write_bytes((tmp_path / "long" / "simvp.safetensors").read_bytes())
    for steps, taken in ((2, True), (3, True), (4, False)):
        rival = trained(steps, f"asked for {steps}")
        assert (rival.steps, (tmp_path / f"asked for {steps}").exists()) == ((3, False) if taken else (4, True))
        assert np.array_equal(rival(frames, GIVEN), long(frames, GIVEN)) == taken
    assert trained(2, "other recipe", shifts=1).steps == 2
    assert trained(2, "other clips", data=trajvit.generate(out=tmp_path / "others", samples=16, seed=1)).steps == 2
    there.write_bytes(there.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"simvp\.safetensors is damaged .*restore it, or remove it"):
        trained(2, "damaged")


@pytest.mark.parametrize(
    ("shape", "fold"), [((32, 32), 4), ((64, 64), 8), ((128, 128), 16), ((36, 60), 4), ((30, 32), 2), ((33, 32), 1)]
)
def test_frames_of_any_shape_are_folded_evenly(shape, fold):
    assert fold_of(ClipShape(height=shape[0], width=shape[1])) == fold


def test_pixels_of_other_shapes_and_colours_are_predicted_too(tmp_path):
    data = trajvit.generate(out=tmp_path / "data", samples=16, format="6x40x24x3")
    for kind in ("simvp", "convlstm"):
        config = PixelPredictorConfig(kind=kind, width=8, steps=2, batch_size=4)
        predict = train_pixel_predictor(config, Recipe(), data, 2, tmp_path / kind)
        assert predict(data.array("frames", 0, 5), 2).shape == (5, 6, 40, 24, 3)


def test_the_same_tokens_are_generated_one_after_the_other(data, tmp_path):
    tokenizer, transformer = Recipe().models(data.config.world)
    torch.manual_seed(0)
    magvit = MAGVIT(Tokenizer(tokenizer), MaskedTransformer(transformer), NAMES)
    config = AutoregressiveConfig(steps=4, batch_size=8)
    generator = train_autoregressive(config, Recipe(), magvit, data, tmp_path)
    labels = np.arange(6) % len(NAMES)
    frames = generator.generate(labels, seed=3)
    assert frames.shape == (6, 8, 32, 32, 1) and frames.dtype == np.uint8
    assert np.array_equal(frames, generator.generate(labels, seed=3))
    assert not np.array_equal(frames, generator.generate(labels, seed=4))
    with pytest.raises(InputError, match=r"knows 0\.\.3"):
        generator.generate(np.array([4]))
    other = MAGVIT(Tokenizer(tokenizer), MaskedTransformer(transformer), NAMES)
    with pytest.raises(InputError, match=r"belongs to another training \(tokens"):
        train_autoregressive(config, Recipe(), other, data, tmp_path)


def test_two_judges_are_independent_and_their_features_tell_real_clips_from_wrong_ones(data, tmp_path):
    judges = [train_judge(JudgeConfig(steps=steps, seed=seed), data, tmp_path / str(seed)) for seed, steps in ((0, 60), (1, 1))]
    assert not torch.allclose(judges[0].head[-1].weight, judges[1].head[-1].weight, atol=0.05)
    real, new = film(WorldConfig(), 0, "test", 0, 1200).frames, film(WorldConfig(), 0, "val", 0, 600).frames
    assert torch.allclose(judges[0].probabilities(to_video(new[:8])).sum(-1), torch.ones(8))
    features, good, still = (judges[0].features(to_video(frames)) for frames in (real, new, copy_last(new, 1)))
    for distance in (frechet_distance, kernel_distance):
        near, far = beside_floor(distance, good, features), beside_floor(distance, still, features)
        assert far.value > 5 * max(near.value, near.floor)
