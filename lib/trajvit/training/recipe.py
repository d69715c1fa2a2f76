"""Both stages of MAGVIT, one after the other: from a dataset to a saved model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from trajvit.datasets.loading import load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.quantizers import KINDS
from trajvit.magvit.tasks import TASKS
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.settings import Settings
from trajvit.training.loop import FitConfig, fit
from trajvit.training.objectives import MaskedModelling, Reconstruction
from trajvit.worlds.config import ClipShape
from trajvit.worlds.families import NAMES


class Recipe(Settings):
    """Everything that decides a training besides its data."""

    size: Literal["nano", "small", "base", "large"] = "nano"
    quantizer: Literal["fsq", "vq", "lfq"] = "fsq"
    tokenizer_steps: int = Field(1500, ge=1)
    tokenizer_batch: int = Field(16, ge=1)
    transformer_steps: int = Field(2500, ge=1)
    transformer_batch: int = Field(64, ge=1)
    learning_rate: float = Field(4e-3, ge=0, le=1, description="the transformer's peak; the tokenizer's is half of it")
    foreground_weight: float = Field(6.0, ge=0)
    checkpoint_every: int = Field(200, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)

    def models(self, world: ClipShape) -> tuple[TokenizerConfig, TransformerConfig]:
        """The two configurations for clips of a shape. Raises `InputError` when the clips do not divide into tokens."""
        frames, height, width, channels = world.shape
        quantizer = KINDS[self.quantizer]()
        tokenizer = TokenizerConfig.named(
            self.size, frames=frames, height=height, width=width, channels=channels, quantizer=quantizer
        )
        transformer = TransformerConfig.named(
            self.size, grid=tokenizer.grid, levels=tokenizer.quantizer.digits, classes=len(NAMES), tasks=len(TASKS)
        )
        return tokenizer, transformer


@dataclass(frozen=True)
class Trained:
    """A trained MAGVIT and the logged scalars of each stage, `tokenizer` and `transformer`."""

    model: MAGVIT
    history: dict[str, dict[str, list[float]]]


def train(
    recipe: Recipe, dataset: Dataset, out: str | Path, samples: int | None = None, on_progress: Listener = silent
) -> Trained:
    """Train both stages on the first `samples` clips of `dataset` (all by default) and save the model in `out`.

    Run again it continues where it stopped; a finished training is loaded, not repeated. Raises `InputError`, before
    any training, when the clips do not fit the tokenizer or `out` holds another training.
    """
    root = Path(out)
    tokenizer_config, transformer_config = recipe.models(dataset.config.world)
    clips = load_clips(dataset, samples)
    shared = {"seed": recipe.seed, "checkpoint_every": recipe.checkpoint_every}
    tokenizer_fit = FitConfig(
        steps=recipe.tokenizer_steps, batch_size=recipe.tokenizer_batch, learning_rate=recipe.learning_rate / 2, **shared
    )
    transformer_fit = FitConfig(
        steps=recipe.transformer_steps, batch_size=recipe.transformer_batch, learning_rate=recipe.learning_rate, **shared
    )
    data = dataset.config.origin | {"samples": len(clips)}

    torch.manual_seed(recipe.seed)
    tokenizer_identity = {
        "data": data,
        "foreground_weight": recipe.foreground_weight,
        "tokenizer": tokenizer_config.model_dump(mode="json"),
        "tokenizer_fit": tokenizer_fit.model_dump(mode="json"),
    }
    first = fit(
        "tokenizer",
        Reconstruction(Tokenizer(tokenizer_config), clips, recipe.foreground_weight),
        tokenizer_fit,
        tokenizer_identity,
        root / "tokenizer",
        on_progress,
    )
    torch.manual_seed(recipe.seed)
    second = fit(
        "transformer",
        MaskedModelling(MaskedTransformer(transformer_config), first.model, clips),
        transformer_fit,
        tokenizer_identity | {"transformer": transformer_config.model_dump(mode="json")},
        root / "transformer",
        on_progress,
    )
    model = MAGVIT(first.model, second.model, NAMES)
    model.save_pretrained(root)
    return Trained(model, {"tokenizer": first.history, "transformer": second.history})
