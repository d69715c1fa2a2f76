import pytest
import torch
from trajvit.magvit.quantizers import rounded
from trajvit.magvit.tokenizer import SIZES, Tokenizer, TokenizerConfig, reconstruction_loss
from trajvit.settings import InputError


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(base_channels=16)).eval()


def test_tokens_are_integers_of_the_codebook_on_the_grid(tokenizer):
    tokens = tokenizer.encode(torch.rand(3, 1, 8, 32, 32))
    assert tokens.shape == (3, *tokenizer.config.grid) == (3, 4, 4, 4)
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() < tokenizer.config.codes


def test_tokens_and_their_digits_are_the_same_whatever_the_precision_around_them(tokenizer):
    video, levels = torch.rand(2, 1, 8, 32, 32), (64, 64)
    digits, tokens = tokenizer.digits(video, levels), tokenizer.encode(video)
    assert digits.shape == (2, 4, 4, 4, 2) and torch.equal(rounded(digits, levels), tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.digits(video, levels), digits) and torch.equal(tokenizer.encode(video), tokens)
        assert not torch.equal(tokenizer.quantizer(tokenizer.encoder(video)).digits, digits)


@pytest.mark.parametrize("frame", range(8))
def test_a_changed_frame_never_changes_an_earlier_token(tokenizer, frame):
    video = torch.rand(2, 1, 8, 32, 32)
    changed = video.clone()
    changed[:, :, frame] = torch.rand(2, 1, 32, 32)
    before = frame // tokenizer.config.stride[0]
    features, features_changed = tokenizer.encoder(video), tokenizer.encoder(changed)
    assert torch.equal(features[:, :, :before], features_changed[:, :, :before])
    assert not torch.equal(features[:, :, before], features_changed[:, :, before])


def test_a_changed_token_never_changes_an_earlier_frame(tokenizer):
    tokens = torch.randint(0, 1000, (2, 4, 4, 4))
    changed = tokens.clone()
    changed[:, 2] = (changed[:, 2] + 500) % 1000
    video, video_changed = tokenizer.decode(tokens), tokenizer.decode(changed)
    assert torch.equal(video[:, :, :4], video_changed[:, :, :4])
    assert not torch.equal(video[:, :, 4:], video_changed[:, :, 4:])


def test_with_same_padding_a_later_frame_is_seen():
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(base_channels=16, padding="same", kernel=(3, 3, 3))).eval()
    video = torch.rand(2, 1, 8, 32, 32)
    changed = video.clone()
    changed[:, :, 7] = torch.rand(2, 1, 32, 32)
    assert not torch.equal(tokenizer.encoder(video)[:, :, 0], tokenizer.encoder(changed)[:, :, 0])
    assert tokenizer.decode(tokenizer.encode(video)).shape == video.shape


def test_training_and_decoding_go_through_the_same_quantizer(tokenizer):
    video = torch.rand(2, 1, 8, 32, 32)
    assert torch.allclose(tokenizer(video)[0].clamp(0, 1), tokenizer.decode(tokenizer.encode(video)), atol=1e-5)


def test_gradients_reach_the_encoder_through_the_rounding(tokenizer):
    video = torch.rand(2, 1, 8, 32, 32)
    reconstruction_loss(tokenizer(video)[0], video, 10.0).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in tokenizer.encoder.named_parameters() if "weight" in name)


def test_a_blank_answer_costs_more_where_the_foreground_weighs():
    video = torch.zeros(1, 1, 2, 4, 4)
    video[..., 1, 1] = 1
    blank = torch.zeros_like(video)
    assert reconstruction_loss(video, video, 10.0) == 0
    assert torch.isclose(reconstruction_loss(blank, video, 10.0), 11 * reconstruction_loss(blank, video, 0.0))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_fits_both_formats(size):
    """The paper's B and L pool time twice: 16 frames of 128x128 become 4x16x16 tokens."""
    for clip in (
        {"frames": 8, "height": 32, "width": 32, "channels": 1},
        {"frames": 16, "height": 64, "width": 64, "channels": 3},
    ):
        config = TokenizerConfig.named(size, **clip)
        assert config.stride == ((4, 8, 8) if size in ("base", "large") else (2, 8, 8))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"frames": 7}, "frames = 7 does not divide by the tokenizer's stride of 2"),
        ({"height": 36}, "height = 36"),
        ({"multipliers": (1, 2, 4)}, "downsample has 1 strides for 3 levels"),
        ({"colour": 1}, "'colour' is not a parameter"),
    ],
)
def test_impossible_shapes_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        TokenizerConfig(**parameters)


@pytest.mark.parametrize(
    ("given", "why"), [({"base_channels": 56}, "use a multiple of 16"), ({"kernel": (3, 4, 4)}, "odd numbers")]
)
def test_what_no_layer_could_compute_is_refused_at_once(given, why):
    with pytest.raises(InputError, match=why):
        TokenizerConfig(**given)
