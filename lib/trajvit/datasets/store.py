"""A dataset on disk: a Zarr v3 group, written shard by shard, each shard vouched for by a record.

    zarr.json                      the group; its attributes hold format version, config, config hash and families
    frames/ label/ points/ pixels/ radius/      the arrays of `Clips`
    _done/00000.json               written after shard 0: its range, config hash and the sha256 and size of each file
    PROGRESS.json PROGRESS.txt     how far the generator is

A shard without its record does not exist: zarr itself would read it as zeros. The files of arrays hold nothing that
varies from run to run.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

import zarr
from pydantic import Field
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from trajvit.datasets.files import write_atomic, write_json
from trajvit.settings import InputError, Settings
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.film import Clips

FORMAT_VERSION = 1
SHARD_BYTES = 2**24
CHUNK_BYTES = 2**18
ARRAYS = tuple(field.name for field in fields(Clips))


class DatasetConfig(Settings):
    """What a dataset holds; two datasets of equal config are equal byte for byte."""

    world: WorldConfig
    split: Literal["train", "val", "test"] = "train"
    seed: int = Field(0, ge=0, lt=2**32)
    samples: int = Field(ge=1, le=10**8)
    shard_size: int = Field(ge=1, description="samples in a shard")

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that name this config."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def shards(self) -> int:
        return math.ceil(self.samples / self.shard_size)

    def range(self, shard: int) -> tuple[int, int]:
        """The samples start..stop-1 of a shard."""
        return shard * self.shard_size, min((shard + 1) * self.shard_size, self.samples)


def default_shard_size(world: WorldConfig) -> int:
    """A power of two of samples that comes to about 16 MiB of frames: 2048 for `compact`, 64 for `classic`."""
    clip_bytes = world.frames * world.height * world.width * world.channels
    return 2 ** max(0, int(math.log2(SHARD_BYTES / clip_bytes)))


def encode_group(config: DatasetConfig) -> dict[str, bytes]:
    """The metadata files of a dataset, by their path in it."""
    store = MemoryStore(files := {})
    _create_group(store, config)
    return {key: buffer.to_bytes() for key, buffer in files.items()}


def encode_shard(config: DatasetConfig, shard: int, clips: Clips) -> dict[str, bytes]:
    """The data files of one shard, by their path in the dataset: compressed (zstd) and with a crc32c a chunk."""
    store = MemoryStore(files := {})
    group = _create_group(store, config)
    start, stop = config.range(shard)
    for name in ARRAYS:
        group[name][start:stop] = getattr(clips, name)
    return {key: buffer.to_bytes() for key, buffer in files.items() if not key.endswith("zarr.json")}


def _create_group(store: MemoryStore, config: DatasetConfig) -> zarr.Group:
    world = config.world
    attributes = {
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
        "config_hash": config.hash,
        "families": [
            {"label": label, "name": family.name, "equation": family.equation, "description": family.description}
            for label, family in enumerate(FAMILIES)
        ],
    }
    group = zarr.create_group(store, zarr_format=3, attributes=attributes)
    times, frame = world.frames, (world.height, world.width, world.channels)
    chunk = min(config.shard_size, max(1, CHUNK_BYTES // (times * math.prod(frame))))
    while config.shard_size % chunk:
        chunk -= 1
    for name, shape, dtype in (
        ("frames", (times, *frame), "uint8"),
        ("label", (), "uint8"),
        ("points", (times, 3), "float32"),
        ("pixels", (times, 2), "float32"),
        ("radius", (times,), "float32"),
    ):
        whole = (config.shard_size, *shape)
        group.create_array(
            name,
            shape=(config.samples, *shape),
            dtype=dtype,
            chunks=(chunk, *shape) if name == "frames" else whole,
            shards=whole if name == "frames" else None,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            config={"write_empty_chunks": True},  # or a shard that is all zero would have no file to vouch for
        )
    return group


def record_path(root: Path, shard: int) -> Path:
    return root / "_done" / f"{shard:05d}.json"


def write_group(root: Path, config: DatasetConfig) -> None:
    """Create the empty dataset; the group's own `zarr.json` goes last, so a dataset that can be opened is whole."""
    files = encode_group(config)
    for key in sorted(files, key=lambda key: key == "zarr.json"):
        write_atomic(root / key, files[key])


