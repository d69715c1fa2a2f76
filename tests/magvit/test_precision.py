import pytest
import torch
from torch import nn
from trajvit.magvit.precision import precision_on
from trajvit.magvit.quantizers import KINDS, make_quantizer
from trajvit.training.objectives import LightReader, relative_light_centres


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"neon": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_it(capabilities, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with precision_on(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == precision


def in_bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def test_where_light_is_is_told_and_read_as_exactly_in_bfloat16_as_without():
    """Of which a pixel near the border of 32 would have steps of a tenth."""
    torch.manual_seed(0)
    video, features, reader = torch.rand(2, 1, 8, 32, 32) ** 8, torch.randn(2, 64, 128), LightReader(128, (4, 4, 4), 8)
    nn.init.normal_(reader.weight)
    told = relative_light_centres(video)
    with in_bfloat16():
        assert torch.equal(relative_light_centres(video), told)
        read = reader(features, told)
    assert torch.equal(read, reader(features, told)) and read.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_quantized_in_bfloat16_as_without(kind):
    torch.manual_seed(0)
    config = KINDS[kind]()
    made = make_quantizer(config).train()
    made(torch.randn(8, config.features, 4, 4, 4))
    made.eval()
    features = torch.randn(2, config.features, 4, 4, 4)
    plain = made(features)
    with in_bfloat16():
        assert torch.equal(made(features).tokens, plain.tokens)
