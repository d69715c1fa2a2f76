"""The sceptic's first question: what does a small perceptron predict from the balls found in the given frames?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips, load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.evaluation.baselines import balls_of, continued
from trajvit.magvit.precision import float32_on
from trajvit.metrics.centres import Balls, find_balls
from trajvit.settings import InputError, Settings
from trajvit.training.loop import FitConfig, fit

SEED_OFFSET = 2_000_003


class PerceptronConfig(Settings):
    """How the perceptron is made and trained.

    On 30,000 compact clips, in a minute of one core: an error of 0.18 px in the textbook world and 0.25 in the varied one.
    """

    width: int = Field(256, ge=1)
    steps: int = Field(4000, ge=1)
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(1e-2, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    mirrored: bool = Field(False, description="learn and predict from mirror images too, for worlds that look alike in a mirror")


class PathPerceptron(nn.Module):
    """Three layers from the centres and radii of the given frames to the centres of the others, as they lie about the
    last given one."""

    def __init__(self, given: int, ahead: int, width: int):
        super().__init__()
        self.given = given
        self.layers = nn.Sequential(
            nn.Linear(3 * given, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * ahead)
        )
        self.register_buffer("middle", torch.zeros(3 * given))
        self.register_buffer("spread", torch.ones(3 * given))
        self.register_buffer("reach", torch.ones(()))

    def normalize(self, seen: Float[Tensor, "N given 3"], future: Float[Tensor, "N ahead 2"]) -> None:
        """Take the scales of inputs and outputs from training clips."""
        inputs = self._relative(seen)
        self.middle, self.spread = inputs.mean(0), inputs.std(0).clamp(min=1e-3)
        self.reach = (future - seen[:, -1:, :2]).std()

    def forward(self, seen: Float[Tensor, "N given 3"]) -> Float[Tensor, "N ahead 2"]:
        """Centres (u, v) in px of the frames ahead, from (u, v, radius) in px of the given."""
        inputs = (self._relative(seen) - self.middle) / self.spread
        return seen[:, -1:, :2] + self.reach * self.layers(inputs).unflatten(1, (-1, 2))

    def _relative(self, seen: Float[Tensor, "N given 3"]) -> Float[Tensor, "N features"]:
        """Where the ball last was, and how it came there."""
        last = torch.zeros_like(seen)
        last[:, :-1, :2] = seen[:, -1:, :2]
        return (seen - last).flatten(1)


@dataclass(frozen=True)
class Perceptron:
    """A trained `PathPerceptron` as a predictor of centres: where it learnt from mirror images, the mean over the clip and its
    mirror image."""

    model: PathPerceptron
    mirrored: bool

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "N T H W C"], given: int) -> Float[np.ndarray, "N T 2"]:
        """The centres of all frames in px from the first `given`. Raises `InputError` for another number than trained."""
        if given != self.model.given:
            raise InputError(f"{given} frames were given; this perceptron was trained on {self.model.given}: train another")
        balls = find_balls(frames[:, :given])
        seen = _seen(balls, given)
        ahead = self.model(seen)
        if self.mirrored:
            width = frames.shape[3]
            ahead = (ahead + _in_a_mirror(self.model(_in_a_mirror(seen, width)), width)) / 2
        return continued(balls.centres, ahead.numpy(), frames)


class _Foretelling(nn.Module):
    """The perceptron and the distance it is off by, from `seen` to the `future`."""

    def __init__(
        self, model: PathPerceptron, clips: TrainingClips, seen: Float[Tensor, "N given 3"], future: Float[Tensor, "N ahead 2"]
    ):
        super().__init__()
        self.model, self.clips, self.samples, self.block = model, clips, len(seen), len(seen)
        self.matrices = [weight for weight in model.layers.parameters() if weight.ndim == 2]
        model.normalize(seen, future)
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("future", future, persistent=False)

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        # Without autocast: bfloat16 knows a place in a frame of 32 px to 0.1 px.
        with float32_on(self.seen.device):
            off = self.model(self.seen[rows]) - self.future[rows]
        return {"distance": (off.square().sum(-1) + 1e-6).sqrt().mean()}


def train_perceptron(
    config: PerceptronConfig,
    dataset: Dataset,
    given: int,
    out: str | Path,
    on_progress: Listener = silent,
) -> Perceptron:
    """Train the perceptron on `dataset`: from the balls found in the first `given` frames of a clip to the true centres in
    the others. A finished training in `out` is loaded, not repeated. It predicts on the CPU.

    Raises `InputError` where no frame is left to predict.
    """
    clips, frames = load_clips(dataset), dataset.config.world.frames
    if not 1 <= given < frames:
        raise InputError(f"{given} frames of {frames} were given; give at least one, and leave one to predict")
    seen, future = _seen(balls_of(clips), given), torch.from_numpy(dataset.array("pixels", 0, len(clips))[:, given:]).float()
    if config.mirrored:
        seen, future = (torch.cat([places, _in_a_mirror(places, dataset.config.world.width)]) for places in (seen, future))
    torch.manual_seed(config.seed + SEED_OFFSET)
    objective = _Foretelling(PathPerceptron(given, frames - given, config.width), clips, seen, future)
    settings = FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed + SEED_OFFSET,
        checkpoint_every=1000,
    )
    identity = {"data": dataset.origin(len(clips)), "perceptron": config.model_dump(), "given": given}
    model = fit("perceptron", objective, settings, identity, Path(out), on_progress).model.cpu()
    return Perceptron(model, config.mirrored)


def _seen(balls: Balls, given: int) -> Float[Tensor, "N given 3"]:
    """(u, v, radius) in px of the balls in the given frames."""
    return torch.from_numpy(np.concatenate([balls.centres[:, :given], balls.radius[:, :given, None]], axis=-1)).float()


def _in_a_mirror(places: Float[Tensor, "N T D"], width: int) -> Float[Tensor, "N T D"]:
    """Places (u, v) in px, or those and radii, with left and right of a frame exchanged."""
    return torch.cat([width - 1 - places[..., :1], places[..., 1:]], dim=-1)
