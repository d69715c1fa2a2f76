"""Fills a dataset, shard by shard, alone or with others; what is there already is not made again."""

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field, model_validator

from trajvit.datasets.folders import Disk, Folder, Place, open_folder
from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.datasets.store import (
    ARRAYS,
    Dataset,
    DatasetConfig,
    StoredConfig,
    default_shard_size,
    missing_shards,
    open_dataset,
    read_config,
    record_key,
    write_group,
    write_shard,
)
from trajvit.datasets.thumbnail import thumbnail
from trajvit.settings import InputError, Settings
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film

# Bytes of frames that one process makes while a worker is still starting up.
WORTH_A_WORKER = 2**30


class Labour(Settings):
    """Who makes the shards; it never changes what is made."""

    workers: int | None = Field(None, ge=1, le=1024)
    backend: Literal["loky", "dask"] = "loky"
    scheduler: str | None = Field(None, description="address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    part: tuple[int, int] = Field((0, 1), description="rank and number of machines")

    @model_validator(mode="after")
    def _possible(self):
        rank, machines = self.part
        if not 0 <= rank < machines:
            raise ValueError(f"part {rank} of {machines} does not exist; ranks go from 0 to machines - 1")
        if (self.backend == "dask") != (self.scheduler is not None):
            raise ValueError("backend dask and a scheduler's address go together: give both or neither")
        if self.backend == "dask" and find_spec("distributed") is None:
            raise ValueError("backend dask needs the package distributed: pip install 'trajvit[dask]'")
        return self


def generate(
    out: Place,
    samples: int = 1200,
    format: str = "compact",
    variety: str = "textbook",
    split: str = "train",
    seed: int = 0,
    workers: int | None = None,
    shard_size: int | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    part: tuple[int, int] = (0, 1),
    on_progress: Listener = silent,
    **world,
) -> Dataset | None:
    """Make the dataset `out`, or finish it, and open it.

    Arguments: `out`, a folder or s3://bucket/prefix; `samples`, how many; `format`, `compact`, `classic` or TxHxWxC such
    as `16x128x128x3`; `variety`, `textbook` or `varied`; `split`, `train`, `val` or `test`, streams that cannot overlap;
    `seed`, 0..2^32-1; `shard_size`, samples in a file (16 MiB of frames by default); `on_progress`, called with each
    `Progress`; and any other parameter of `WorldConfig`.

    Who works: `workers` processes of this machine (by default one for small work and one a core for large), or with
    `backend` "dask" those of the cluster at `scheduler`; `part` (rank, machines) makes only every machines-th shard,
    for unconnected machines that fill one folder together, and gives None while others' shards are missing.

    The same arguments give the same bytes, whoever works and however often it was interrupted. Raises `InputError`,
    before any work, for impossible arguments, a folder with a dataset of another config or with something else in it,
    or one that another process is filling; `OSError` where a disk or bucket fails.
    """
    labour = Labour(workers=workers, backend=backend, scheduler=scheduler, part=part)
    folder = open_folder(out)
    config = plan(folder, samples, format, variety, split, seed, shard_size, **world)
    fill(folder, config, film_shard, labour, on_progress)
    return open_dataset(folder) if labour.part[1] == 1 or not missing_shards(folder, config) else None


def plan(
    out: Place,
    samples: int,
    format: str,
    variety: str,
    split: str,
    seed: int,
    shard_size: int | None = None,
    **world,
) -> DatasetConfig:
    """The config of the dataset that `generate` would make; raises its `InputError`s and writes nothing."""
    filmed = WorldConfig.named(format, variety=variety, **world)
    size = min(samples, default_shard_size(filmed)) if shard_size is None else shard_size
    config = DatasetConfig(world=filmed, split=split, seed=seed, samples=samples, shard_size=size)
    folder = open_folder(out)
    if not refuse_other_content(folder, config):
        film(filmed, seed, split, 0, min(samples, 16))  # a world that no path fits into is refused here
    return config


def refuse_other_content(folder: Folder, config: StoredConfig) -> bool:
    """Whether the folder holds the dataset of this config; raises `InputError` where it holds anything else."""
    found = read_config(folder)
    if found is None:
        if isinstance(folder, Disk):
            _refuse_foreign_folder(folder.place, config)
        return False
    if found != config:
        raise InputError(
            f"{folder} holds another dataset ({_difference(found, config)}): name another folder or the same parameters"
        )
    return True


Make = Callable[[StoredConfig, int, int], dict[str, np.ndarray]]


def fill(
    folder: Folder,
    config: StoredConfig,
    make: Make,
    labour: Labour,
    on_progress: Listener = silent,
    broken: Set[int] = frozenset(),
) -> None:
    """Make the shards that a dataset lacks, or that are `broken`, with `make(config, start, stop)`.

    `make` gives the arrays of samples start..stop-1 and is a function that workers can import.
    """
    rank, machines = labour.part
    begun = refuse_other_content(folder, config)
    missing = missing_shards(folder, config) if begun else list(range(config.shards))
    own = range(rank, config.shards, machines)
    lacking = broken.union(missing)
    mine = [shard for shard in own if shard in lacking]
    if begun and not mine:
        return
    folder.prepare(["_done", *config.arrays])
    name = f"{rank}-of-{machines}"
    with folder.lock(name):
        if not refuse_other_content(folder, config):
            write_group(folder, config)
        for shard in broken:
            folder.delete(record_key(shard))
        done, total = (sum(_count(config, shard) for shard in shards) for shards in (set(own) - set(mine), own))
        report = "PROGRESS" if machines == 1 else f"_progress/{name}"
        with Telling("generate", total, "samples", folder, on_progress, done, report) as telling:
            there = len(own) - len(mine)
            for shard in _made(folder, config, make, mine, labour):
                done, there = done + _count(config, shard), there + 1
                telling.advance(done, f"{there}/{len(own)} shards", partial(_newest, config, make, shard))


def _made(folder: Folder, config: StoredConfig, make: Make, shards: list[int], labour: Labour) -> Iterator[int]:
    """Make shards, in any order, and give the number of each once it is there."""
    workers = labour.workers or _default_workers(config, len(shards))
    if labour.backend == "loky" and min(workers, len(shards)) == 1:
        for shard in shards:
            yield make_shard(folder, config, make, shard)
        return
    import joblib  # here, since most datasets are small, and starting takes as long as making one
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    tasks = (joblib.delayed(make_shard)(folder, config, make, shard) for shard in shards)
    try:
        with _backend(labour):
            yield from joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)(tasks)
    except TerminatedWorkerError:
        raise OSError("a worker process was killed from outside (out of memory?)") from None


