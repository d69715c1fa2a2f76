"""The 3-D video tokenizer: a convolutional autoencoder around a quantizer.

After MAGVIT (Yu et al., arXiv:2212.05199, section 3.1: average-pool down, nearest + convolution up, swish), by default
with the causal convolutions of MAGVIT-v2 (arXiv:2310.05737, section 3.2), but for its first frame, which there is a slice of its own:
here each slice is of as many frames.
Layouts: videos (B, C, T, H, W) float32 in [0, 1]; features (B, D, t, h, w); tokens (B, t, h, w) int64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from trajvit.magvit.precision import float32_on
from trajvit.magvit.quantizers import (
    FSQConfig,
    Quantized,
    QuantizerConfig,
    Tokens,
    Unrounded,
    code_count,
    make_quantizer,
    rounded,
    to_digits,
)
from trajvit.settings import InputError, Settings

Video = Float[Tensor, "B C T H W"]
Stride = tuple[int, int, int]

CHANNELS_A_GROUP = 16  # of the norms

SIZES = {
    "nano": {"patch": (2, 4, 4), "base_channels": 64, "multipliers": (1, 2), "downsample": ((1, 2, 2),), "blocks": 1, "kernel": (2, 3, 3)},
    "small": {"patch": (1, 2, 2), "base_channels": 64, "multipliers": (1, 2, 2), "downsample": ((2, 2, 2), (1, 2, 2)), "blocks": 2},
    "base": {"patch": (1, 1, 1), "base_channels": 64, "multipliers": (1, 2, 2, 4), "downsample": ((2, 2, 2), (2, 2, 2), (1, 2, 2)), "blocks": 2},
    "large": {"patch": (1, 1, 1), "base_channels": 128, "multipliers": (1, 2, 2, 4), "downsample": ((2, 2, 2), (2, 2, 2), (1, 2, 2)), "blocks": 2},
}  # fmt: skip


class TokenizerConfig(Settings):
    """The shape of a tokenizer. Strides are (time, height, width)."""

    frames: int = Field(8, ge=1)
    height: int = Field(32, ge=1)
    width: int = Field(32, ge=1)
    channels: int = Field(1, ge=1)
    patch: Stride = Field((2, 4, 4), description="pixels that the first layer folds into one position; (1, 1, 1) in the paper")
    base_channels: int = Field(64, ge=1)
    multipliers: tuple[int, ...] = Field((1, 2), min_length=1, description="channels of each level, times base_channels")
    downsample: tuple[Stride, ...] = Field(((1, 2, 2),), description="average-pool stride after each level but the last")
    kernel: Stride = Field((3, 3, 3), description="taps of every convolution along (time, height, width), odd in space")
    blocks: int = Field(1, ge=1, description="residual blocks a level")
    padding: Literal["causal", "same"] = Field("causal", description="causal: no time slice sees a later one; same: MAGVIT's own")
    quantizer: QuantizerConfig = FSQConfig()

    @classmethod
    def named(cls, size: str, **clip) -> "TokenizerConfig":
        """A size by name, for clips of `frames`, `height`, `width`, `channels`, and any other parameter."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; there are {', '.join(SIZES)}")
        return cls(**SIZES[size] | clip)

    @model_validator(mode="after")
    def _divides_the_clip(self):
        if len(self.downsample) != len(self.multipliers) - 1:
            raise ValueError(
                f"downsample has {len(self.downsample)} strides for {len(self.multipliers)} levels; "
                f"it needs {len(self.multipliers) - 1}"
            )
        if any(taps % 2 == 0 for taps in self.kernel[1:]):
            raise ValueError(f"kernel = {self.kernel} is even in space: use odd numbers of rows and columns")
        for channels in (self.base_channels * multiplier for multiplier in self.multipliers):
            if channels % _groups_of(channels):
                raise ValueError(
                    f"base_channels = {self.base_channels} make a level of {channels} channels, which do not divide into "
                    f"{_groups_of(channels)} groups: use a multiple of {CHANNELS_A_GROUP}"
                )
        for axis, size, stride in zip(("frames", "height", "width"), self.clip, self.stride, strict=True):
            if size % stride:
                raise ValueError(
                    f"{axis} = {size} does not divide by the tokenizer's stride of {stride}: use a multiple of {stride}"
                )
        return self

    @property
    def clip(self) -> Stride:
        """(T, H, W) of a clip."""
        return self.frames, self.height, self.width

    @property
    def stride(self) -> Stride:
        """Pixels a token spans along (time, height, width)."""
        return tuple(prod(axis) for axis in zip(self.patch, *self.downsample, strict=True))

    @property
    def grid(self) -> Stride:
        """(t, h, w) of a clip's tokens."""
        return tuple(size // stride for size, stride in zip(self.clip, self.stride, strict=True))

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return code_count(self.quantizer)


class PaddedConv3d(nn.Conv3d):
    """A 3-D convolution, stride 1, that keeps the size: `front` and `back` frames of zeros in time, as many rows and
    columns on either side in space.

    The zeros are put there before the convolution: PyTorch 2.13's bfloat16 gradient of a conv3d that pads by itself comes
    out infinite every other time on a CPU.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: Stride, front: int, back: int):
        super().__init__(channels_in, channels_out, kernel)
        _, height, width = kernel
        self.pad = (width // 2, width // 2, height // 2, height // 2, front, back)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B E t h w"]:
        return super().forward(F.pad(x, self.pad))


def _groups(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_groups_of(channels), channels)


def _groups_of(channels: int) -> int:
    return max(1, channels // CHANNELS_A_GROUP)


class FrameNorm(nn.Module):
    """GroupNorm over each frame by itself: over time it would take statistics from the future.

    Unlike a norm of each position it keeps the ball brighter than the black around it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _groups(channels)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B D t h w"]:
        frames = rearrange(x, "b d t h w -> (b t) d h w")
        return rearrange(self.norm(frames), "(b t) d h w -> b d t h w", b=len(x))


@dataclass(frozen=True)
class Parts:
    """The two parts in which MAGVIT and MAGVIT-v2 differ."""

    convolution: Callable[[int, int], nn.Module]
    norm: Callable[[int], nn.Module]


def parts(config: TokenizerConfig) -> Parts:
    """Convolutions and norms that see no later time slice, or MAGVIT's own, which look both ways."""
    taps = config.kernel[0]
    front = taps - 1 if config.padding == "causal" else taps // 2
    return Parts(
        convolution=partial(PaddedConv3d, kernel=config.kernel, front=front, back=taps - 1 - front),
        norm=FrameNorm if config.padding == "causal" else _groups,
    )


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, of: Parts):
        super().__init__()
        self.body = nn.Sequential(
            of.norm(channels_in),
            nn.SiLU(),
            of.convolution(channels_in, channels_out),
            of.norm(channels_out),
            nn.SiLU(),
            of.convolution(channels_out, channels_out),
        )
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B E t h w"]:
        return self.skip(x) + self.body(x)


