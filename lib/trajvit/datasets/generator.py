"""Fills a dataset, shard by shard, alone or with others; what is there already is not made again."""

import json
import threading
from collections.abc import Callable, Set
from contextlib import closing
from functools import partial

import numpy as np
from jaxtyping import UInt8

from trajvit.datasets.folders import Disk, Folder, Place, open_folder
from trajvit.datasets.labour import Labour, cores, crew
from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.datasets.store import (
    ARRAYS,
    SPARE,
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
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film

# Bytes of frames that one process makes while a worker is still starting up.
WORTH_A_WORKER = 2**30


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
    `seed`, 0..2^32-1; `shard_size`, samples in a file (32 MiB of frames by default); `on_progress`, called with each
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
    size = default_shard_size(filmed) if shard_size is None else shard_size
    config = DatasetConfig(world=filmed, split=split, seed=seed, samples=samples, shard_size=size)
    if shard_size is None:
        config = config.model_copy(update={"shard_size": min(config.samples, size)})
    folder = open_folder(out)
    if not refuse_other_content(folder, config):
        film(filmed, seed, split, 0, min(config.samples, 16))  # a world that no path fits into is refused here
    return config


def refuse_other_content(folder: Folder, config: StoredConfig) -> bool:
    """Whether the folder holds the dataset of this config; raises `InputError` where it holds anything else."""
    strangers = _strangers(folder, config)  # before the config is looked for: another machine may be writing it
    whole = read_config(folder)
    found = whole or read_config(folder, SPARE)
    if found is None and strangers:
        raise InputError(f"{folder} holds other things ({', '.join(strangers[:3])}): name an empty or new folder")
    if found and found != config:
        raise InputError(
            f"{folder} holds another dataset ({_difference(found, config)}): name another folder or the same parameters"
        )
    return whole is not None


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
    lacking = broken.union(missing_shards(folder, config))
    own = range(rank, config.shards, machines)
    mine = [shard for shard in own if shard in lacking]
    name = f"{rank}-of-{machines}"
    report = "PROGRESS" if machines == 1 else f"_progress/{name}"
    if begun and not mine and _ended(folder, report):
        return
    if labour.backend == "dask" and isinstance(folder, Disk):
        folder = Disk(folder.place.absolute())  # the workers may be at home in another folder
    workers = min(len(mine), labour.workers or _default_workers(config, len(mine)))
    with crew(labour, workers) as each:
        folder.prepare(["_done", *config.arrays])
        with folder.lock(name):
            _forget_other_reports(folder, machines)
            if not refuse_other_content(folder, config):
                write_group(folder, config)
            for shard in broken:
                folder.delete(record_key(shard))
            done, total = (sum(_count(config, shard) for shard in shards) for shards in (set(own) - set(mine), own))
            work = "generate" if config.kind == "filmed" else "import"
            with (
                Telling(work, total, "samples", folder, on_progress, done, report) as telling,
                closing(each(partial(make_shard, folder, config, make), mine)) as made,
            ):
                for there, shard in enumerate(made, len(own) - len(mine) + 1):
                    done += _count(config, shard)
                    telling.advance(done, f"{there}/{len(own)} shards", partial(_newest, config, make, shard))


def make_shard(folder: Folder, config: StoredConfig, make: Make, shard: int) -> int:
    """Make one shard where it is needed; what a worker runs."""
    write_shard(folder, config, shard, make(config, *config.range(shard)))
    return shard


def film_shard(config: DatasetConfig, start: int, stop: int) -> dict[str, np.ndarray]:
    """The arrays of samples start..stop-1 of a filmed dataset; the frames hold until this thread films again."""
    canvas = _canvas(min(config.shard_size, config.samples), *config.world.shape)
    clips = film(config.world, config.seed, config.split, start, stop, canvas)
    return {name: getattr(clips, name) for name in ARRAYS}


_kept = threading.local()


def _canvas(*shape: int) -> UInt8[np.ndarray, "N T H W C"]:
    """A thread's own memory for frames, kept from shard to shard: a Dask worker may film in several threads."""
    if getattr(_kept, "shape", None) != shape:
        _kept.shape, _kept.canvas = shape, np.empty(shape, np.uint8)
    return _kept.canvas


def _newest(config: StoredConfig, make: Make, shard: int) -> bytes:
    start, _ = config.range(shard)
    return thumbnail(make(config, start, start + 1)["frames"][0])


def _default_workers(config: StoredConfig, shards: int) -> int:
    return cores() if shards * config.shard_size * config.world.bytes > WORTH_A_WORKER else 1


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


def _strangers(folder: Folder, config: StoredConfig) -> list[str]:
    """What a folder holds beside a dataset's arrays. Raises `InputError` for a file."""
    if isinstance(folder, Disk) and folder.place.exists() and not folder.place.is_dir():
        raise InputError(f"{folder} is a file, not a folder: name another place")
    known = {*config.arrays, ".DS_Store"}  # which Finder leaves in every folder that it shows
    return sorted(name for name in folder.names() if name not in known and not name.startswith(("_", "PROGRESS.")))


def _ended(folder: Folder, report: str) -> bool:
    """Whether the last run says that it ended, and left nothing behind; a run that was killed says for ever that it works."""
    try:
        state = json.loads(folder.read(f"{report}.json") or b"{}").get("state", "done")
    except (ValueError, AttributeError):
        return False
    return state == "done" and not folder.sizes("_tmp")


def _forget_other_reports(folder: Folder, machines: int) -> None:
    """Delete what runs have told that divided the work otherwise: they may be dead, and their shards are made here.

    One that lives tells it again at once.
    """
    reports = [f"PROGRESS.{kind}" for kind in ("json", "txt", "gif")] if machines > 1 else []
    for key in (*reports, *folder.sizes("_progress")):
        if not key.rpartition(".")[0].endswith(f"-of-{machines}"):
            folder.delete(key)