@contextmanager
def _backend(labour: Labour):
    """Loky starts fresh processes and never forks this one, which may have threads that a fork would lose."""
    import joblib

    if labour.backend == "loky":
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield
        return
    from distributed import Client

    with Client(labour.scheduler, timeout="10s"), joblib.parallel_config(backend="dask"):
        yield


def make_shard(folder: Folder, config: StoredConfig, make: Make, shard: int) -> int:
    """Make one shard where it is needed; what a worker runs."""
    write_shard(folder, config, shard, make(config, *config.range(shard)))
    return shard


def film_shard(config: DatasetConfig, start: int, stop: int) -> dict[str, np.ndarray]:
    """The arrays of samples start..stop-1 of a filmed dataset; the frames hold until this process films again."""
    canvas = _canvas(min(config.shard_size, config.samples), *config.world.shape)
    clips = film(config.world, config.seed, config.split, start, stop, canvas)
    return {name: getattr(clips, name) for name in ARRAYS}


@lru_cache(maxsize=1)
def _canvas(*shape: int) -> UInt8[np.ndarray, "N T H W C"]:
    """A process's own memory for frames, kept from shard to shard."""
    return np.empty(shape, np.uint8)


def _newest(config: StoredConfig, make: Make, shard: int) -> bytes:
    start, _ = config.range(shard)
    return thumbnail(make(config, start, start + 1)["frames"][0])


def _default_workers(config: StoredConfig, shards: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if shards * config.shard_size * config.world.bytes > WORTH_A_WORKER else 1


def _count(config: StoredConfig, shard: int) -> int:
    start, stop = config.range(shard)
    return stop - start


def _difference(found: StoredConfig, asked: StoredConfig) -> str:
    old, new = (config.model_dump(exclude={"world"}) | config.world.model_dump() for config in (found, asked))
    return ", ".join(
        f"{name} = {old.get(name)!r} there, {new.get(name)!r} asked for"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    )


def _refuse_foreign_folder(root: Path, config: StoredConfig) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file, not a folder: name another place")
    ours = ("_", "PROGRESS.", *config.arrays)
    strangers = [entry.name for entry in root.iterdir() if not entry.name.startswith(ours)] if root.exists() else []
    if strangers:
        raise InputError(f"{root} holds other things ({', '.join(sorted(strangers)[:3])}): name an empty or new folder")
