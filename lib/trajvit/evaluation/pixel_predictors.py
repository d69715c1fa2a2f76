"""Predictors of pixels, as the literature has them: a ConvLSTM and a SimVP-like convolutional network.

Both see the given frames alone, are trained on the same clips as MAGVIT and the same views of them, by the same loop and optimizers,
and predict from as many views. They learn from what its tokenizer learns from: pixels, of which the ball's weigh more (with an even
loss a blank frame would be 98 % right), and each frame's centre of light. Neither has a strided convolution in 3-D, whose bfloat16
gradient is infinite on a CPU where it pads by itself (see `PaddedConv3d`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trajvit.datasets.folders import write_file
from trajvit.datasets.loading import TrainingClips, load_clips, to_frames, to_video
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.magvit.ensemble import self_ensemble, with_mirror_image
from trajvit.magvit.precision import precision_on
from trajvit.magvit.published import rivals
from trajvit.magvit.tokenizer import reconstruction_loss
from trajvit.settings import InputError, Settings
from trajvit.training.devices import sent
from trajvit.training.loop import FitConfig, fit
from trajvit.training.objectives import relative_light_centres
from trajvit.training.recipe import Recipe
from trajvit.worlds.config import ClipShape

SEED_OFFSET = 3_000_003
CHUNK = 64
GRID = 8  # positions along a frame's shorter side, at most, after its pixels are folded into channels

Video = Float[Tensor, "B C T H W"]


class PixelPredictorConfig(Settings):
    """How a predictor of pixels is made and trained.

    2400 steps on 30,000 compact clips, in less than five minutes of one core: a centre error of 0.18 px in the textbook world and
    0.24 in the varied one by SimVP, of 0.20 px in the textbook world by ConvLSTM.
    """

    kind: Literal["simvp", "convlstm"] = "simvp"
    width: int = Field(32, ge=8, multiple_of=8, description="channels of a folded frame")
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(3e-3, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)


class Folding(nn.Module):
    """Frames to a coarse grid of features and back, one by one: pixels folded into channels, convolutions around it."""

    def __init__(self, channels: int, fold: int, width: int):
        super().__init__()
        self.inwards = nn.Sequential(
            nn.PixelUnshuffle(fold), nn.Conv2d(channels * fold**2, width, 3, padding=1), nn.SiLU(), Residual(width)
        )
        self.outwards = nn.Sequential(Residual(width), nn.Conv2d(width, channels * fold**2, 3, padding=1), nn.PixelShuffle(fold))

    def encode(self, video: Video) -> Float[Tensor, "B T D h w"]:
        return self.inwards(video.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(video), -1))

    def decode(self, features: Float[Tensor, "B T D h w"]) -> Video:
        return self.outwards(features.flatten(0, 1)).unflatten(0, (len(features), -1)).transpose(1, 2)


class Residual(nn.Module):
    """A normed convolution with its input added."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        return x + self.layers(x)


class SimVP(nn.Module):
    """An encoder of frames, a convolutional translator of all given frames at once into all others, a decoder.

    After SimVP (Gao et al., arXiv:2206.05099), with residual blocks in place of its Inception modules, and without its skip from
    the encoder to the decoder: on a grid of `GRID` positions six 3x3 kernels already see the whole frame.
    """

    def __init__(self, channels: int, fold: int, width: int, given: int, ahead: int):
        super().__init__()
        self.given, self.ahead, inner = given, ahead, 4 * width
        self.folding = Folding(channels, fold, width)
        self.translator = nn.Sequential(
            nn.Conv2d(given * width, inner, 1),
            *(Residual(inner) for _ in range(6)),
            nn.GroupNorm(8, inner),
            nn.SiLU(),
            nn.Conv2d(inner, ahead * width, 1),
        )

    def forward(self, video: Float[Tensor, "B C given H W"]) -> Float[Tensor, "B C ahead H W"]:
        """The frames after the given ones, not clamped to [0, 1]."""
        features = self.folding.encode(video).flatten(1, 2)
        return self.folding.decode(self.translator(features).unflatten(1, (self.ahead, -1)))


class ConvLSTM(nn.Module):
    """Two convolutional LSTM layers that read the given frames and go on with their own predictions.

    After Shi et al., arXiv:1506.04214, on frames whose pixels are folded into channels.
    """

    def __init__(self, channels: int, fold: int, width: int, given: int, ahead: int):
        super().__init__()
        self.given, self.ahead, self.width = given, ahead, width
        self.folding = Folding(channels, fold, width)
        self.cells = nn.ModuleList(nn.Conv2d(2 * width, 4 * width, 3, padding=1) for _ in range(2))

    def forward(self, video: Float[Tensor, "B C given H W"]) -> Float[Tensor, "B C ahead H W"]:
        """The frames after the given ones, not clamped to [0, 1]."""
        features = self.folding.encode(video)
        nothing = features.new_zeros(features[:, 0].shape)
        states, predicted = [(nothing, nothing) for _ in self.cells], []
        for k in range(self.given + self.ahead - 1):
            x = features[:, k] if k < self.given else predicted[-1]
            for layer, cell in enumerate(self.cells):
                states[layer] = _recur(cell, x, *states[layer])
                x = x + states[layer][0]
            if k >= self.given - 1:
                predicted.append(x)
        return self.folding.decode(torch.stack(predicted, dim=1))


