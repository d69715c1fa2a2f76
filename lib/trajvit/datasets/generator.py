"""Fills a dataset, shard by shard; what is there already is not made again."""

from pathlib import Path

from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.datasets.store import (
    Dataset,
    DatasetConfig,
    default_shard_size,
    open_dataset,
    read_config,
    shard_is_there,
    write_group,
    write_shard,
)
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film


def generate(
    out: str | Path,
    samples: int = 1200,
    format: str = "compact",
    variety: str = "textbook",
    split: str = "train",
    seed: int = 0,
    shard_size: int | None = None,
    on_progress: Listener = silent,
    **world,
) -> Dataset:
    """Make the dataset `out`, or finish it, and open it.

    Arguments: `samples`, how many; `format`, `compact`, `classic` or TxHxWxC such as `16x128x128x3`; `variety`,
    `textbook` or `varied`; `split`, `train`, `val` or `test`, streams that cannot overlap; `seed`, 0..2^32-1;
    `shard_size`, samples in a file (16 MiB of frames by default); `on_progress`, called with each `Progress`;
    and any other parameter of `WorldConfig`.

    The same arguments give the same bytes, however often the work was interrupted. Raises `InputError`, before any
    work, for impossible arguments, a folder with a dataset of another config, or a folder with something else in it.
    """
    config = plan(out, samples, format, variety, split, seed, shard_size, **world)
    root = Path(out)
    if read_config(root) is None:
        write_group(root, config)
    complete(root, config, on_progress)
    return open_dataset(root)


def plan(
    out: str | Path,
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
    root = Path(out)
    found = read_config(root)
    if found is None:
        _refuse_foreign_folder(root)
        film(filmed, seed, split, 0, min(samples, 16))  # a world that no path fits into is refused here
    elif found != config:
        raise InputError(
            f"{root} holds another dataset ({_difference(found, config)}): name another folder or the same parameters"
        )
    return config


def complete(root: Path, config: DatasetConfig, on_progress: Listener = silent) -> None:
    """Make the shards that the dataset at `root` lacks."""
    there = [shard_is_there(root, config, shard) for shard in range(config.shards)]
    if all(there):
        return
    with Telling("generate", config.samples, "samples", root, on_progress, _count(config, there)) as telling:
        for shard in range(config.shards):
            if not there[shard]:
                write_shard(root, config, shard, film(config.world, config.seed, config.split, *config.range(shard)))
                there[shard] = True
                telling.advance(_count(config, there), note=f"{sum(there)}/{config.shards} shards")


def _count(config: DatasetConfig, there: list[bool]) -> int:
    ranges = (config.range(shard) for shard, is_there in enumerate(there) if is_there)
    return sum(stop - start for start, stop in ranges)


def _difference(found: DatasetConfig, asked: DatasetConfig) -> str:
    old, new = (config.model_dump(exclude={"world"}) | config.world.model_dump() for config in (found, asked))
    return ", ".join(f"{name} = {old[name]!r} there, {new[name]!r} asked for" for name in old if old[name] != new[name])


def _refuse_foreign_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file, not a folder: name another place")
    ours = ("_", "PROGRESS.", "frames", "label", "points", "pixels", "radius")
    strangers = [entry.name for entry in root.iterdir() if not entry.name.startswith(ours)] if root.exists() else []
    if strangers:
        raise InputError(f"{root} holds other things ({', '.join(sorted(strangers)[:3])}): name an empty or new folder")
