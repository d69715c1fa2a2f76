"""What a training tells of itself: figures, now and then a look at held-out clips with pictures, and what ails it."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from trajvit.datasets.folders import Folder
from trajvit.datasets.progress import Telling
from trajvit.datasets.thumbnail import film_strip, thumbnail
from trajvit.training import processes
from trajvit.training.health import ailments
from trajvit.training.peak import matmul_peak

LOOKING_SHARE = 0.03  # of a training's time that looks may take
FIRST_LOOK_S = 2.0  # what the first is expected to take
PEAK_SIDE, PEAK_PERIOD_S = 1024, 0.1


@dataclass(frozen=True)
class Look:
    """What was seen of a model: its figures, clips by the name of their picture, and the operations of one sample's step."""

    figures: dict[str, float]
    clips: dict[str, UInt8[np.ndarray, "N T H W C"]] = field(default_factory=dict)
    flops_a_sample: float = 0.0


class Journal:
    """Tells of one training in its progress, and in TensorBoard of what is seen in looks; it changes nothing of it.

    `look`, where there is one, is called with the averaged model, as often as `LOOKING_SHARE` of the time allows; the random
    numbers that it draws are not the training's.
    """

    def __init__(
        self,
        telling: Telling,
        writer: SummaryWriter,
        folder: Folder,
        batch_size: int,
        look: Callable[[nn.Module], Look] | None,
        losses: list[float],
    ):
        self.telling, self.writer, self.folder, self.batch_size, self.look = telling, writer, folder, batch_size, look
        self.losses = list(losses)  # those before it was interrupted: a rise is seen against all of them
        self.looks: list[dict[str, float]] = []
        self.warned: set[str] = set()
        self.flops_a_sample, self.peak_gflops = 0.0, 0.0
        self.looked_s, self.last_s, self.started = 0.0, FIRST_LOOK_S, time.monotonic()

    def tell(self, done: int, scalars: dict[str, float], model: nn.Module) -> None:
        """Tell of step `done`: its `scalars`, of which `loss` is one, and, where it is time, of a look at `model`."""
        self.losses.append(scalars["loss"])
        if self.look and self.looked_s + self.last_s <= LOOKING_SHARE * (time.monotonic() - self.started):
            self._look(done, model)
        self.telling.done = done
        samples_per_s = self.telling.now().rate * self.batch_size
        figures = {"step": float(done), **scalars, "samples_per_s": samples_per_s}
        if self.peak_gflops:
            figures["share_of_peak"] = samples_per_s * self.flops_a_sample / 1e9 / (self.peak_gflops * processes.count())
        figures |= self.looks[-1] if self.looks else {}
        found = ailments(self.losses, self.looks, done / self.telling.total)
        for one in found:
            if one.name not in self.warned:
                self.warned.add(one.name)
                warnings.warn(f"{self.telling.work}, step {done}: {one}", stacklevel=2)
                self.writer.add_text("health", str(one), done)
        self.telling.figures = {name: float(f"{value:.6g}") for name, value in figures.items() if np.isfinite(value)}
        self.telling.advance(done, note="; ".join([_in_words(figures), *(f"WARNING {one}" for one in found)]))

    def _look(self, done: int, model: nn.Module) -> None:
        began = time.monotonic()
        device = next(model.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(0)
            seen = self.look(model)
        self.looks.append(seen.figures | {"looked_at_step": float(done)})
        if not self.peak_gflops:
            self.flops_a_sample = seen.flops_a_sample
            self.peak_gflops = matmul_peak(PEAK_SIDE, PEAK_PERIOD_S, device.type) if self.flops_a_sample else 0.0
        for name, value in seen.figures.items():
            self.writer.add_scalar(f"look/{name}", value, done)
        for name, clips in seen.clips.items():
            self._show(name, clips, done)
        self.last_s = time.monotonic() - began
        self.looked_s += self.last_s

    def _show(self, name: str, clips: UInt8[np.ndarray, "N T H W C"], done: int) -> None:
        """The clips as a strip beside the progress record, and moving, in the record and in TensorBoard."""
        strip, moving = film_strip(clips), thumbnail(np.concatenate(list(clips), axis=2))
        self.folder.write(f"{name}.png", strip)
        self.telling.pictures = self.telling.pictures | {name: f"{name}.png"}
        self.telling.picture = moving
        for tag, content in ((name, strip), (f"{name}, moving", moving)):
            image = Summary.Image(height=clips.shape[2], width=clips.shape[3], colorspace=3, encoded_image_string=content)
            self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), done)


def _in_words(figures: dict[str, float]) -> str:
    """The figures in a line, the most wanted first."""
    parts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if name != "step"]
    return ", ".join(parts)
