"""The comparison of generation: the same tokens, width and depth as MAGVIT's, one token after the other."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from pydantic import Field

from trajvit.datasets.loading import load_clips, to_frames
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tokenizer import Tokenizer
from trajvit.settings import InputError, Settings
from trajvit.training.loop import FitConfig, fit
from trajvit.training.objectives import NextToken
from trajvit.training.recipe import Recipe

CHUNK = 64


class AutoregressiveConfig(Settings):
    """How the autoregressive transformer is trained; give it as many steps and as large batches as MAGVIT's had."""

    steps: int = Field(2500, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(4e-3, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**32)


@dataclass(frozen=True)
class AutoregressiveGenerator:
    """A trained transformer with the tokenizer whose tokens it knows."""

    tokenizer: Tokenizer
    model: AutoregressiveTransformer

    def generate(self, labels: Int[np.ndarray, " N"], seed: int = 0) -> UInt8[np.ndarray, "N T H W C"]:
        """New clips of the given families, one a label. Raises `InputError` for an unknown one."""
        classes = self.model.config.classes
        if not len(labels) or labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"labels {np.unique(labels)} were given; this model knows 0..{classes - 1}: give at least one of them"
            )
        clips = []
        for chunk, wanted in enumerate(torch.from_numpy(labels.astype(np.int64)).split(CHUNK)):
            tokens = self.model.generate(wanted, seed=seed * 2**20 + chunk)
            grid = tokens.unflatten(1, self.tokenizer.config.grid)
            clips.append(to_frames(self.tokenizer.decode(grid.to(next(self.tokenizer.parameters()).device))))
        return np.concatenate(clips)


def train_autoregressive(
    config: AutoregressiveConfig,
    recipe: Recipe,
    magvit: MAGVIT,
    dataset: Dataset,
    out: str | Path,
    on_progress: Listener = silent,
) -> AutoregressiveGenerator:
    """Train on `dataset`, in the tokens of `magvit` and in the size of its transformer, and on the clips that it learnt by `recipe`
    to generate from: those of `dataset` and, where it learnt from such, their mirror images. Each clip is drawn once.

    A finished training in `out` is loaded, not repeated; its folder belongs to one MAGVIT.
    """
    clips = recipe.model_copy(update={"shifts": 0}).learnt(load_clips(dataset))
    transformer = magvit.config.transformer
    torch.manual_seed(config.seed)
    objective = NextToken(AutoregressiveTransformer(transformer), magvit.tokenizer, clips)
    settings = FitConfig(steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate, seed=config.seed)
    # Two tokenizers of one config differ in their tokens.
    identity = {
        "data": dataset.origin(len(dataset)),
        "transformer": transformer.model_dump(mode="json"),
        "tokens": sha256(objective.tokens.cpu().numpy().tobytes()).hexdigest(),
    }
    return AutoregressiveGenerator(
        magvit.tokenizer, fit("autoregressive", objective, settings, identity, Path(out), on_progress).model.cpu()
    )
