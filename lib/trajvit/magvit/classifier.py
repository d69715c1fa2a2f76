"""A small 3-D CNN on pixels: the judge of what MAGVIT generates, the baseline of what it classifies, and, frozen, the
features in which a perceptual loss is measured."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajvit.magvit.precision import float32_on

CHUNK = 256


class VideoClassifier(nn.Module):
    """Strided 3-D convolutions, then a linear layer on all that is left, so that where things happen counts.

    It sees clips of (`frames`, height, width), `clip`.
    """

    def __init__(self, channels: int, clip: tuple[int, int, int], classes: int):
        super().__init__()
        widths, layers = (channels, 16, 32, 64, 64), []
        self.frames = clip[0]
        frames, height, width = clip
        for before, after in itertools.pairwise(widths):
            stride = (2 if frames > 2 else 1, 2, 2)
            layers.append(nn.Sequential(nn.Conv3d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.SiLU()))
            frames, height, width = (-(-size // step) for size, step in zip((frames, height, width), stride, strict=True))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(widths[-1] * frames * height * width, classes))

    def activations(self, video: Float[Tensor, "B C T H W"]) -> list[Float[Tensor, "B D t h w"]]:
        """What each layer makes of a video.

        In float32 whatever the autocast: PyTorch 2.13's bfloat16 gradient of a conv3d that pads by itself is infinite on a
        CPU every other time.
        """
        found = []
        with float32_on(video.device):
            video = video.float()
            for layer in self.layers:
                video = layer(video)
                found.append(video)
        return found

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Logits of the classes."""
        return self.head(self.activations(video)[-1])

    @torch.no_grad()
    def classify(self, video: Float[Tensor, "B C T H W"]) -> Int[Tensor, " B"]:
        """The likeliest class of each video in [0, 1]."""
        return self.probabilities(video).argmax(-1)

    @torch.no_grad()
    def probabilities(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """How probable each class of each video in [0, 1] is."""
        return torch.cat([self(chunk).softmax(-1) for chunk in video.split(CHUNK)])

    @torch.no_grad()
    def features(self, video: Float[Tensor, "B C T H W"]) -> Float[np.ndarray, "B D"]:
        """What the last layer sees of each video, where distributions of clips are compared."""
        return torch.cat([self.activations(chunk)[-1].flatten(1) for chunk in video.split(CHUNK)]).cpu().double().numpy()


def perceptual_loss(
    classifier: VideoClassifier, output: Float[Tensor, "B C T H W"], video: Float[Tensor, "B C T H W"]
) -> Float[Tensor, ""]:
    """Squared distance of unit activations, summed over channels, its mean over places and layers (arXiv:1801.03924, Eq. 1)."""
    with torch.no_grad():
        wanted = classifier.activations(video)
    distances = [
        (F.normalize(made, dim=1) - F.normalize(real, dim=1)).square().sum(1).mean()
        for made, real in zip(classifier.activations(output), wanted, strict=True)
    ]
    return torch.stack(distances).mean()
