"""One training loop for every model: accelerate, AdamW and Muon, warm-up and cosine, clipping, EMA, checkpoints, resume."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from ema_pytorch import EMA
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from trajvit.datasets.folders import open_folder
from trajvit.datasets.loading import MIXED, TrainingClips, batch_rows
from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.settings import Settings
from trajvit.training.checkpoints import load_newest, save_checkpoint
from trajvit.training.interruption import Held
from trajvit.training.muon import Muon
from trajvit.training.spot import spot_watched

LOG_EVERY = 10
PRECISION = "bf16"


class TrainingDiverged(ArithmeticError):
    """A training met a gradient that is not a number; its last checkpoint is good."""


class FitConfig(Settings):
    """How one model is trained."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(ge=0, le=1, description="the peak, reached after the warm-up; then a cosine to zero")
    seed: int = Field(0, ge=0, lt=2**32)
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate climbs")
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    muon_rate: float = Field(2.5, gt=0, description="Muon's learning rate, as a multiple of learning_rate")
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.995, ge=0, lt=1)
    checkpoint_every: int = Field(200, ge=1)


@runtime_checkable
class Objective(Protocol):
    """A module that holds a model and computes its loss on training samples given by their rows.

    Calling it gives the parts of the loss by name; the loss is their sum. `model` is what EMA averages; `matrices` are the
    hidden weights and kernels that Muon trains, all else is AdamW's. Rows come in `batch_rows`' order by blocks of `block`
    samples; where that is fewer than `samples`, `clips` are streamed and told what is coming.
    """

    model: nn.Module
    clips: TrainingClips
    samples: int
    block: int
    matrices: list[nn.Parameter]

    def __call__(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]: ...


@runtime_checkable
class Contested(Protocol):
    """An objective with opponents: other objectives, whose models take a step after each of this one's, on the same rows.

    They are parts of this objective's module and move to a device with it; only their own steps change their models.
    """

    opponents: list[Objective]


@dataclass(frozen=True)
class Fitted:
    """A trained model, its weights the exponential moving average, and the scalars logged on the way, by name."""

    model: nn.Module
    history: dict[str, list[float]]


