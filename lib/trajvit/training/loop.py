"""One training loop for every model: optimizers, clipping, EMA, checkpoints, resume, processes."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from ema_pytorch import EMA
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from trajvit.datasets.folders import Folder, open_folder
from trajvit.datasets.loading import MIXED, TrainingClips, batch_rows
from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.magvit.precision import precision_on
from trajvit.settings import InputError, Settings
from trajvit.training import processes
from trajvit.training.checkpoints import PLACE, load_newest, save_checkpoint
from trajvit.training.devices import Choice, pick_device
from trajvit.training.events import events_in, keep_events
from trajvit.training.interruption import Held
from trajvit.training.journal import Journal, Look
from trajvit.training.optimization import CLIP_NORM, EMA_DECAY, OPTIMIZATION, learning_rate_at, make_optimizers
from trajvit.training.sharding import clip_gradients, is_spread, load_whole, part_like, spread, whole
from trajvit.training.spot import spot_watched

LOG_EVERY = 10


class TrainingDiverged(ArithmeticError):
    """A training met a gradient that is not a number; its last checkpoint is good."""


class FitConfig(Settings):
    """How one model is trained."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(ge=0, le=1, description="the peak, reached after the warm-up; then a cosine to zero")
    seed: int = Field(0, ge=0, lt=2**32)
    checkpoint_every: int = Field(200, ge=1)
    # Left out of what identifies a training: it may go on elsewhere.
    device: Choice = Field("auto", exclude=True, description="auto: a GPU where there is one")
    compile: bool = Field(False, exclude=True, description="by torch.compile")
    shard: bool = Field(False, exclude=True, description="spread the model over the processes, where there are several")


