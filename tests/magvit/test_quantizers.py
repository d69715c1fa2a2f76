import itertools

import pytest
import torch
from trajvit.magvit.quantizers import FSQConfig, LFQConfig, VQConfig, code_count, from_digits, make_quantizer, rounded, to_digits
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig

CONFIGS = {"fsq": FSQConfig(), "vq": VQConfig(codes=64, features=8), "lfq": LFQConfig(bits=7)}


@pytest.fixture(params=CONFIGS)
def quantizer(request):
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    made = make_quantizer(config)
    made(torch.randn(16, config.features, 2, 4, 4))  # VQ places its codebook on the first features it sees
    return config, made.eval()


def test_every_code_comes_back_from_its_features(quantizer):
    config, made = quantizer
    tokens = torch.arange(code_count(config)).reshape(1, -1, 1, 1)
    features = made.codes(tokens)
    # FSQ bounds features before it rounds them, so codes are not its fixed points.
    fsq = config.kind == "fsq"
    again = made.quantizer.codes_to_indices(features.movedim(1, -1)).long() if fsq else made(features).tokens
    assert torch.equal(again, tokens)


def test_tokens_are_codes_and_stand_for_the_quantized_features(quantizer):
    config, made = quantizer
    features = torch.randn(3, config.features, 2, 4, 4)
    quantized = made(features)
    assert quantized.tokens.shape == (3, 2, 4, 4) and quantized.tokens.dtype == torch.int64
    assert quantized.tokens.min() >= 0 and quantized.tokens.max() < code_count(config)
    assert torch.allclose(made.codes(quantized.tokens), quantized.features, atol=1e-5)


def test_digits_number_every_code_once(quantizer):
    config, _ = quantizer
    tokens = torch.arange(code_count(config))
    assert torch.equal(from_digits(to_digits(tokens, config.digits), config.digits), tokens)


def test_unrounded_digits_are_within_half_a_value_of_the_tokens(quantizer):
    config, made = quantizer
    features = 3 * torch.randn(8, config.features, 2, 4, 4)
    unrounded, tokens = made(features).digits, made(features).tokens
    assert torch.equal(rounded(unrounded, config.digits), tokens)
    assert (unrounded >= 0).all() and (unrounded <= torch.tensor(config.digits) - 1).all()
    whole = torch.equal(unrounded, to_digits(tokens, config.digits).float())
    assert whole == (config.kind != "fsq")  # the numbers of the others' codes are no measure


@pytest.mark.parametrize("levels", [(64, 64), (8, 5, 5, 5)])
def test_unrounded_digits_of_fsq_stand_where_its_codes_do(levels):
    """Between two codes in the same place as between their digits."""
    config = FSQConfig(levels=levels)
    made = make_quantizer(config)
    features = torch.randn(64, len(levels), 1, 1, 1)
    low, high = (made.codes(torch.full((1, 1, 1, 1), token)).flatten() for token in (0, code_count(config) - 1))
    unrounded = made(features).digits.flatten(0, 3)
    codes = low + unrounded / (torch.tensor(levels) - 1) * (high - low)
    half_a_value = (high - low) / (torch.tensor(levels) - 1) / 2
    assert ((codes - made(features).features.flatten(1)).abs() <= half_a_value * 1.001).all()


def test_digits_of_other_levels_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        rounded(torch.zeros(3, 2), (4096,))


def test_gradients_pass_through(quantizer):
    config, made = quantizer
    features = torch.randn(2, config.features, 2, 4, 4, requires_grad=True)
    quantized = made.train()(features)
    (quantized.features.square().sum() + (0 if quantized.loss is None else quantized.loss)).backward()
    assert features.grad.abs().sum() > 0


def test_the_entropy_term_of_lfq_is_annealed():
    made = make_quantizer(LFQConfig(bits=4, entropy=0.1, entropy_boost=5.0, anneal_steps=10)).train()
    weights = []
    for _ in range(12):
        weights.append(float(made._entropy_weight()))
        made(torch.randn(2, 4, 1, 2, 2))
    assert weights[0] == pytest.approx(0.5) and weights[-1] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(weights))


def test_dead_codes_of_vq_come_back_to_life():
    torch.manual_seed(0)
    made = make_quantizer(VQConfig(codes=32, features=2, decay=0.5, dead_below=0.5)).train()
    made(torch.randn(64, 2, 1, 4, 4) * 0.01)  # all codes are placed at the origin
    used = set()
    for _ in range(60):
        used = set(made(torch.randn(64, 2, 1, 4, 4) * 5).tokens.flatten().tolist())
    assert len(used) >= 30


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tokenizer_takes_any_quantizer(kind):
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(base_channels=16, quantizer=CONFIGS[kind]))
    video = torch.rand(4, 1, 8, 32, 32)
    output, _ = tokenizer(video)
    tokenizer.eval()
    assert output.shape == video.shape and tokenizer.decode(tokenizer.encode(video)).shape == video.shape
