"""An independent judge: a small 3-D CNN that names the family from pixels and knows nothing of MAGVIT.

The one that judges generated clips is not the one that classification is compared with: train two, of different seeds.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips, load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.settings import Settings
from trajvit.training.loop import FitConfig, fit
from trajvit.worlds.families import NAMES

# The judge's own stream of randomness: it shares neither initial weights nor order of data with what it judges.
SEED_OFFSET = 1_000_003
CHUNK = 256


class JudgeConfig(Settings):
    """How the judge is trained."""

    steps: int = Field(400, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(2e-3, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)


class Judge(nn.Module):
    """Strided 3-D convolutions, then a linear layer on all that is left, so that where things happen counts."""

    def __init__(self, channels: int, clip: tuple[int, int, int], classes: int):
        super().__init__()
        widths, layers = (channels, 16, 32, 64, 64), []
        frames, height, width = clip
        for before, after in itertools.pairwise(widths):
            stride = (2 if frames > 2 else 1, 2, 2)
            layers += [nn.Conv3d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            frames, height, width = (-(-size // step) for size, step in zip((frames, height, width), stride, strict=True))
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(widths[-1] * frames * height * width, classes)

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        return self.head(self.body(video))

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
        return torch.cat([self.body(chunk) for chunk in video.split(CHUNK)]).double().numpy()


class _Naming(nn.Module):
    """The judge and its cross-entropy."""

    def __init__(self, model: Judge, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.matrices = model, clips, len(clips), clips.block, []

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        chosen = rows.cpu()
        # Without autocast: PyTorch 2.13's bfloat16 gradient of a strided conv3d comes out infinite on a CPU.
        with torch.autocast(rows.device.type, enabled=False):
            logits = self.model(self.clips.videos(chosen).to(rows.device))
        return {"class": F.cross_entropy(logits, self.clips.labels[chosen].to(rows.device))}


def train_judge(
    config: JudgeConfig, dataset: Dataset, out: str | Path, samples: int | None = None, on_progress: Listener = silent
) -> Judge:
    """Train the judge on the first `samples` clips of `dataset`; a finished training in `out` is loaded, not repeated."""
    world = dataset.config.world
    clips = load_clips(dataset, samples)
    torch.manual_seed(config.seed + SEED_OFFSET)
    judge = Judge(world.channels, (world.frames, world.height, world.width), len(NAMES))
    settings = FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed + SEED_OFFSET,
    )
    identity = {"data": dataset.config.origin | {"samples": len(clips)}}
    return fit("judge", _Naming(judge, clips), settings, identity, Path(out), on_progress).model
