import pytest
import torch
import trajvit
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.transformer import TransformerConfig


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = AutoregressiveTransformer(
        TransformerConfig(grid=(2, 3, 3), levels=(8, 5), classes=4, tasks=1, layers=2, width=32, heads=2)
    ).eval()
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def test_a_token_is_told_from_those_before_it_and_the_class_alone(model):
    tokens, label = torch.randint(0, 40, (1, 17)), torch.tensor([1])
    changed = tokens.clone()
    changed[0, 9] = (changed[0, 9] + 1) % 40
    features, other = model(tokens, label), model(changed, label)
    assert torch.equal(features[:, :10], other[:, :10])
    assert (features[:, 10:] != other[:, 10:]).any(-1).all()
    assert (features != model(tokens, torch.tensor([2]))).any(-1).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_changes_nothing_but_the_time(model, temperature):
    labels = torch.tensor([0, 1, 2, 3])
    cached = model.generate(labels, temperature, seed=3)
    assert torch.equal(cached, model.generate(labels, temperature, seed=3, cached=False))
    assert cached.shape == (4, 18) and cached.min() >= 0 and cached.max() < 40


def test_it_is_trained_by_the_same_loop(tmp_path):
    from trajvit.datasets.loading import load_clips
    from trajvit.training.loop import FitConfig, fit
    from trajvit.training.objectives import NextToken
    from trajvit.training.recipe import Recipe, Tokenizer

    data = trajvit.generate(out=tmp_path / "data", samples=32)
    tokenizer_config, config = Recipe().models(data.config.world)
    torch.manual_seed(0)
    objective = NextToken(AutoregressiveTransformer(config), Tokenizer(tokenizer_config).eval(), load_clips(data))
    fitted = fit("next", objective, FitConfig(steps=40, batch_size=16, learning_rate=4e-3), {}, tmp_path / "next")
    losses = fitted.history["next"]
    assert losses[-1] < 0.8 * losses[0]
    assert fitted.model.generate(torch.tensor([0, 1])).shape == (2, 64)
