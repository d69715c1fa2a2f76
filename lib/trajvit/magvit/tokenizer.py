"""The 3-D video tokenizer: a causal convolutional autoencoder around finite scalar quantization.

After MAGVIT (Yu et al., arXiv:2212.05199, section 3.1: average-pool down, nearest + convolution up, swish) with the
causal convolutions of MAGVIT-v2 (arXiv:2310.05737, section 3.2) and FSQ (Mentzer et al., arXiv:2309.15505).
Layouts: videos (B, C, T, H, W) float32 in [0, 1]; features (B, D, t, h, w); tokens (B, t, h, w) int64.
"""

from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ

from trajvit.settings import InputError, Settings

Video = Float[Tensor, "B C T H W"]
Tokens = Int[Tensor, "B t h w"]
Stride = tuple[int, int, int]


SIZES = {
    "nano": {"patch": (2, 4, 4), "base_channels": 64, "multipliers": (1, 2), "downsample": ((1, 2, 2),), "blocks": 1, "kernel": (2, 3, 3)},
    "small": {"patch": (1, 2, 2), "base_channels": 64, "multipliers": (1, 2, 2), "downsample": ((2, 2, 2), (1, 2, 2)), "blocks": 2},
    "base": {"patch": (1, 1, 1), "base_channels": 64, "multipliers": (1, 2, 2, 4), "downsample": ((2, 2, 2), (1, 2, 2), (1, 2, 2)), "blocks": 2},
    "large": {"patch": (1, 1, 1), "base_channels": 128, "multipliers": (1, 2, 2, 4), "downsample": ((2, 2, 2), (1, 2, 2), (1, 2, 2)), "blocks": 2},
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
    fsq_levels: tuple[int, ...] = Field((8, 5, 5, 5), min_length=1, description="values of each digit of a token")

    @classmethod
    def named(cls, size: str, **clip: int) -> "TokenizerConfig":
        """A size by name, for clips of `frames`, `height`, `width`, `channels`."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; there are {', '.join(SIZES)}")
        return cls(**SIZES[size], **clip)

    @model_validator(mode="after")
    def _divides_the_clip(self):
        if len(self.downsample) != len(self.multipliers) - 1:
            raise ValueError(
                f"downsample has {len(self.downsample)} strides for {len(self.multipliers)} levels; "
                f"it needs {len(self.multipliers) - 1}"
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
        return prod(self.fsq_levels)


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution, stride 1, that sees no later frame: time is padded in front only, space on both sides."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Stride):
        super().__init__(channels_in, channels_out, kernel)
        time, height, width = kernel
        self.pad = (width // 2, width // 2, height // 2, height // 2, time - 1, 0)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B E t h w"]:
        return super().forward(F.pad(x, self.pad))


class FrameNorm(nn.Module):
    """GroupNorm over each frame by itself: over time it would take statistics from the future.

    Unlike a norm of each position it keeps the ball brighter than the black around it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(max(1, channels // 16), channels)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B D t h w"]:
        frames = rearrange(x, "b d t h w -> (b t) d h w")
        return rearrange(self.norm(frames), "(b t) d h w -> b d t h w", b=len(x))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: Stride):
        super().__init__()
        self.body = nn.Sequential(
            FrameNorm(channels_in),
            nn.SiLU(),
            CausalConv3d(channels_in, channels_out, kernel),
            FrameNorm(channels_out),
            nn.SiLU(),
            CausalConv3d(channels_out, channels_out, kernel),
        )
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B E t h w"]:
        return self.skip(x) + self.body(x)


class Encoder(nn.Module):
    """Video to features of the token grid."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        widths = [config.base_channels * m for m in config.multipliers]
        self.patch = config.patch
        layers = [nn.Conv3d(config.channels * prod(config.patch), widths[0], 1)]
        for level, width in enumerate(widths):
            if level:
                layers.append(nn.AvgPool3d(config.downsample[level - 1]))
            layers += [
                ResidualBlock(widths[max(level - 1, 0)] if b == 0 else width, width, config.kernel) for b in range(config.blocks)
            ]
        self.layers = nn.Sequential(*layers, FrameNorm(widths[-1]), nn.SiLU(), nn.Conv3d(widths[-1], len(config.fsq_levels), 1))

    def forward(self, video: Video) -> Float[Tensor, "B D t h w"]:
        kt, kh, kw = self.patch
        return self.layers(rearrange(video, "b c (t kt) (h kh) (w kw) -> b (c kt kh kw) t h w", kt=kt, kh=kh, kw=kw))


class Decoder(nn.Module):
    """Quantized features of the token grid to video."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        widths = [config.base_channels * m for m in config.multipliers]
        self.patch = config.patch
        layers = [CausalConv3d(len(config.fsq_levels), widths[-1], config.kernel)]
        for level in reversed(range(len(widths))):
            layers += [ResidualBlock(widths[level], widths[level], config.kernel) for _ in range(config.blocks)]
            if level:
                layers += [
                    nn.Upsample(scale_factor=config.downsample[level - 1]),
                    CausalConv3d(widths[level], widths[level - 1], config.kernel),
                ]
        head = nn.Conv3d(widths[0], config.channels * prod(config.patch), 1)
        self.layers = nn.Sequential(*layers, FrameNorm(widths[0]), nn.SiLU(), head)

    def forward(self, features: Float[Tensor, "B D t h w"]) -> Video:
        kt, kh, kw = self.patch
        return rearrange(self.layers(features), "b (c kt kh kw) t h w -> b c (t kt) (h kh) (w kw)", kt=kt, kh=kh, kw=kw)


class Tokenizer(nn.Module):
    """Turns videos into integer tokens and back; there is no path around the quantizer."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = FSQ(list(config.fsq_levels), channel_first=True)
        self.decoder = Decoder(config)

    def forward(self, video: Video) -> Video:
        """The reconstruction, with gradients passed straight through the rounding; not clamped to [0, 1]."""
        quantized, _ = self.quantizer(self.encoder(video))
        return self.decoder(quantized)

    @torch.no_grad()
    def encode(self, video: Video) -> Tokens:
        """Tokens 0..codes-1 of videos in [0, 1]."""
        _, tokens = self.quantizer(self.encoder(video))
        return tokens.long()

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Video:
        """Videos in [0, 1] of tokens."""
        return self.decoder(self.quantizer.indices_to_codes(tokens)).clamp(0, 1)


def reconstruction_loss(output: Video, video: Video, foreground_weight: float) -> Float[Tensor, ""]:
    """Mean squared error with ball pixels weighted: a small ball on black is otherwise 98 % solved by a blank frame.

    A pixel weighs 1 + foreground_weight * brightness of the target, so the soft edge counts by degrees.
    """
    return ((1 + foreground_weight * video) * (output - video) ** 2).mean()
