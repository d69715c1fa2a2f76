"""Three ways to make integers of features, behind one face: FSQ, VQ and LFQ, all from vector-quantize-pytorch.

A token is a number 0..codes-1, read as `digits` (least significant first) by the transformer's factorized heads.
Layouts: features (B, D, t, h, w) float32; tokens (B, t, h, w) int64.
"""

from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, VectorQuantize

from trajvit.magvit.precision import float32_on
from trajvit.settings import Settings

Features = Float[Tensor, "B D t h w"]
Tokens = Int[Tensor, "B t h w"]
Unrounded = Float[Tensor, "B t h w n"]


def to_digits(tokens: Int[Tensor, "*shape"], levels: tuple[int, ...]) -> Int[Tensor, "*shape n"]:
    """The digits of tokens, least significant first, as FSQ numbers its codes."""
    digits = []
    for level in levels:
        digits.append(tokens % level)
        tokens = tokens // level
    return torch.stack(digits, dim=-1)


def from_digits(digits: Int[Tensor, "*shape n"], levels: tuple[int, ...]) -> Int[Tensor, "*shape"]:
    """The inverse of `to_digits`."""
    tokens = torch.zeros_like(digits[..., 0])
    for level, digit in reversed(list(zip(levels, digits.unbind(-1), strict=True))):
        tokens = tokens * level + digit
    return tokens


def rounded(unrounded: Float[Tensor, "*shape n"], levels: tuple[int, ...]) -> Int[Tensor, "*shape"]:
    """The tokens whose digits are nearest."""
    return from_digits(unrounded.round().long(), levels)


class FSQConfig(Settings):
    """Finite scalar quantization (arXiv:2309.15505): each feature is rounded to a few levels. It cannot collapse."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = Field((64, 64), min_length=1, description="values of each feature")

    @property
    def digits(self) -> tuple[int, ...]:
        return self.levels

    @property
    def features(self) -> int:
        return len(self.levels)


class VQConfig(Settings):
    """Vector quantization (arXiv:1711.00937): the nearest vector of a codebook that follows the features by EMA.

    Codes that are hardly used any more are put where features are (arXiv:2107.03312, section III-B).
    """

    kind: Literal["vq"] = "vq"
    codes: int = Field(1024, ge=2)
    features: int = Field(32, ge=1, description="256 in the paper")
    decay: float = Field(0.99, gt=0, lt=1, description="of the codebook's moving averages")
    dead_below: float = Field(0.5, ge=0, description="uses a batch, by moving average, under which a code is put elsewhere")
    commitment: float = Field(0.25, ge=0, description="weight of the loss that holds features near their codes")
    diversity: float = Field(0.1, ge=0, description="weight of the loss that wants all codes in use")

    @property
    def digits(self) -> tuple[int, ...]:
        return (self.codes,)


class LFQConfig(Settings):
    """Lookup-free quantization (MAGVIT-v2, arXiv:2310.05737, section 3.1): the signs of the features.

    The entropy term, which wants each sign sure and all codes used, begins `entropy_boost` times as strong and falls to
    `entropy` over `anneal_steps`, as in MAGVIT-v2's schedule.
    """

    kind: Literal["lfq"] = "lfq"
    bits: int = Field(10, ge=1, le=18)
    entropy: float = Field(0.02, ge=0)
    entropy_boost: float = Field(5.0, ge=1)
    anneal_steps: int = Field(500, ge=1)
    commitment: float = Field(0.25, ge=0)

    @property
    def digits(self) -> tuple[int, ...]:
        """Two digits of half the bits each: MAGVIT-v2's token factorization."""
        low = self.bits // 2
        return (2**low, 2 ** (self.bits - low)) if low else (2,)

    @property
    def features(self) -> int:
        return self.bits


QuantizerConfig = Annotated[FSQConfig | VQConfig | LFQConfig, Field(discriminator="kind")]
BOUND_EPS = 1e-3  # how far beyond its outermost values the library lets a feature of FSQ reach
KINDS = {"fsq": FSQConfig, "vq": VQConfig, "lfq": LFQConfig}