def _recur(cell: nn.Conv2d, x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM whose products are convolutions: the new hidden state and memory."""
    read, forget, write, candidate = cell(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
    memory = torch.sigmoid(forget + 1) * memory + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(memory), memory


KINDS = {"simvp": SimVP, "convlstm": ConvLSTM}


@dataclass(frozen=True)
class PixelPredictor:
    """A network, trained for so many steps, as a predictor of frames: the mean of five views, as MAGVIT predicts, and where it
    learnt from mirror images of theirs too."""

    model: SimVP | ConvLSTM
    mirrored: bool
    steps: int

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "N T H W C"], given: int) -> UInt8[np.ndarray, "N T H W C"]:
        """All frames from the first `given`, which come back as they are. Raises `InputError` for another number of
        frames than trained."""
        if (given, frames.shape[1] - given) != (self.model.given, self.model.ahead):
            raise InputError(
                f"{given} of {frames.shape[1]} frames were given; this network was trained on {self.model.given} of "
                f"{self.model.given + self.model.ahead}: train another"
            )

        def complete(video: Video) -> Video:
            context = video[:, :, :given]
            with precision_on(context.device):
                ahead = torch.cat([self.model(chunk) for chunk in context.split(CHUNK)]).float().clamp(0, 1)
            return torch.cat([context, ahead], dim=2)

        made = to_frames(self_ensemble(with_mirror_image(complete) if self.mirrored else complete, to_video(frames)))
        return np.concatenate([frames[:, :given], made[:, given:]], axis=1)


class _Foretelling(nn.Module):
    """A network and its foreground-weighted error, and how far off the centres of light are in what it makes."""

    def __init__(self, model: SimVP | ConvLSTM, clips: TrainingClips, foreground_weight: float, light_weight: float):
        super().__init__()
        self.model, self.clips, self.foreground_weight, self.light_weight = model, clips, foreground_weight, light_weight
        self.samples, self.block = len(clips), clips.block

    @property
    def matrices(self) -> list[nn.Parameter]:
        """The kernels of the convolutions."""
        return [module.weight for module in self.model.modules() if isinstance(module, nn.Conv2d)]

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video = sent(self.clips.videos(rows), next(self.model.parameters()).device)
        context, future = video[:, :, : self.model.given], video[:, :, self.model.given :]
        made = self.model(context).float()
        return {
            "reconstruction": reconstruction_loss(made, future, self.foreground_weight),
            "light": self.light_weight * (relative_light_centres(made) - relative_light_centres(future)).abs().mean(),
        }


def train_pixel_predictor(
    config: PixelPredictorConfig,
    recipe: Recipe,
    dataset: Dataset,
    given: int,
    out: str | Path,
    on_progress: Listener = silent,
) -> PixelPredictor:
    """Train a network on `dataset` to go on from the first `given` frames of a clip, from the views of each clip and with the
    weights of the losses that a `recipe` has MAGVIT learn from; it predicts on the CPU.

    A finished training in `out` is loaded, not repeated; one that comes with the repository is taken instead where it differs in
    nothing but that it took more steps, or as many. What is trained here is left in `out` as `KIND.safetensors`, which says what it
    learnt from. Raises `InputError` where no frame is left to predict.
    """
    world = dataset.config.world
    if not 1 <= given < world.frames:
        raise InputError(f"{given} frames of {world.frames} were given; give at least one, and leave one to predict")
    torch.manual_seed(config.seed + SEED_OFFSET)
    model = KINDS[config.kind](world.channels, fold_of(world), config.width, given, world.frames - given)
    theirs = recipe.model_dump(include={"mirrored", "shifts", "seed", "foreground_weight", "tokenizer_light"})
    learnt = {"data": dataset.origin(len(dataset)), "recipe": theirs, "predictor": config.model_dump(), "given": given}
    if found := _published(config, learnt):
        steps, weights = found
        model.load_state_dict(weights)
        return PixelPredictor(model.eval(), recipe.mirrored, steps)
    settings = FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed + SEED_OFFSET,
    )
    objective = _Foretelling(model, recipe.learnt(load_clips(dataset)), recipe.foreground_weight, recipe.tokenizer_light)
    model = fit(config.kind, objective, settings, learnt, Path(out), on_progress).model.cpu()
    write_file(out, f"{config.kind}.safetensors", save(model.state_dict(), {"learnt": json.dumps(learnt)}))
    return PixelPredictor(model, recipe.mirrored, config.steps)


def _published(config: PixelPredictorConfig, learnt: dict) -> tuple[int, dict[str, Tensor]] | None:
    """The steps and the weights of one that comes with the repository and `learnt` likewise, for as long or longer. Raises
    `InputError` for a damaged one."""
    for file in rivals(config.kind):
        try:
            with safe_open(file, "pt") as stored:
                told = json.loads(stored.metadata()["learnt"])
                steps = told["predictor"]["steps"]
                likewise = json.loads(json.dumps(learnt | {"predictor": learnt["predictor"] | {"steps": steps}}))
                if steps >= config.steps and told == likewise:
                    return steps, load_file(file)
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file} is damaged ({error}): restore it, or remove it to have that network trained here") from None
    return None


def fold_of(shape: ClipShape) -> int:
    """Pixels folded into a position along either axis: the least power of two that divides both sides and leaves at most
    `GRID` positions along the shorter, or the greatest that divides both."""
    fold = 1
    while min(shape.height, shape.width) > fold * GRID and shape.height % (2 * fold) == shape.width % (2 * fold) == 0:
        fold *= 2
    return fold
