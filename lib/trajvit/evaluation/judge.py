"""An independent judge: the small 3-D CNN, trained to name the family from pixels; it knows nothing of MAGVIT.

Notebook 04 trains three: one judges generated clips; beside two of another seed, which see whole clips and the first half of
their frames, stands classification.
"""

from pathlib import Path

import torch
from pydantic import Field

from trajvit.datasets.loading import FirstFrames, load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.magvit.classifier import VideoClassifier
from trajvit.settings import Settings
from trajvit.training.loop import FitConfig, fit
from trajvit.training.objectives import Classification
from trajvit.worlds.families import NAMES

# The judge's own stream of randomness: it shares neither initial weights nor order of data with what it judges.
SEED_OFFSET = 1_000_003


class JudgeConfig(Settings):
    """How the judge is trained."""

    steps: int = Field(400, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(2e-3, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)


def train_judge(
    config: JudgeConfig, dataset: Dataset, out: str | Path, on_progress: Listener = silent, given: int | None = None
) -> VideoClassifier:
    """Train the judge on `dataset`, or on the first `given` frames of its clips; a finished training in `out` is loaded, not
    repeated. It judges on the CPU."""
    world = dataset.config.world
    frames = given or world.frames
    clips = FirstFrames(load_clips(dataset), frames)
    torch.manual_seed(config.seed + SEED_OFFSET)
    judge = VideoClassifier(world.channels, (frames, world.height, world.width), len(NAMES))
    settings = FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed + SEED_OFFSET,
    )
    identity = {"data": dataset.origin(len(clips)), "given": frames}
    return fit("judge", Classification(judge, clips), settings, identity, Path(out), on_progress).model.cpu()
