"""The adversary of the tokenizer: a 3-D discriminator, its losses, and the two ways to keep it from running away.

After MAGVIT (arXiv:2212.05199, section 3.1 and appendix B.1): a 3-D StyleGAN discriminator under the non-saturating
loss, held by R1 in its code and by LeCam in its text. Every loss is a mean over logits (B,).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trajvit.magvit.precision import float32_on
from trajvit.magvit.tokenizer import PaddedConv3d

Video = Float[Tensor, "B C T H W"]
Logits = Float[Tensor, " B"]
MULTIPLIERS = (2, 4, 4)  # channels of each block, times those of the first layer


def _convolution(channels_in: int, channels_out: int) -> PaddedConv3d:
    return PaddedConv3d(channels_in, channels_out, (3, 3, 3), front=1, back=1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions beside a skip, then the axes of even length above 2 are halved by averaging.

    No norm, which would undo what R1 holds down.
    """

    def __init__(self, channels_in: int, channels_out: int, halve: tuple[int, int, int]):
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels_in, channels_in),
            nn.LeakyReLU(0.2),
            _convolution(channels_in, channels_out),
            nn.LeakyReLU(0.2),
        )
        self.skip = nn.Conv3d(channels_in, channels_out, 1, bias=False)
        self.pool = nn.AvgPool3d(halve)

    def forward(self, x: Float[Tensor, "B D t h w"]) -> Float[Tensor, "B E t2 h2 w2"]:
        return self.pool(self.skip(x) + self.body(x)) * 0.5**0.5


class Discriminator(nn.Module):
    """How real a video looks: one logit a clip, above 0 for real. `restraint` is what its own loss adds, `R1` or `LeCam`."""

    def __init__(self, channels: int, clip: tuple[int, int, int], restraint: nn.Module, width: int = 32):
        super().__init__()
        self.restraint = restraint
        shape, blocks, before = clip, [], width
        for multiplier in MULTIPLIERS:
            halve = tuple(2 if size > 2 and size % 2 == 0 else 1 for size in shape)
            shape = tuple(size // step for size, step in zip(shape, halve, strict=True))
            blocks.append(DiscriminatorBlock(before, width * multiplier, halve))
            before = width * multiplier
        frames, height, width_left = shape
        self.layers = nn.Sequential(
            _convolution(channels, width),
            nn.LeakyReLU(0.2),
            *blocks,
            nn.Flatten(),
            nn.Linear(before * frames * height * width_left, before),
            nn.LeakyReLU(0.2),
            nn.Linear(before, 1),
        )

    def forward(self, video: Video) -> Logits:
        return self.layers(video)[:, 0]


def generator_loss(fake: Logits) -> Float[Tensor, ""]:
    """What the tokenizer pays for reconstructions that do not pass as real (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Logits, fake: Logits) -> Float[Tensor, ""]:
    """What the discriminator pays for taking one for the other."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


class R1(nn.Module):
    """Half the squared gradient at real videos (arXiv:1801.04406, Eq. 9); 10 is MAGVIT's weight."""

    def __init__(self, weight: float = 10.0):
        super().__init__()
        self.weight = weight

    def forward(self, discriminator: nn.Module, video: Video, real: Logits, fake: Logits) -> Float[Tensor, ""]:
        with float32_on(video.device):  # the gradient is differentiated once more
            video = video.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(discriminator(video).sum(), video, create_graph=True)
            return self.weight * gradient.square().flatten(1).sum(1).mean() / 2


class LeCam(nn.Module):
    """Holds the logits of real clips near where those of fake ones have been, and the reverse (arXiv:2104.03310, Eq. 4)."""

    def __init__(self, weight: float = 0.1, decay: float = 0.99):
        super().__init__()
        self.weight, self.decay = weight, decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, discriminator: nn.Module, video: Video, real: Logits, fake: Logits) -> Float[Tensor, ""]:
        real, fake = real.float(), fake.float()
        self.real.lerp_(real.detach().mean(), 1 - self.decay)
        self.fake.lerp_(fake.detach().mean(), 1 - self.decay)
        return self.weight * ((real - self.fake).square().mean() + (fake - self.real).square().mean())


RESTRAINTS = {"r1": R1, "lecam": LeCam}