class Encoder(nn.Module):
    """Video to features of the token grid."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        widths, of = [config.base_channels * m for m in config.multipliers], parts(config)
        self.patch = config.patch
        layers = [nn.Conv3d(config.channels * prod(config.patch), widths[0], 1)]
        for level, width in enumerate(widths):
            if level:
                layers.append(nn.AvgPool3d(config.downsample[level - 1]))
            layers += [ResidualBlock(widths[max(level - 1, 0)] if b == 0 else width, width, of) for b in range(config.blocks)]
        head = nn.Conv3d(widths[-1], config.quantizer.features, 1)
        self.layers = nn.Sequential(*layers, of.norm(widths[-1]), nn.SiLU(), head)

    def forward(self, video: Video) -> Float[Tensor, "B D t h w"]:
        kt, kh, kw = self.patch
        return self.layers(rearrange(video, "b c (t kt) (h kh) (w kw) -> b (c kt kh kw) t h w", kt=kt, kh=kh, kw=kw))


class Decoder(nn.Module):
    """Quantized features of the token grid to video."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        widths, of = [config.base_channels * m for m in config.multipliers], parts(config)
        self.patch = config.patch
        layers = [of.convolution(config.quantizer.features, widths[-1])]
        for level in reversed(range(len(widths))):
            layers += [ResidualBlock(widths[level], widths[level], of) for _ in range(config.blocks)]
            if level:
                layers += [
                    nn.Upsample(scale_factor=config.downsample[level - 1]),
                    of.convolution(widths[level], widths[level - 1]),
                ]
        head = nn.Conv3d(widths[0], config.channels * prod(config.patch), 1)
        self.layers = nn.Sequential(*layers, of.norm(widths[0]), nn.SiLU(), head)

    def forward(self, features: Float[Tensor, "B D t h w"]) -> Video:
        kt, kh, kw = self.patch
        return rearrange(self.layers(features), "b (c kt kh kw) t h w -> b c (t kt) (h kh) (w kw)", kt=kt, kh=kh, kw=kw)


class Tokenizer(nn.Module):
    """Turns videos into integer tokens and back; there is no path around the quantizer."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = make_quantizer(config.quantizer)
        self.decoder = Decoder(config)

    def forward(self, video: Video) -> tuple[Video, Quantized]:
        """The reconstruction, not clamped to [0, 1], and what the quantizer made of the features."""
        quantized = self.quantizer(self.encoder(video))
        return self.decoder(quantized.features), quantized

    def encode(self, video: Video) -> Tokens:
        """Tokens 0..codes-1 of videos in [0, 1]."""
        own = self.config.quantizer.digits
        return rounded(self.digits(video, own), own)

    @torch.no_grad()
    def digits(self, video: Video, levels: tuple[int, ...]) -> Unrounded:
        """The digits of videos' tokens, numbers of so many `levels`; not rounded, where they are those of FSQ itself.

        Not in bfloat16, whatever the precision around it, which would move them by up to an eighth.
        """
        own = self.config.quantizer.digits
        with float32_on(video.device):
            digits = self.quantizer(self.encoder(video)).digits
        return digits if levels == own else to_digits(rounded(digits, own), levels).float()

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Video:
        """Videos in [0, 1] of tokens."""
        return self.decoder(self.quantizer.codes(tokens)).clamp(0, 1)


def reconstruction_loss(output: Video, video: Video, foreground_weight: float) -> Float[Tensor, ""]:
    """Mean squared error with ball pixels weighted: a small ball on black is otherwise 98 % solved by a blank frame.

    A pixel weighs 1 + foreground_weight * brightness of the target, so the soft edge counts by degrees.
    """
    return ((1 + foreground_weight * video) * (output - video) ** 2).mean()