@dataclass(frozen=True)
class Quantized:
    """Features moved to their codes, with gradients passed straight through; the tokens; their digits before they were rounded,
    where they are numbers that can be (FSQ's alone); and what to add to the loss, where the quantizer has a loss of its own."""

    features: Features
    tokens: Tokens
    digits: Unrounded
    loss: Float[Tensor, ""] | None


class FiniteScalar(nn.Module):
    def __init__(self, config: FSQConfig):
        super().__init__()
        self.quantizer = FSQ(list(config.levels), channel_first=True)
        self.register_buffer("levels", torch.tensor(config.levels), persistent=False)

    def forward(self, features: Features) -> Quantized:
        quantized, tokens = self.quantizer(features)
        return Quantized(quantized, tokens.long(), self._unrounded(features.detach()), None)

    def codes(self, tokens: Tokens) -> Features:
        return self.quantizer.indices_to_codes(tokens)

    def _unrounded(self, features: Features) -> Unrounded:
        """What the library rounds, which it does not hand out, counted from 0."""
        half, offset = (self.levels - 1) * (1 + BOUND_EPS) / 2, (1 - self.levels % 2) / 2
        bounded = (features.movedim(1, -1).float() + (offset / half).atanh()).tanh() * half - offset
        return (bounded + self.levels // 2).clamp(min=0).minimum((self.levels - 1).float())


class Nearest(nn.Module):
    def __init__(self, config: VQConfig):
        super().__init__()
        self.levels = config.digits
        self.quantizer = VectorQuantize(
            dim=config.features,
            codebook_size=config.codes,
            decay=config.decay,
            kmeans_init=True,
            threshold_ema_dead_code=config.dead_below,
            commitment_weight=config.commitment,
            codebook_diversity_loss_weight=config.diversity,
            rotation_trick=False,
            accept_3d_fmap=True,
            channel_last=False,
        )

    def forward(self, features: Features) -> Quantized:
        with float32_on(features.device):  # the library sees to that on CUDA alone
            quantized, tokens, loss = self.quantizer(features.float())
        return Quantized(quantized, tokens.long(), to_digits(tokens.long(), self.levels).float(), loss.sum())

    def codes(self, tokens: Tokens) -> Features:
        return self.quantizer.get_codes_from_indices(tokens)


class Signs(nn.Module):
    def __init__(self, config: LFQConfig):
        super().__init__()
        self.config = config
        self.quantizer = LFQ(
            dim=config.bits,
            codebook_size=2**config.bits,
            entropy_loss_weight=1.0,
            commitment_loss_weight=0.0,
            channel_first=True,
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, features: Features) -> Quantized:
        # Each position to unit size without a learned scale: else the features shrink or grow out of the entropy term's
        # reach. The mean stays, or no position could have all its signs alike.
        with float32_on(features.device):  # the library sees to that on CUDA alone
            normal = F.rms_norm(features.float().movedim(1, -1), (self.config.bits,)).movedim(-1, 1)
            quantized, tokens, entropy = self.quantizer(normal)
        loss = self._entropy_weight() * entropy + self.config.commitment * F.mse_loss(normal, quantized.detach())
        if self.training:
            self.steps += 1
        return Quantized(quantized, tokens.long(), to_digits(tokens.long(), self.config.digits).float(), loss)

    def codes(self, tokens: Tokens) -> Features:
        return self.quantizer.indices_to_codes(tokens)

    def _entropy_weight(self) -> Float[Tensor, ""]:
        left = (1 - self.steps / self.config.anneal_steps).clamp(min=0)
        return self.config.entropy * (1 + (self.config.entropy_boost - 1) * left)


def make_quantizer(config: FSQConfig | VQConfig | LFQConfig) -> FiniteScalar | Nearest | Signs:
    """The module of a config: `forward(features)` gives `Quantized`, `codes(tokens)` the features that tokens stand for."""
    return {"fsq": FiniteScalar, "vq": Nearest, "lfq": Signs}[config.kind](config)


def code_count(config: FSQConfig | VQConfig | LFQConfig) -> int:
    """The size of the codebook."""
    return prod(config.digits)
