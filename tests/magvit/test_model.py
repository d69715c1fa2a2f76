import json
import subprocess
import sys
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trajvit.magvit import ensemble
from trajvit.magvit.commit import masked_share, shown_digits
from trajvit.magvit.decoding import (
    GREEDY,
    DecodingConfig,
    Prompt,
    clip_noise,
    decode,
    halton_rank,
)
from trajvit.magvit.generation import SAMPLING, SURE, ClipDrawer, quarters
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.quantizers import FSQConfig, LFQConfig, VQConfig, from_digits, rounded, to_digits
from trajvit.magvit.tasks import TASKS, task_number
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import (
    SIZES,
    MaskedTransformer,
    Neighbours,
    TransformerConfig,
    attention,
)
from trajvit.settings import InputError
from trajvit.worlds.families import NAMES

LEVELS = FSQConfig().levels
CODES = prod(LEVELS)
FEW = SAMPLING.model_copy(update={"steps": 8, "tries": 2})  # an untrained model draws all its tries
SHAPE = {"grid": (4, 4, 4), "levels": LEVELS, "classes": 4, "tasks": len(TASKS)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    transformer = MaskedTransformer(TransformerConfig(**SHAPE, layers=2, width=32, heads=2))
    for parameter in transformer.parameters():  # far from the nearly uniform start, so that outputs differ
        parameter.data += 0.2 * torch.randn_like(parameter)
    return MAGVIT(Tokenizer(TokenizerConfig(base_channels=16)), transformer, NAMES)


def shown(tokens, inside):
    """The digits of some tokens, as a prompt shows them."""
    return shown_digits(to_digits(tokens, LEVELS).float(), inside)


def nothing(clips):
    return torch.full((clips, 64, len(LEVELS)), torch.nan)


@given(tokens=st.lists(st.integers(0, CODES - 1), min_size=1, max_size=20))
def test_digits_and_tokens_are_two_ways_to_say_the_same(tokens):
    tokens = torch.tensor(tokens)
    digits = to_digits(tokens, LEVELS)
    assert (digits < torch.tensor(LEVELS)).all()
    assert torch.equal(from_digits(digits, LEVELS), tokens)


def test_digits_are_those_of_the_quantizer():
    tokenizer = Tokenizer(TokenizerConfig())
    tokens = torch.arange(CODES)
    assert torch.equal(to_digits(tokens, LEVELS), tokenizer.quantizer.quantizer.indices_to_level_indices(tokens).long())


def test_attention_is_scaled_dot_product_attention():
    q, k, v = torch.randn(3, 2, 4, 7, 16).unbind(0)
    assert torch.allclose(attention(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6)


def test_every_position_attends_to_every_other(model):
    tokens, prefix = torch.randint(0, CODES, (1, 64)), torch.zeros(1, dtype=torch.long)
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % CODES
    features, classes = model.transformer(tokens, prefix, prefix, nothing(1))
    features_changed, classes_changed = model.transformer(changed, prefix, prefix, nothing(1))
    assert ((features != features_changed).any(-1)).all() and (classes != classes_changed).any()


def test_a_digit_that_is_not_rounded_is_read_as_lying_between_two_values(model):
    embedding, (first, second) = model.transformer.tokens, (table.weight for table in model.transformer.tokens.digits)
    digits = torch.tensor([[0.0, 63.0], [5.0, 7.25], [62.5, 0.0]])
    expected = [first[0] + second[63], first[5] + 0.75 * second[7] + 0.25 * second[8], (first[62] + first[63]) / 2 + second[0]]
    assert torch.allclose(embedding(digits), torch.stack(expected), atol=1e-5)


def test_what_is_shown_is_read_unrounded_where_its_token_stands_and_nowhere_else(model):
    prefix = torch.zeros(1, dtype=torch.long)
    digits = 1 + 60 * torch.rand(1, 64, len(LEVELS))
    tokens, inside = rounded(digits, LEVELS), torch.arange(64)[None] < 32
    whole = model.transformer(tokens, prefix, prefix, nothing(1))[0]
    assert torch.equal(model.transformer(tokens, prefix, prefix, shown_digits(digits, torch.zeros(1, 64).bool()))[0], whole)
    assert not torch.allclose(model.transformer(tokens, prefix, prefix, shown_digits(digits, inside))[0], whole, atol=1e-3)
    others = torch.where(inside, (tokens + 1) % CODES, tokens)  # the model's own in their place, or [MASK]
    for changed in (others, torch.where(inside, model.transformer.config.mask_token, tokens)):
        plain = model.transformer(changed, prefix, prefix, nothing(1))[0]
        assert torch.equal(model.transformer(changed, prefix, prefix, shown_digits(digits, inside))[0], plain)


@pytest.mark.parametrize("frames", [2, 4, 6])
@pytest.mark.parametrize("decoding", [GREEDY, DecodingConfig(sampler="slices")])
def test_given_frames_keep_their_own_tokens(model, decoding, frames, monkeypatch):
    """An untrained model, whose own would be others."""
    video, made = torch.rand(2, 1, 8, 32, 32), []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda tokens: made.append(tokens) or decode(tokens))
    model.predict(video[:, :, :frames], decoding=decoding)
    given, own = made[0][:, : frames // 2], model.encode(video)[:, : frames // 2]
    assert torch.equal(given, own) and not torch.equal(made[0], model.encode(video))


@pytest.mark.parametrize(
    "quantizer", [VQConfig(codes=64, features=8), LFQConfig(bits=7), FSQConfig(levels=(8, 8))], ids=lambda of: of.kind
)
@pytest.mark.parametrize("one_softmax", [False, True])
@pytest.mark.parametrize("padding", ["causal", "same"])
def test_whatever_its_tokens_a_model_reads_what_is_shown_of_them(quantizer, one_softmax, padding):
    tokenizer = Tokenizer(TokenizerConfig(base_channels=16, quantizer=quantizer, padding=padding)).eval()
    levels = (tokenizer.config.codes,) if one_softmax else quantizer.digits
    transformer = MaskedTransformer(TransformerConfig(**SHAPE | {"levels": levels}, layers=1, width=32, heads=2))
    own, video = MAGVIT(tokenizer, transformer, NAMES), torch.rand(2, 1, 8, 32, 32)
    digits = own.shown(TASKS[task_number("CLS")], video)
    assert torch.equal(rounded(digits, levels), own.encode(video).flatten(1))
    assert torch.equal(digits, digits.round()) == (quantizer.kind != "fsq" or one_softmax)
    assert own.predict(video[:, :, :4]).shape == video.shape and own.classify(video, 4).shape == (2,)


def test_a_class_is_named_from_what_is_shown_before_it_is_rounded(model, monkeypatch):
    video, read = torch.rand(2, 1, 8, 32, 32), []
    named = model.transformer.class_probabilities
    monkeypatch.setattr(model.transformer, "class_probabilities", lambda shown, *a: read.append(shown) or named(shown, *a))
    model.class_probabilities(video)
    model.class_probabilities(video, 4)
    assert all(torch.equal(one[:, :32], model.tokenizer.digits(video, LEVELS).flatten(1, 3)[:, :32]) for one in read)
    assert not read[0].isnan().any() and read[1][:, 32:].isnan().all()


def test_digit_probabilities_of_a_token_sum_to_one(model):
    features = torch.randn(1, 1, 32).expand(1, CODES, 32)
    digits = to_digits(torch.arange(CODES)[None], LEVELS)
    total = torch.zeros(1, CODES)
    for place in range(len(LEVELS)):
        logits = model.transformer.digit_logits(features, [digits[..., earlier] for earlier in range(place)])
        total += logits.log_softmax(-1).gather(-1, digits[..., place : place + 1])[..., 0]
    assert torch.isclose(total.exp().sum(), torch.tensor(1.0), atol=1e-4)


def test_a_clip_is_the_same_whatever_its_batch(model):
    together = model.generate([0, 1, 2, 3, 0, 1, 2], seed=5, decoding=FEW)
    fewer = model.generate([0, 1, 2], seed=5, decoding=FEW)
    assert torch.allclose(together[:3], fewer, atol=1e-5)
    assert not torch.allclose(together[4], together[0], atol=1e-3)
    assert not torch.allclose(model.generate([0], seed=6, decoding=FEW), together[:1], atol=1e-3)


def test_generation_across_chunks_keeps_each_clips_number(model, monkeypatch):
    whole = model.generate([1] * 6, seed=1, decoding=FEW)
    monkeypatch.setattr("trajvit.magvit.model.CHUNK", 4)
    assert torch.allclose(model.generate([1] * 6, seed=1, decoding=FEW), whole, atol=1e-5)


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
    assert not torch.equal(model.generate([1], seed=0, decoding=FEW), model.generate([1], seed=9, decoding=FEW))


def test_classification_gives_probabilities_and_their_largest(model):
    video = torch.rand(5, 1, 8, 32, 32)
    probabilities = model.class_probabilities(video)
    assert probabilities.shape == (5, 4) and torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.equal(model.classify(video), probabilities.argmax(1))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_completion_shows_what_was_given_and_sees_nothing_else(model, task):
    video = torch.rand(2, 1, 8, 32, 32)
    visible = task.visible((8, 32, 32))
    labels = [1, 2] if task.label == "given" else None
    completed = model.complete(video, task.name, labels)
    assert torch.equal(completed[:, :, visible], video[:, :, visible])
    hidden_changed = torch.where(visible, video, torch.rand_like(video))
    assert torch.equal(model.complete(hidden_changed, task.name, labels), completed)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_tasks_that_show_whole_frames_are_completed_from_five_views(model, task, monkeypatch):
    monkeypatch.setattr(ensemble, "DARK", 1.0)  # an untrained model lights the border, where a clip could not move
    video = torch.zeros(2, 1, 8, 32, 32)
    video[..., 12:17, 10:15] = torch.rand(2, 1, 8, 5, 5)
    labels = [1, 2] if task.label == "given" else None
    one, five = (model.complete(video, task.name, labels, decoding=decoding) for decoding in (GREEDY, None))
    assert torch.equal(one, five) == (task.name not in ("FP", "FI", "CFP", "CG"))  # CG is generated
    visible = task.visible((8, 32, 32))
    assert torch.equal(five[:, :, visible], video[:, :, visible])


def test_generation_and_prediction_are_completions(model):
    video = torch.rand(1, 1, 8, 32, 32)
    assert torch.equal(model.generate([3], 4, DecodingConfig()), model.complete(video, "CG", [3], 4, DecodingConfig()))
    assert torch.equal(model.generate([3], 4), model.complete(video, "CG", [3], 4))
    assert torch.equal(model.generate([3], 4), model.complete(video, "CG", [3], 4, SAMPLING))
    assert torch.equal(model.predict(video[:, :, :4]), model.complete(video, "FP"))


class Knowing(torch.nn.Module):
    """Stands where a transformer does and is sure of the true tokens."""

    def __init__(self, config, truth):
        super().__init__()
        self.config, self.truth = config, truth

    def forward(self, tokens, task, label, shown):
        return self.truth.expand(len(tokens), -1), None

    def digit_logits(self, truth, digits):
        place = len(digits)
        wanted = to_digits(truth, self.config.levels)[..., place]
        return 50.0 * torch.nn.functional.one_hot(wanted, self.config.levels[place])


SAMPLERS, SCHEDULES = ("confidence", "random", "halton", "slices"), ("cosine", "uniform", "pow", "log", "exp")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_model_that_knows_the_tokens_decodes_them_whatever_the_order(sampler, schedule):
    config = TransformerConfig(**SHAPE)
    truth = torch.randint(0, CODES, (1, 64))
    knowing = Knowing(config, truth)
    inside = torch.arange(64)[None].expand(3, -1) < 20
    prompt = Prompt(shown(torch.randint(0, 1000, (3, 64)), inside), torch.zeros(3).long(), torch.zeros(3).long())
    decoding = DecodingConfig(sampler=sampler, schedule=schedule)
    noise = torch.from_numpy(clip_noise(0, range(3), decoding, 64, config.levels))
    assert torch.equal(decode(knowing, prompt, decoding, noise), truth.expand(3, -1))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_step_leaves_open_what_the_schedule_says(sampler, schedule):
    config = TransformerConfig(**SHAPE)

    open_counts = []

    class Counting(Knowing):
        def forward(self, tokens, task, label, shown):
            open_counts.append((tokens == config.mask_token).sum(1).tolist())
            return super().forward(tokens, task, label, shown)

    counting = Counting(config, torch.zeros(1, 64, dtype=torch.long))
    prompt = Prompt(nothing(2), torch.zeros(2).long(), torch.zeros(2).long())
    decoding = DecodingConfig(sampler=sampler, schedule=schedule)
    noise = torch.from_numpy(clip_noise(0, range(2), decoding, 64, config.levels))
    decode(counting, prompt, decoding, noise)
    expected = [int((64 * masked_share(step / 12, 64, schedule) + 1e-9).floor()) for step in range(12)]
    assert open_counts == [[count, count] for count in expected]


def test_slices_are_filled_one_after_the_other():
    config, seen = TransformerConfig(**SHAPE), []

    class Watched(Knowing):
        def forward(self, tokens, task, label, shown):
            seen.append((tokens == config.mask_token).unflatten(1, (4, 16)).sum(2)[0].tolist())
            return super().forward(tokens, task, label, shown)

    watched = Watched(config, torch.zeros(1, 64, dtype=torch.long))
    prompt = Prompt(nothing(1), torch.zeros(1).long(), torch.zeros(1).long())
    decoding = DecodingConfig(steps=8, schedule="uniform", sampler="slices")
    decode(watched, prompt, decoding, torch.from_numpy(clip_noise(0, range(1), decoding, 64, config.levels)))
    filled = [64 - 8 * step for step in range(8)]
    assert seen == [[max(0, min(16, left - 16 * (3 - k))) for k in range(4)] for left in filled]


def test_what_is_not_wanted_stays_masked():
    config = TransformerConfig(**SHAPE)
    knowing = Knowing(config, torch.randint(0, CODES, (1, 64)))
    prompt = Prompt(nothing(1), torch.zeros(1).long(), torch.zeros(1).long())
    wanted = torch.arange(64)[None] < 32
    decoding = DecodingConfig(sampler="slices")
    noise = torch.from_numpy(clip_noise(0, range(1), decoding, 64, config.levels))
    drawn = decode(knowing, prompt, decoding, noise, wanted)
    assert torch.equal(drawn, torch.where(wanted, knowing.truth, config.mask_token))


def test_generation_draws_the_first_half_and_predicts_the_second_settles_both_and_predicts_anew(model, monkeypatch):
    seen, forward, mask_token = [], model.transformer.forward, model.transformer.config.mask_token

    def watched(tokens, task, label, shown):
        seen.append((TASKS[int(task[0])].name, (tokens == mask_token).unflatten(1, (2, 32)).sum(2)[0].tolist(), label.tolist()))
        return forward(tokens, task, label, shown)

    monkeypatch.setattr(model.transformer, "forward", watched)
    model.generate([2], decoding=SAMPLING.model_copy(update={"steps": 4, "tries": 1}))
    assert seen[:5] == [("CG", [32 - 8 * step, 32], [2]) for step in range(4)] + [("CFP", [0, 32], [2])]
    assert seen[5:11] == [("CG", [4, 0], [2])] * 4 + [("CG", [16, 16], [2]), ("CFP", [0, 32], [2])]
    assert seen[11:] == [("CFP", [0, 32], [2])], "of one view, since it fills its frames with light"


def test_the_passes_of_generation_end_in_the_clip_that_is_generated(model):
    drawn = model.generation_passes(2, seed=3)
    left = drawn.masked.flatten(1).sum(1).tolist()
    assert left[:33] == [*range(63, 31, -1), 0] and not any(left[33:])
    assert not drawn.masked[15, 0].any() and drawn.masked[15, 1:].all(), "slice by slice"
    clip = model.generate([2], 3, SAMPLING.model_copy(update={"tries": 1}))
    assert torch.allclose(drawn.video[-1][:, :4], clip[0][:, :4], atol=1e-4)
    assert not torch.allclose(drawn.video[31], drawn.video[-1], atol=0.1)
    with pytest.raises(InputError, match=r"knows 0\.\.3"):
        model.generation_passes(4)


def test_quarters_hold_each_position_once_and_no_two_neighbours():
    of = torch.arange(32) < 16
    parts = [part.unflatten(0, (2, 4, 4)) for part in quarters((2, 4, 4), of)]
    assert torch.equal(sum(part.int() for part in parts).flatten(), of.int()) and all(part.sum() == 4 for part in parts)
    assert not any((part[:, 1:] & part[:, :-1]).any() or (part[:, :, 1:] & part[:, :, :-1]).any() for part in parts)


def test_a_clip_of_which_the_model_says_it_is_of_another_class_is_drawn_again(model, monkeypatch):
    sure = iter([[0.2, 0.5, SURE], [0.4, (1 + SURE) / 2], [0.3]])  # of clips 0, 1 and 2; again of 0 and 1; again of 0
    drawn = []

    def noise(seed, clips, config, length, levels, again=0):
        drawn.append((list(clips), again))
        return clip_noise(seed, clips, config, length, levels, again)

    monkeypatch.setattr("trajvit.magvit.decoding.clip_noise", noise)
    monkeypatch.setattr(ClipDrawer, "sure_of", lambda drawer, tokens, label: torch.tensor(next(sure)))
    decoding = SAMPLING.model_copy(update={"steps": 2, "tries": 3})
    kept = model.generate([0, 1, 2], decoding=decoding)
    assert drawn == [([0, 1, 2], 0), ([0, 1], 1), ([0], 2)]

    monkeypatch.undo()
    once, first = (
        decoding.model_copy(update={"tries": 1}),
        model.generate([0, 1, 2], decoding=decoding.model_copy(update={"tries": 1})),
    )
    assert torch.equal(kept[2], first[2])
    # The second draw of clips 0 and 1 was the surest, and it is a function of clip and try alone.
    monkeypatch.setattr("trajvit.magvit.decoding.clip_noise", lambda *rest: clip_noise(*rest[:-1], 1))
    second = model.generate([0, 1], decoding=once)
    assert torch.equal(kept[:2], second) and not torch.equal(second, first[:2])


class TwoModes(torch.nn.Module):
    """The true conditionals of sequences that are all 0 (70 %) or all 1: independent positions would mix them."""

    config = TransformerConfig(grid=(2, 4, 4), levels=(2,), classes=1, tasks=len(TASKS))

    def forward(self, tokens, task, label, shown):
        zero, one = (tokens == 0).any(1), (tokens == 1).any(1)
        p = torch.where(zero & ~one, 1 - 1e-6, torch.where(one & ~zero, 1e-6, torch.tensor(0.7)))
        return torch.stack([p, 1 - p], dim=-1)[:, None].expand(-1, 32, -1), None

    def digit_logits(self, features, digits):
        return features.log()


@pytest.mark.parametrize(("sampler", "off_by"), [("random", 0.05), ("halton", 0.05), ("confidence", 0.08), ("slices", 0.08)])
def test_two_modes_are_drawn_in_their_true_shares(sampler, off_by):
    """A token a step, drawn at temperature 1. Confidence prefers what is likelier, by a bias that its noise keeps small."""
    toy, count = TwoModes(), 1200
    decoding = DecodingConfig(steps=32, schedule="uniform", sampler=sampler)
    noise = torch.from_numpy(clip_noise(1, range(count), decoding, 32, (2,)))
    prompt = Prompt(torch.full((count, 32, 1), torch.nan), torch.zeros(count).long(), torch.zeros(count).long())
    drawn = decode(toy, prompt, decoding, noise)
    assert (drawn.min(1).values == drawn.max(1).values).all()
    assert (drawn[:, 0] == 0).float().mean() == pytest.approx(0.7, abs=off_by)


def test_a_halton_order_visits_every_position_once_and_spreads():
    rank = halton_rank((4, 4, 4))
    assert sorted(rank.tolist()) == list(range(64))
    first = (rank.unflatten(0, (4, 4, 4)) < 8).float()
    assert all((first.sum(axes) > 0).all() for axes in ((1, 2), (0, 2), (0, 1)))


def test_guidance_zero_is_the_conditional_model(model, monkeypatch):
    seen = []
    forward = model.transformer.forward
    monkeypatch.setattr(model.transformer, "forward", lambda *a: seen.append(a[2].tolist()) or forward(*a))
    model.generate([2], decoding=DecodingConfig(steps=2))
    assert seen == [[2], [2]]
    seen.clear()
    model.generate([2], decoding=DecodingConfig(guidance=1, steps=2))
    assert seen == [[2], [4], [2], [4]]


@pytest.mark.parametrize("steps", [1, 3, 12, 100])
def test_decoding_fills_every_position_whatever_the_number_of_steps(model, steps):
    inside = torch.arange(64)[None] < 32
    prompt = Prompt(shown(torch.randint(0, CODES, (1, 64)), inside), torch.zeros(1).long(), torch.full((1,), 4))
    tokens = decode(model.transformer, prompt, GREEDY.model_copy(update={"steps": steps}), None)
    assert tokens.shape == (1, 64) and (tokens < CODES).all()


def test_a_saved_model_comes_back_equal(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MAGVIT.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert torch.equal(loaded.generate([0, 3], seed=2, decoding=FEW), model.generate([0, 3], seed=2, decoding=FEW))
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
        lambda model: model.decode(torch.full((1, 4, 4, 4), CODES)),
        lambda model: model.decode(torch.zeros(1, 2, 4, 4).long()),
        lambda model: model.generate([4]),
        lambda model: model.predict(torch.zeros(1, 1, 3, 32, 32)),
        lambda model: model.predict(torch.zeros(1, 1, 4, 32, 32), frames=16),
        lambda model: model.predict(torch.zeros(1, 1, 9, 32, 32)),
        lambda model: model.classify(torch.full((1, 1, 8, 32, 32), torch.nan)),
        lambda model: model.encode(torch.full((1, 1, 8, 32, 32), 255.0)),
        lambda model: model.encode(torch.full((1, 1, 8, 32, 32), -0.1)),
        lambda model: model.complete(torch.zeros(1, 1, 8, 32, 32), "XX"),
        lambda model: model.complete(torch.zeros(1, 1, 8, 32, 32), "CG"),
        lambda model: model.complete(torch.zeros(1, 1, 8, 32, 32), "FP", [1]),
        lambda model: model.complete(torch.zeros(2, 1, 8, 32, 32), "CFP", [1]),
        lambda model: model.complete(torch.zeros(1, 1, 8, 32, 32), "CFP", [-1]),
        lambda model: model.generate([0], seed=2**64),
    ],
)
def test_wrong_shapes_and_labels_are_refused(model, call):
    with pytest.raises(InputError):
        call(model)


WRONG = """
from trajvit import InputError, MAGVIT
model = MAGVIT.from_pretrained("compact-30k")
for labels, seed in (([0.9], 0), ([[0, 1]], 0), (["a"], 0), ([True], 0), ([0], 1.5)):
    try:
        model.generate(labels, seed)
    except InputError as error:
        print(error)
"""


def test_what_is_no_label_or_seed_is_told_in_a_line():
    """Where no test checks types."""
    said = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 5 and all("whole number" in line for line in said)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_by_name_exist(size):
    assert TransformerConfig.named(size, **SHAPE).length == 64


def test_a_token_is_seen_by_its_neighbours_in_its_slice_and_by_nobody_else_before_attention():
    grid = (2, 6, 7)
    mixed = Neighbours(8, grid)
    x = torch.randn(1, prod(grid), 8)
    changed = x.clone()
    changed[0, (1 * 6 + 2) * 7 + 3] += torch.randn(8)
    reached = (mixed(changed) - mixed(x)).abs().sum(-1).view(grid) > 0
    expected = torch.zeros(grid, dtype=torch.bool)
    expected[1, 0:5, 1:6] = True
    assert torch.equal(reached, expected)