@runtime_checkable
class Objective(Protocol):
    """A module that holds a model and computes its loss on training samples given by their rows.

    Calling it with rows, which lie on the CPU, gives the parts of the loss by name; the loss is their sum. `model` is what EMA averages; `matrices` are the
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


@runtime_checkable
class Prepared(Protocol):
    """An objective with work to do before its first step, on the device, and none where the training is finished already.

    `prepare` says for how many of the `samples` it is done; all processes meet there.
    """

    def prepare(self, on_prepared: Callable[[int], None]) -> None: ...


@dataclass(frozen=True)
class Fitted:
    """A trained model, its weights the exponential moving average, and the scalars logged on the way, by name."""

    model: nn.Module
    history: dict[str, list[float]]


def own_weights(objective: Objective) -> list[nn.Parameter]:
    """The weights that an objective's own steps change: neither frozen nor an opponent's."""
    opponents = objective.opponents if isinstance(objective, Contested) else []
    theirs = {id(weight) for opponent in opponents for weight in opponent.parameters()}
    return [weight for weight in objective.parameters() if weight.requires_grad and id(weight) not in theirs]


class Player:
    """A model that takes steps: its objective, on the device, and its optimizers."""

    def __init__(self, objective: Objective, config: FitConfig, device: torch.device):
        self.objective, self.config, self.device = objective, config, device
        self.weights = own_weights(objective)
        self.optimizers = make_optimizers(self.weights, objective.matrices, config.learning_rate, device, config.shard)
        self._unseen: list[tuple[int, Int[Tensor, " B"], dict[str, Tensor]]] = []

    def state(self) -> dict:
        return {
            "objective": self.objective.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict) -> None:
        load_whole(self.objective, state["objective"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            moments = {i: {name: part_like(value, weights[i]) for name, value in of.items()} for i, of in saved["state"].items()}
            # How a step is computed is this device's and this spread's affair, not that of the training's beginning.
            own = [{name: group[name] for name in ("fused", "foreach") if name in group} for group in optimizer.param_groups]
            groups = [theirs | ours for theirs, ours in zip(saved["param_groups"], own, strict=True)]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def step(self, step: int, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        """One step on this process's share of a batch: `loss`, `gradient_norm` and the parts of the loss, all of it on the
        device and not waited for."""
        self.objective.train()
        rate = learning_rate_at(step, self.config.steps, self.config.learning_rate)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate"]
        with precision_on(self.device):
            parts = {name: value.float() for name, value in self.objective(rows).items()}
        for weight in self.weights:
            weight.grad = None
        loss = sum(parts.values())
        loss.backward()
        # Which weights have a gradient depends on the objective, not on the rows, so it is the same everywhere.
        processes.average([weight.grad for weight in self.weights if weight.grad is not None and not is_spread(weight)])
        norm = clip_gradients(self.weights, CLIP_NORM)
        for optimizer in self.optimizers:
            optimizer.step()
        measured = {name: value.detach() for name, value in ({"loss": loss, "gradient_norm": norm} | parts).items()}
        self._unseen.append((step, rows, measured))
        return measured

    def check(self) -> None:
        """Raise `TrainingDiverged` unless all gradients since the last check were finite; the GPU is waited for.

        One that is not spoils the weights, and so all gradients after it.
        """
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        norms = torch.stack([measured["gradient_norm"] for *_, measured in unseen]).tolist()
        for (step, rows, measured), norm in zip(unseen, norms, strict=True):
            if not math.isfinite(norm):
                parts = {name: value for name, value in measured.items() if name not in ("loss", "gradient_norm")}
                raise TrainingDiverged(
                    f"the gradient of the {type(self.objective.model).__name__} in step {step} is not finite "
                    f"({', '.join(f'{name} {value.item():.4g}' for name, value in parts.items())}; samples "
                    f"{', '.join(map(str, rows.tolist()))}): lower learning_rate, whose peak here is {self.config.learning_rate:g}, "
                    f"in another folder, or look at these samples"
                )


class Training:
    """A training under way: the model, its opponents, and the moving average of the model's weights."""

    def __init__(self, objective: Objective, config: FitConfig):
        processes.join()
        processes.check_shares(config.batch_size, "batch_size")
        self.config, self.objective, self.device = config, objective, pick_device(config.device)
        self.ema = EMA(
            objective.model,
            beta=EMA_DECAY,
            update_after_step=0,
            update_every=1,
            include_online_model=False,
            use_foreach=not config.shard,  # not spread weights and others at once
        )
        self.ema.ema_model.to(self.device)  # and not its counters, which would be waited for in every step
        objective.to(self.device)
        self.one_piece = None
        if config.shard and processes.count() > 1:
            self.one_piece = copy.deepcopy(objective.model).cpu()
            for model in (objective.model, self.ema.ema_model):
                spread(model, self.device)
        if config.compile:
            objective.model.compile()
        opponents = objective.opponents if isinstance(objective, Contested) else []
        self.players = [Player(one, config, self.device) for one in (objective, *opponents)]

    def prepare(self, on_prepared: Callable[[int], None] = lambda done: None) -> None:
        """What the objective has to do before its first step, if anything; all processes meet here."""
        if isinstance(self.objective, Prepared):
            self.objective.prepare(on_prepared)

    def state(self) -> dict:
        """All that a resumed training needs; all processes meet here where the model is spread over them."""
        state = {"ema": self.ema.state_dict(), "players": [player.state() for player in self.players]}
        return whole(state) if self.one_piece else state

    def load(self, state: dict) -> None:
        """Take up a training where `state` was taken; before the first step."""
        load_whole(self.ema, state["ema"])
        for player, saved in zip(self.players, state["players"], strict=True):
            player.load(saved)

    def averaged(self) -> nn.Module:
        """The model with the moving average of its weights; all processes meet here where it is spread over them."""
        if self.one_piece is None:
            return self.ema.ema_model.eval()
        self.one_piece.load_state_dict(whole(self.ema.ema_model.state_dict()))
        return self.one_piece.to(self.device).eval()

    def step(self, step: int) -> dict[str, Float[Tensor, ""]]:
        """One step of each player: `loss` and `gradient_norm` of the model's, and the parts of all losses, as this process
        sees them.

        All randomness is drawn from (config.seed, step), so a resumed training equals an uninterrupted one. Raises
        `TrainingDiverged`, on a GPU only once `check` is called.
        """
        torch.manual_seed(self.config.seed * 2**32 + step)
        rows = self._rows(step)
        scalars = [player.step(step, rows) for player in self.players]
        if self.device.type == "cpu":
            self.check()
        self.ema.update()
        # EMA averages floats alone. Without its flag an averaged VQ would make its codebook anew, of the first clips that it encodes.
        for averaged, own in zip(self.ema.ema_model.buffers(), self.objective.model.buffers(), strict=True):
            if own.dtype == torch.bool:
                averaged.copy_(own)
        return {name: value for of_player in reversed(scalars) for name, value in of_player.items()}

    def check(self) -> None:
        """Raise `TrainingDiverged` where a gradient was not finite."""
        for player in self.players:
            player.check()

    def _rows(self, step: int) -> Int[Tensor, " B"]:
        """The rows of a step's batch that are this process's; streamed clips are told what is coming."""
        if self.objective.block < self.objective.samples:
            coming = step + MIXED * self.objective.block // self.config.batch_size
            self.objective.clips.expect(self._share(coming))
        return self._share(step)

    def _share(self, step: int) -> Int[Tensor, " B"]:
        objective, config = self.objective, self.config
        return processes.mine(batch_rows(objective.samples, config.batch_size, config.seed, step, objective.block))