def learning_rate_at(config: FitConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero: a function of the step alone."""
    warmup = max(1, round(config.warmup_share * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(config.steps - warmup, 1))) / 2


def own_weights(objective: Objective) -> list[nn.Parameter]:
    """The weights that an objective's own steps change: neither frozen nor an opponent's."""
    opponents = objective.opponents if isinstance(objective, Contested) else []
    theirs = {id(weight) for opponent in opponents for weight in opponent.parameters()}
    return [weight for weight in objective.parameters() if weight.requires_grad and id(weight) not in theirs]


def make_optimizers(objective: Objective, config: FitConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the objective's hidden matrices and kernels where there are any.

    Each group's `rate` is its learning rate as a multiple of the schedule's.
    """
    muon = {id(weight) for weight in objective.matrices}
    others = [weight for weight in own_weights(objective) if id(weight) not in muon]
    optimizers = [
        torch.optim.AdamW(
            [{"params": others, "rate": 1.0}], config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
    ]
    if objective.matrices:
        groups = [{"params": objective.matrices, "rate": config.muon_rate}]
        optimizers.append(Muon(groups, config.learning_rate, config.weight_decay))
    return optimizers


class Player:
    """A model that takes steps: its objective and its optimizers."""

    def __init__(self, objective: Objective, config: FitConfig):
        self.objective, self.config = objective, config
        self.weights = own_weights(objective)
        self.optimizers = make_optimizers(objective, config)
        self.trained: nn.Module | None = None

    def state(self) -> dict:
        return {
            "objective": self.objective.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict) -> None:
        self.objective.load_state_dict(state["objective"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def step(self, accelerator: Accelerator, step: int, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        """One step on a batch: `loss`, `gradient_norm` and the parts of the loss. Raises `TrainingDiverged`."""
        if self.trained is None:
            self.trained, *self.optimizers = accelerator.prepare(self.objective, *self.optimizers)
            self.trained.train()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(self.config, step) * group["rate"]
        parts = self.trained(rows.to(accelerator.device))
        for weight in self.weights:
            weight.grad = None
        loss = sum(parts.values())
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self.weights, self.config.clip_norm)
        if not torch.isfinite(norm):
            raise TrainingDiverged(
                f"the gradient of the {type(self.objective.model).__name__} in step {step} is not finite "
                f"({', '.join(f'{name} {value.item():.4g}' for name, value in parts.items())}; samples "
                f"{', '.join(map(str, rows.tolist()))}): lower learning_rate, now {self.config.learning_rate:g}, "
                f"or look at these samples; run again to continue from the last checkpoint"
            )
        for optimizer in self.optimizers:
            optimizer.step()
        return {"loss": loss, "gradient_norm": norm} | parts


class Training:
    """A training under way: the model, its opponents, and the moving average of the model's weights."""

    def __init__(self, objective: Objective, config: FitConfig):
        self.config, self.objective = config, objective
        self.accelerator = Accelerator(mixed_precision=PRECISION)
        self.ema = EMA(
            objective.model,
            beta=config.ema_decay,
            update_after_step=0,
            update_every=1,
            include_online_model=False,
            use_foreach=True,
        )
        self.ema.to(self.accelerator.device)
        opponents = objective.opponents if isinstance(objective, Contested) else []
        self.players = [Player(one, config) for one in (objective, *opponents)]

    def state(self) -> dict:
        """All that a resumed training needs."""
        return {"ema": self.ema.state_dict(), "players": [player.state() for player in self.players]}

    def load(self, state: dict) -> None:
        """Take up a training where `state` was taken; before the first step."""
        self.ema.load_state_dict(state["ema"])
        for player, saved in zip(self.players, state["players"], strict=True):
            player.load(saved)

    def step(self, step: int) -> dict[str, Float[Tensor, ""]]:
        """One step of each player: `loss` and `gradient_norm` of the model's, and the parts of all losses.

        All randomness is drawn from (config.seed, step), so a resumed training equals an uninterrupted one. Raises
        `TrainingDiverged`.
        """
        torch.manual_seed(self.config.seed * 2**32 + step)
        rows = self._rows(step)
        scalars = [player.step(self.accelerator, step, rows) for player in self.players]
        self.ema.update()
        return {name: value for of_player in reversed(scalars) for name, value in of_player.items()}

    def _rows(self, step: int) -> Int[Tensor, " B"]:
        """The rows of a step's batch; streamed clips are told what is coming."""
        objective, config = self.objective, self.config
        if objective.block < objective.samples:
            coming = step + MIXED * objective.block // config.batch_size
            objective.clips.expect(batch_rows(objective.samples, config.batch_size, config.seed, coming, objective.block))
        return batch_rows(objective.samples, config.batch_size, config.seed, step, objective.block)


def fit(
    name: str,
    objective: Objective,
    config: FitConfig,
    identity: dict,
    out: Path,
    on_progress: Listener = silent,
) -> Fitted:
    """Train `objective.model` for `config.steps` steps.

    Checkpoints, TensorBoard scalars and progress go to `out`. Called again with the same arguments it continues at
    the newest checkpoint, or returns at once when training is finished. `identity` says in JSON what is trained on
    what; raises `InputError` when `out` holds another training, `TrainingDiverged` when the loss is not finite. SIGINT,
    SIGTERM and the notice that a spot machine is taken back end it with `KeyboardInterrupt` after the step under way, whose checkpoint is written first.
    """
    training = Training(objective, config)
    identity = {"fit": config.model_dump(mode="json"), **identity}
    first, history = 0, {}
    if saved := load_newest(out / "checkpoints", identity):
        first, history = saved["step"], saved["history"]
        training.load(saved)
    if first == config.steps:
        return Fitted(training.ema.ema_model.eval(), history)

    writer = SummaryWriter(out / "tensorboard", purge_step=first)
    telling = Telling(f"train {name}", config.steps, "steps", open_folder(out), on_progress, done=first)
    with closing(writer), telling, Held() as held, spot_watched(held.ask):
        for step in range(first, config.steps):
            measured = training.step(step)
            done = step + 1
            if done % LOG_EVERY == 0 or done == config.steps:
                scalars = {name: value.item() for name, value in measured.items()}
                scalars["learning_rate"] = learning_rate_at(config, step)
                for key, value in scalars.items():
                    writer.add_scalar(key, value, done)
                for key, value in ({"step": float(done)} | scalars).items():
                    history.setdefault(key, []).append(value)
                telling.advance(done, note=f"loss {scalars['loss']:.4g}")
            if done % config.checkpoint_every == 0 or done == config.steps or held.why:
                save_checkpoint(out / "checkpoints", done, {"step": done, "history": history} | training.state(), identity)
            if held.why:
                telling.advance(done)
                raise KeyboardInterrupt(held.why)
    return Fitted(training.ema.ema_model.eval(), history)
