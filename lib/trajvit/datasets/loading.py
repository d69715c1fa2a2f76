"""The torch side of a dataset: clips as (B, C, T, H, W) tensors, and an order of batches that needs no state."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from trajvit.datasets.store import Dataset
from trajvit.settings import InputError


def to_video(frames: UInt8[np.ndarray, "N T H W C"]) -> Float[Tensor, "N C T H W"]:
    """Frames as stored, as the model's videos in [0, 1]."""
    return torch.from_numpy(frames).movedim(-1, 1).float() / 255


def to_frames(video: Float[Tensor, "N C T H W"]) -> UInt8[np.ndarray, "N T H W C"]:
    """The model's videos in [0, 1], as frames are stored; values outside and NaN are brought inside."""
    levels = video.detach().nan_to_num(0.0).clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()


@dataclass(frozen=True)
class ClipSet:
    """Clips held in memory as stored, handed out as batches of videos."""

    frames: UInt8[Tensor, "N T H W C"]
    labels: Int[Tensor, " N"]

    @classmethod
    def of(cls, dataset: Dataset, samples: int | None = None) -> "ClipSet":
        """The first `samples` clips of a dataset, or all. Raises `InputError` when it holds fewer."""
        if samples is not None and not 0 < samples <= len(dataset):
            raise InputError(f"{samples} samples were asked of {dataset.root}, which holds {len(dataset)}: generate more")
        clips = dataset.read(0, samples)
        return cls(torch.from_numpy(clips.frames), torch.from_numpy(clips.label).long())

    def __len__(self) -> int:
        return len(self.labels)

    def videos(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> Float[Tensor, "B C T H W"]:
        return self.frames[rows].movedim(-1, 1).float() / 255


def batch_rows(samples: int, batch_size: int, seed: int, step: int) -> Int[Tensor, " B"]:
    """The rows of batch `step`, a pure function of its arguments: every epoch is a new permutation of all samples.

    Batches run across the borders of epochs, so all have `batch_size` rows, even where there are fewer samples.
    """
    first = step * batch_size
    positions = range(first, first + batch_size)
    rows = [_permutation(samples, seed, position // samples)[position % samples] for position in positions]
    return torch.tensor(rows)


@lru_cache(maxsize=4)
def _permutation(samples: int, seed: int, epoch: int) -> list[int]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples).tolist()
