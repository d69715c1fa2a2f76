import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trajvit.magvit.decoding import GREEDY, DecodingConfig, Prompt, decode
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import (
    SIZES,
    MaskedTransformer,
    TransformerConfig,
    attention,
    from_digits,
    to_digits,
)
from trajvit.settings import InputError
from trajvit.worlds.families import NAMES

SHAPE = {"grid": (4, 4, 4), "levels": (8, 5, 5, 5), "classes": 4, "tasks": len(TASKS)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    transformer = MaskedTransformer(TransformerConfig(**SHAPE, layers=2, width=32, heads=2))
    for parameter in transformer.parameters():  # far from the nearly uniform start, so that outputs differ
        parameter.data += 0.2 * torch.randn_like(parameter)
    return MAGVIT(Tokenizer(TokenizerConfig(base_channels=16)), transformer, NAMES)


@given(tokens=st.lists(st.integers(0, 999), min_size=1, max_size=20))
def test_digits_and_tokens_are_two_ways_to_say_the_same(tokens):
    tokens = torch.tensor(tokens)
    digits = to_digits(tokens, (8, 5, 5, 5))
    assert (digits < torch.tensor([8, 5, 5, 5])).all()
    assert torch.equal(from_digits(digits, (8, 5, 5, 5)), tokens)


def test_digits_are_those_of_the_quantizer():
    tokenizer = Tokenizer(TokenizerConfig())
    tokens = torch.arange(1000)
    assert torch.equal(to_digits(tokens, (8, 5, 5, 5)), tokenizer.quantizer.indices_to_level_indices(tokens).long())


def test_attention_is_scaled_dot_product_attention():
    q, k, v = torch.randn(3, 2, 4, 7, 16).unbind(0)
    assert torch.allclose(attention(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6)


def test_every_position_attends_to_every_other(model):
    tokens, prefix = torch.randint(0, 1000, (1, 64)), torch.zeros(1, dtype=torch.long)
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 1000
    features, classes = model.transformer(tokens, prefix, prefix)
    features_changed, classes_changed = model.transformer(changed, prefix, prefix)
    assert ((features != features_changed).any(-1)).all() and (classes != classes_changed).any()


def test_digit_probabilities_of_a_token_sum_to_one(model):
    features = torch.randn(1, 1, 32).expand(1, 1000, 32)
    digits = to_digits(torch.arange(1000)[None], (8, 5, 5, 5))
    total = torch.zeros(1, 1000)
    for place in range(4):
        logits = model.transformer.digit_heads.logits(features, [digits[..., earlier] for earlier in range(place)])
        total += logits.log_softmax(-1).gather(-1, digits[..., place : place + 1])[..., 0]
    assert torch.isclose(total.exp().sum(), torch.tensor(1.0), atol=1e-4)


def test_a_clip_is_the_same_whatever_its_batch(model):
    together = model.generate([0, 1, 2, 3, 0, 1, 2], seed=5)
    fewer = model.generate([0, 1, 2], seed=5)
    assert torch.allclose(together[:3], fewer, atol=1e-5)
    assert not torch.allclose(together[4], together[0], atol=1e-3)
    assert not torch.allclose(model.generate([0], seed=6), together[:1], atol=1e-3)


def test_generation_across_chunks_keeps_each_clips_number(model, monkeypatch):
    whole = model.generate([1] * 6, seed=1)
    monkeypatch.setattr("trajvit.magvit.model.CHUNK", 4)
    assert torch.allclose(model.generate([1] * 6, seed=1), whole, atol=1e-5)


def test_prediction_returns_the_given_frames_and_sees_no_others(model):
    video = torch.rand(2, 1, 8, 32, 32)
    predicted = model.predict(video[:, :, :4])
    assert predicted.shape == (2, 1, 8, 32, 32) and torch.equal(predicted[:, :, :4], video[:, :, :4])
    assert torch.equal(model.predict(video[:, :, :4], frames=8), predicted)


def test_the_class_steers_generation_prediction_and_guidance(model):
    video = torch.rand(1, 1, 8, 32, 32)
    assert not torch.equal(model.predict(video[:, :, :4], labels=[0]), model.predict(video[:, :, :4], labels=[1]))
    plain, guided = DecodingConfig(), DecodingConfig(guidance=3.0)
    assert not torch.equal(model.generate([2], decoding=plain), model.generate([2], decoding=guided))


def test_temperature_acts(model):
    cold = DecodingConfig(temperature=0.0, choice_temperature=0.0)
    assert torch.equal(model.generate([1, 1], seed=0, decoding=cold)[0], model.generate([1, 1], seed=9, decoding=cold)[1])
    assert not torch.equal(model.generate([1], seed=0), model.generate([1], seed=9))


def test_classification_gives_probabilities_and_their_largest(model):
    video = torch.rand(5, 1, 8, 32, 32)
    probabilities = model.class_probabilities(video)
    assert probabilities.shape == (5, 4) and torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.equal(model.classify(video), probabilities.argmax(1))


@pytest.mark.parametrize("steps", [1, 3, 12, 100])
def test_decoding_fills_every_position_whatever_the_number_of_steps(model, steps):
    inside = torch.arange(64)[None] < 32
    prompt = Prompt(torch.randint(0, 1000, (1, 64)), inside, torch.zeros(1).long(), torch.full((1,), 4))
    tokens = decode(model.transformer, prompt, GREEDY.model_copy(update={"steps": steps}), None)
    assert tokens.shape == (1, 64) and (tokens < 1000).all()


def test_a_saved_model_comes_back_equal(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MAGVIT.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert torch.equal(loaded.generate([0, 3], seed=2), model.generate([0, 3], seed=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def edited(change):
    def edit(root):
        described = json.loads((root / "config.json").read_text())
        change(described)
        (root / "config.json").write_text(json.dumps(described))

    return edit


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "config.json").unlink(), "there is no model"),
        (lambda root: (root / "config.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "config.json").write_text('{"format": "other"}'), "something else"),
        (edited(lambda d: d.update(format_version=9)), "format version 9"),
        (edited(lambda d: d["transformer"].update(width=64)), "does not fit"),
        (edited(lambda d: d["transformer"].update(wings=2)), "wings"),
        (lambda root: (root / "model.safetensors").write_bytes(b"short"), "does not fit"),
        (lambda root: (root / "model.safetensors").unlink(), "does not fit"),
    ],
)
def test_a_foreign_or_damaged_model_is_refused_in_one_line(model, tmp_path, damage, says):
    model.save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=says) as refused:
        MAGVIT.from_pretrained(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode(torch.zeros(1, 1, 8, 16, 16)),
        lambda model: model.encode(torch.zeros(0, 1, 8, 32, 32)),
        lambda model: model.decode(torch.full((1, 4, 4, 4), 1000)),
        lambda model: model.decode(torch.zeros(1, 2, 4, 4).long()),
        lambda model: model.generate([4]),
        lambda model: model.predict(torch.zeros(1, 1, 3, 32, 32)),
        lambda model: model.predict(torch.zeros(1, 1, 4, 32, 32), frames=16),
    ],
)
def test_wrong_shapes_and_labels_are_refused(model, call):
    with pytest.raises(InputError):
        call(model)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_by_name_exist(size):
    assert TransformerConfig.named(size, **SHAPE).length == 64
