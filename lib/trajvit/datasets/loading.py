"""The torch side of a dataset: clips as (B, C, T, H, W) tensors, and an order of batches that needs no state."""

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import psutil
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

from trajvit.datasets.labour import SHARING
from trajvit.datasets.store import Dataset
from trajvit.settings import InputError

# Shards whose clips are mixed with one another when a dataset is streamed; as many again are read ahead.
MIXED = 8
# Share of the memory that a dataset may take before it is streamed instead: of all, not of what is free now, since streamed clips
# come in another order and the same machine has to train likewise.
MEMORY_SHARE = 0.4


def to_video(frames: UInt8[np.ndarray, "N T H W C"]) -> Float[Tensor, "N C T H W"]:
    """Frames as stored, as the model's videos in [0, 1]."""
    return _bright(torch.from_numpy(frames).movedim(-1, 1))


def _bright(levels: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    """Videos in [0, 1] of 8-bit levels."""
    return levels.float() / 255


def to_frames(video: Float[Tensor, "N C T H W"]) -> UInt8[np.ndarray, "N T H W C"]:
    """The model's videos in [0, 1], as frames are stored; values outside and NaN are brought inside."""
    levels = video.detach().nan_to_num(0.0).clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()


class TrainingClips(ABC):
    """Clips handed out as batches of videos, in [0, 1] or in the 8-bit levels in which they are stored.

    `block` is how many of them lie together, as `batch_rows` takes it.
    """

    labels: Int[Tensor, " N"]
    block: int

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def levels(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> UInt8[Tensor, "B C T H W"]:
        """The clips in these rows, or all, from 0 to 255."""

    def videos(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> Float[Tensor, "B C T H W"]:
        """The clips in these rows, or all, in [0, 1]."""
        return _bright(self.levels(rows))

    @abstractmethod
    def expect(self, rows: Int[Tensor, " B"]) -> None:
        """Begin to read what a coming batch needs."""


@dataclass(frozen=True)
class ClipSet(TrainingClips):
    """Clips held in memory as stored."""

    frames: UInt8[Tensor, "N T H W C"]
    labels: Int[Tensor, " N"]

    @property
    def block(self) -> int:
        """Here all are as near as any."""
        return len(self)

    def levels(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> UInt8[Tensor, "B C T H W"]:
        return self.frames[rows].movedim(-1, 1)

    def expect(self, rows: Int[Tensor, " B"]) -> None:
        """All is ready."""


class ClipStream(TrainingClips):
    """Clips that do not fit into memory: whole shards are read and kept a while.

    Fast for rows in the order of `batch_rows` with this `block`, told in advance by `expect`; right for any.
    """

    def __init__(self, dataset: Dataset, samples: int):
        self.dataset, self.block = dataset, dataset.config.shard_size
        self.labels = torch.from_numpy(dataset.array("label", 0, samples)).long()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="clip stream")
        self._shards: OrderedDict[int, Future] = OrderedDict()

    def levels(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> UInt8[Tensor, "B C T H W"]:
        chosen = (torch.arange(len(self))[rows] if isinstance(rows, slice) else rows).numpy()
        frames = np.empty((len(chosen), *self.dataset.config.world.shape), np.uint8)
        shards = chosen // self.block
        for shard in np.unique(shards):
            here = shards == shard
            frames[here] = self._shard(int(shard)).result()[chosen[here] - shard * self.block]
        return torch.from_numpy(frames).movedim(-1, 1)

    def expect(self, rows: Int[Tensor, " B"]) -> None:
        for shard in np.unique(rows.numpy() // self.block):
            self._shard(int(shard))

    def _shard(self, shard: int) -> Future:
        if shard not in self._shards:
            start, stop = self.dataset.config.range(shard)
            self._shards[shard] = self._reader.submit(self.dataset.array, "frames", start, stop)
        self._shards.move_to_end(shard)
        while len(self._shards) > 2 * MIXED:
            self._shards.popitem(last=False)
        return self._shards[shard]


class Views(TrainingClips):
    """`each` views of every clip of `clips`, as clips of their own: row `each i + k` is view k of clip i."""

    def __init__(self, clips: TrainingClips, each: int):
        self.clips, self.each = clips, each
        self.block, self.labels = clips.block * each, clips.labels.repeat_interleave(each)

    def levels(self, rows: Int[Tensor, " B"] | slice = slice(None)) -> UInt8[Tensor, "B C T H W"]:
        chosen = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows
        return self.view(self.clips.levels(chosen // self.each), chosen)

    @abstractmethod
    def view(self, videos: UInt8[Tensor, "B C T H W"], rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C t H W"]:
        """The views in these rows of the clips that they are views of."""

    def expect(self, rows: Int[Tensor, " B"]) -> None:
        self.clips.expect(rows // self.each)


class SingleFrames(Views):
    """Every frame of a clip as a clip of one frame; `each` is the number of frames."""

    def view(self, videos: UInt8[Tensor, "B C T H W"], rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C 1 H W"]:
        return videos[torch.arange(len(videos)), :, rows % self.each, None]


class FirstFrames(Views):
    """The first `frames` frames of every clip as a clip."""

    def __init__(self, clips: TrainingClips, frames: int):
        super().__init__(clips, 1)
        self.frames = frames

    def view(self, videos: UInt8[Tensor, "B C T H W"], rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C t H W"]:
        return videos[:, :, : self.frames]


class WithMirrored(Views):
    """Every clip and its mirror image, left and right exchanged."""

    def __init__(self, clips: TrainingClips):
        super().__init__(clips, 2)

    def view(self, videos: UInt8[Tensor, "B C T H W"], rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C T H W"]:
        return torch.where((rows % 2 == 1)[:, None, None, None, None], videos.flip(-1), videos)


class WithShifted(Views):
    """Every clip, its view 0, and `shifts` copies of it, moved by whole pixels to any place where all light stays in view.

    Copies of clips whose label is not among `movable` stay where they are.
    """

    def __init__(self, clips: TrainingClips, shifts: int, seed: int, movable: Int[Tensor, " M"]):
        super().__init__(clips, 1 + shifts)
        self.draws = torch.rand(len(self), 2, generator=torch.Generator().manual_seed(seed))
        self.moves = torch.isin(self.labels, movable)
        self.moves[:: self.each] = False

    def view(self, videos: UInt8[Tensor, "B C T H W"], rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C T H W"]:
        lit, draws, moves = videos.amax((1, 2)) > 0, self.draws[rows], self.moves[rows]  # (B, H, W), (B, 2), (B,)
        down, across = moves * _move(lit.any(2), draws[:, 0]), moves * _move(lit.any(1), draws[:, 1])
        return rolled(rolled(videos, down, 3), across, 4)


def _move(lit: Bool[Tensor, "B S"], draws: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """By how much to move what is lit along an axis, so that it stays on it: any move there is room for, by a number of [0, 1)."""
    before, after = lit.int().argmax(1), lit.flip(1).int().argmax(1)
    return (draws * (before + after + 1)).long() - before


def rolled(videos: Num[Tensor, "B C T H W"], by: Int[Tensor, " B"], axis: int) -> Num[Tensor, "B C T H W"]:
    """Each video moved along an axis; what leaves it at one end enters at the other."""
    size = videos.shape[axis]
    source = (torch.arange(size, device=by.device) - by[:, None]) % size  # (B, size)
    return videos.gather(axis, source.view([-1, 1, 1, 1, 1][:axis] + [size] + [1] * (4 - axis)).expand_as(videos))


def load_clips(dataset: Dataset, samples: int | None = None, memory_bytes: int | None = None) -> TrainingClips:
    """The first `samples` clips of a dataset, or all: in memory if they take at most `memory_bytes`, else streamed.

    By default a share of this machine's memory, of which each of a training's processes on it has its part, and each of those that
    work `at_once`. Raises `InputError` when the dataset holds fewer.
    """
    count = len(dataset) if samples is None else samples
    if not 0 < count <= len(dataset):
        raise InputError(f"{count} samples were asked of {dataset.root}, which holds {len(dataset)}: ask for 1 to {len(dataset)}")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get(SHARING, "1"))  # as torchrun says it, or `at_once`
    most = MEMORY_SHARE * psutil.virtual_memory().total / processes if memory_bytes is None else memory_bytes
    if count * dataset.config.world.bytes > most:
        return ClipStream(dataset, count)
    frames, label = dataset.array("frames", 0, count), dataset.array("label", 0, count)
    return ClipSet(torch.from_numpy(frames), torch.from_numpy(label).long())


def batch_rows(samples: int, batch_size: int, seed: int, step: int, block: int | None = None) -> Int[Tensor, " B"]:
    """The rows of batch `step`, a pure function of its arguments: every epoch is a new permutation of all samples.

    With a `block`, blocks of so many samples are put in a random order and the samples of every `MIXED` neighbours are
    mixed, so that only a few blocks are in use at a time. Batches run across the borders of epochs, so all have
    `batch_size` rows, even where there are fewer samples.
    """
    block = samples if block is None else block
    position, stop, parts = step * batch_size, (step + 1) * batch_size, []
    while position < stop:
        epoch, offset = divmod(position, samples)
        ends = _group_ends(samples, block, seed, epoch)
        group = int(np.searchsorted(ends, offset, side="right"))
        begin = int(ends[group - 1]) if group else 0
        rows = _group_rows(samples, block, seed, epoch, group)[offset - begin :][: stop - position]
        parts.append(rows)
        position += len(rows)
    return torch.from_numpy(np.concatenate(parts))


@lru_cache(maxsize=4)
def _block_order(samples: int, block: int, seed: int, epoch: int) -> Int[np.ndarray, " blocks"]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 1])).permutation(-(-samples // block))


@lru_cache(maxsize=4)
def _group_ends(samples: int, block: int, seed: int, epoch: int) -> Int[np.ndarray, " groups"]:
    """Where in an epoch each group of blocks ends."""
    order = _block_order(samples, block, seed, epoch)
    ends = np.cumsum(np.minimum(block, samples - order * block))
    return np.append(ends[MIXED - 1 : -1 : MIXED], samples)


@lru_cache(maxsize=4)
def _group_rows(samples: int, block: int, seed: int, epoch: int, group: int) -> Int[np.ndarray, " rows"]:
    blocks = _block_order(samples, block, seed, epoch)[group * MIXED : (group + 1) * MIXED]
    rows = np.concatenate([np.arange(first, min(first + block, samples)) for first in blocks * block])
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 2 + group])).permutation(rows)