def write_shard(root: Path, config: DatasetConfig, shard: int, clips: Clips) -> None:
    """Write one shard's files, then its record."""
    files = encode_shard(config, shard, clips)
    for key, content in files.items():
        write_atomic(root / key, content)
    start, stop = config.range(shard)
    record = {
        "shard": shard,
        "start": start,
        "stop": stop,
        "count": stop - start,
        "config_hash": config.hash,
        "files": {
            key: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for key, content in sorted(files.items())
        },
    }
    write_json(record_path(root, shard), record)


def read_record(root: Path, config: DatasetConfig, shard: int) -> dict | None:
    """The record of a shard, or None when there is none that vouches for this shard of this config."""
    try:
        record = json.loads(record_path(root, shard).read_text())
        start, stop = config.range(shard)
        expected = {"shard": shard, "start": start, "stop": stop, "count": stop - start, "config_hash": config.hash}
        if any(record.get(key) != value for key, value in expected.items()) or set(record["files"]) != _keys(shard):
            return None
        return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keys(shard: int) -> set[str]:
    """The data files of a shard: one an array."""
    trailing = {"frames": "/0/0/0/0", "label": "", "points": "/0/0", "pixels": "/0/0", "radius": "/0"}
    return {f"{name}/c/{shard}{trailing[name]}" for name in ARRAYS}


def shard_is_there(root: Path, config: DatasetConfig, shard: int) -> bool:
    """Whether a shard has its record and files of the recorded sizes; their content is for crc and `verify`."""
    record = read_record(root, config, shard)
    try:
        return record is not None and all((root / key).stat().st_size == file["bytes"] for key, file in record["files"].items())
    except (OSError, KeyError, TypeError):
        return False


def read_config(root: Path) -> DatasetConfig | None:
    """The config of the dataset at `root`, or None where there is no dataset. Raises `InputError` for a foreign one."""
    try:
        attributes = json.loads((root / "zarr.json").read_text())["attributes"]
        version, config = attributes["format_version"], attributes["config"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{root}/zarr.json is not that of a trajvit dataset ({error!r}): name another folder") from None
    if version != FORMAT_VERSION:
        raise InputError(f"{root} has format version {version}; this trajvit reads version {FORMAT_VERSION}: generate it again")
    return DatasetConfig(**config)


@dataclass(frozen=True)
class Dataset:
    """A complete dataset, opened for reading; `config` says what it holds."""

    root: Path
    config: DatasetConfig

    def __len__(self) -> int:
        return self.config.samples

    @cached_property
    def group(self) -> zarr.Group:
        return zarr.open_group(LocalStore(self.root, read_only=True), mode="r", zarr_format=3)

    def read(self, start: int = 0, stop: int | None = None) -> Clips:
        """The samples start..stop-1 (all by default) as `Clips`. Raises `InputError` where a checksum fails."""
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise InputError(f"samples {start}..{stop} were asked of {self.root}, which holds 0..{len(self)}")
        try:
            return Clips(**{name: self.group[name][start:stop] for name in ARRAYS})
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(f"{self.root} is damaged ({error}): run 'python -m trajvit verify {self.root} --repair'") from None


def open_dataset(path: str | Path) -> Dataset:
    """Open the dataset at `path`.

    Raises `InputError` when there is none, when it is of another format version, or when any shard lacks its record
    or has a file of the wrong size.
    """
    root = Path(path)
    config = read_config(root)
    if config is None:
        raise InputError(f"there is no dataset at {root}: make one with 'python -m trajvit generate --out {root}'")
    missing = [shard for shard in range(config.shards) if not shard_is_there(root, config, shard)]
    if missing:
        raise InputError(
            f"{root} is incomplete: {len(missing)} of {config.shards} shards are missing or cut short "
            f"(first: shard {missing[0]}): run its 'python -m trajvit generate' again, which makes only those"
        )
    return Dataset(root, config)