def fit(
    name: str,
    objective: Objective,
    config: FitConfig,
    identity: dict,
    out: str | Path,
    on_progress: Listener = silent,
    look: Callable[[nn.Module], Look] | None = None,
) -> Fitted:
    """Train `objective.model` for `config.steps` steps.

    Checkpoints, TensorBoard scalars and progress go to `out`, a folder or `s3://bucket/prefix`, written by the first
    process. Called again with the same arguments it continues at the newest checkpoint, or returns at once when training is
    finished. `identity` says in JSON what is trained on what; raises `InputError` when `out` holds another training or
    somebody trains there now, `TrainingDiverged` when a gradient is not finite. SIGINT, SIGTERM and the notice that a spot
    machine is taken back, in any process, end it with `KeyboardInterrupt` after the step under way, whose checkpoint is
    written first. `look` says how the averaged model does, now and then, and changes nothing.
    """
    training, folder = Training(objective, config), open_folder(out)
    muon = {"matrices": len(objective.matrices)} if objective.matrices else {}
    identity = {"fit": OPTIMIZATION | config.model_dump(mode="json") | muon, **identity}
    order = {"streamed_by": objective.block} if objective.block < objective.samples else {}
    first, history = 0, {}
    if saved := load_newest(folder, identity):
        first, history = saved["step"], saved["history"]
        if first < config.steps and saved.get("streamed_by") != order.get("streamed_by"):
            raise InputError(
                f"{folder} learnt so far from clips {_come(saved)}, and here they are {_come(order)}, which changes their order: go on "
                "with as many processes and as much memory, or name another folder"
            )
        training.load(saved)
    processes.check_same(
        objective.block, "some processes hold the clips in memory and some stream them: give all machines as much"
    )
    processes.check_same(first, f"the processes found different checkpoints in {folder}: name a place that all of them share")
    if first == config.steps:
        return Fitted(training.averaged(), history)

    with ExitStack() as stack:
        telling = writer = journal = check_lock = None
        if processes.number() == 0:
            folder.prepare([PLACE])
            check_lock = stack.enter_context(folder.lock("train"))
            writer = stack.enter_context(events_in(folder, first))
            telling = stack.enter_context(Telling(f"train {name}", config.steps, "steps", folder, on_progress, done=first))
            journal = Journal(
                telling, writer, folder, config.batch_size, None if training.one_piece else look, history.get("loss", [])
            )
        _prepare(training, telling)
        held = stack.enter_context(Held())
        stack.enter_context(spot_watched(held.ask))
        for step in range(first, config.steps):
            measured = training.step(step)
            done, stop = step + 1, processes.any_of(bool(held.why))
            if done % LOG_EVERY == 0 or done == config.steps:
                rate = learning_rate_at(step, config.steps, config.learning_rate)
                scalars = _seen(training, measured) | {"learning_rate": rate}
                for key, value in ({"step": float(done)} | scalars).items():
                    history.setdefault(key, []).append(value)
                if telling:
                    _log(writer, folder, scalars, done)
                    journal.tell(done, scalars, training.ema.ema_model)
            if done % config.checkpoint_every == 0 or done == config.steps or stop:
                training.check()
                state = {"step": done, "history": history, **order} | training.state()
                if telling:
                    check_lock()
                    save_checkpoint(folder, done, state, identity)
                    keep_events(writer, folder)
            if stop:
                if telling:
                    telling.advance(done)
                break
        # All meet here, since a launcher kills the others when one ends: not before the checkpoint is written. One may also have been
        # told to end while the last one was: no further stage begins.
        if processes.any_of(bool(held.why)):
            raise KeyboardInterrupt(held.why or "another process was told to end")
    return Fitted(training.averaged(), history)


def _come(order: dict) -> str:
    return f"streamed in blocks of {order['streamed_by']}" if "streamed_by" in order else "held in memory"


def _prepare(training: Training, telling: Telling | None) -> None:
    """Prepare a training; where somebody is told, how far that is."""
    if telling is None:
        return training.prepare()
    samples = training.objective.samples
    training.prepare(lambda done: telling.advance(telling.done, f"{done:,} of {samples:,} clips prepared"))
    telling.started = time.monotonic()  # the rate to come is that of the steps


def _seen(training: Training, measured: dict[str, Float[Tensor, ""]]) -> dict[str, float]:
    """What was measured in a step, as numbers, over all processes. Raises `TrainingDiverged`."""
    training.check()
    values = torch.stack([value.float() for value in measured.values()])
    return dict(zip(measured, processes.averaged(values).tolist(), strict=True))


def _log(writer: SummaryWriter, folder: Folder, scalars: dict[str, float], done: int) -> None:
    with folder.naming("tensorboard", "written"):
        for key, value in scalars.items():
            writer.add_scalar(key, value, done)
