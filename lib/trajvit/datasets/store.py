"""A dataset: a Zarr v3 group, on a disk or in a bucket, written shard by shard, each shard vouched for by a record.

    zarr.json                      the group; its attributes hold format version, config, config hash and families
    frames/ label/ points/ pixels/ radius/      the arrays of `Clips`, a file a shard
    _done/00000.json               written after shard 0: its range, config hash and the sha256 and size of each file
    PROGRESS.json .txt .gif        how far the generator is, and its newest clip
    _lock/ _tmp/ _progress/        who is writing, files in the making, how far each of several machines is

A shard without its record does not exist: zarr itself would read it as zeros, as it would a file that is gone. The
files of arrays hold nothing that varies from run to run.
"""

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from jaxtyping import UInt8, UInt64
from pydantic import Field, model_validator
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore, WrapperStore

from trajvit.datasets.files import to_json
from trajvit.datasets.folders import Folder, Place, open_folder
from trajvit.settings import InputError, Settings
from trajvit.worlds.config import ClipShape, WorldConfig
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.film import Clips
from trajvit.worlds.streams import MAX_SEED, SPLITS

FORMAT_VERSION = 2
SHARD_BYTES = 2**25
MAX_SHARD_BYTES, MAX_SHARDS = 2**31, 2 * 10**7
CHUNK_BYTES = 2**20
SPARE = "_done/zarr.json"
TOGETHER = 16  # requests under way at once
ARRAYS = tuple(field.name for field in fields(Clips))


class StoredConfig(Settings):
    """What every dataset says of itself; two datasets of equal config are equal byte for byte."""

    world: ClipShape
    samples: int = Field(ge=1, le=10**10)
    shard_size: int = Field(ge=1, le=2**20, description="samples in a shard")

    @model_validator(mode="after")
    def _shards_can_be_handled(self):
        size = min(self.shard_size, self.samples) * self.world.bytes
        if size > MAX_SHARD_BYTES:
            raise ValueError(
                f"shard_size = {self.shard_size} makes shards of {size / 2**30:.1f} GiB of frames; each is made in memory and "
                f"may have {MAX_SHARD_BYTES / 2**30:g} GiB: lower shard_size"
            )
        if self.shards > MAX_SHARDS:
            raise ValueError(
                f"samples = {self.samples} with shard_size = {self.shard_size} makes {self.shards:,} shards; there may be "
                f"{MAX_SHARDS:,}: raise shard_size or lower samples"
            )
        return self

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that name this config."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def origin(self) -> dict:
        """Where sample i comes from, in JSON: the same for a dataset and for one that only has more of the same samples."""
        return self.model_dump(mode="json", exclude={"samples", "shard_size"})

    @property
    def shards(self) -> int:
        return math.ceil(self.samples / self.shard_size)

    def range(self, shard: int) -> tuple[int, int]:
        """The samples start..stop-1 of a shard."""
        return shard * self.shard_size, min((shard + 1) * self.shard_size, self.samples)

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """The shape of a sample and the dtype of each array."""
        times = self.world.frames
        return {
            "frames": (self.world.shape, "uint8"),
            "label": ((), "uint8"),
            "points": ((times, 3), "float32"),
            "pixels": ((times, 2), "float32"),
            "radius": ((times,), "float32"),
        }


class DatasetConfig(StoredConfig):
    """A dataset that was filmed: all of it follows from this."""

    kind: Literal["filmed"] = "filmed"
    world: WorldConfig
    split: Literal["train", "val", "test"] = "train"
    seed: int = Field(0, ge=0, le=MAX_SEED)


class ImportedConfig(StoredConfig):
    """A dataset that was imported from a file."""

    kind: Literal["imported"] = "imported"
    sha256: str = Field(description="of the file it came from")
    share: Literal["train", "val", "test", "all"] = Field(description="which of the file's samples")
    texts: dict[str, int] = Field(description="names of the texts that each sample has, with their length in bytes")

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return super().arrays | {name: ((length,), "uint8") for name, length in self.texts.items()}


KINDS = {"filmed": DatasetConfig, "imported": ImportedConfig}


def default_shard_size(shape: ClipShape) -> int:
    """A power of two of samples that comes to about 32 MiB of frames: 4096 for `compact`, 128 for `classic`."""
    return 2 ** max(0, int(math.log2(SHARD_BYTES / shape.bytes)))


def encode_group(config: StoredConfig) -> dict[str, bytes]:
    """The metadata files of a dataset, by their key: a spare copy of the group's first, the group's own last."""
    store = MemoryStore(files := {})
    _create_arrays(store, config)
    encoded = {key: buffer.to_bytes() for key, buffer in files.items()}
    group = encoded.pop("zarr.json")
    return {SPARE: group} | encoded | {"zarr.json": group}


def encode_shard(config: StoredConfig, shard: int, arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """The data files of one shard, by their key: compressed (zstd) and with a crc32c a chunk."""
    store = MemoryStore(files := {})
    empty = _create_arrays(store, config)
    start, stop = config.range(shard)
    for name, values in arrays.items():
        empty[name][start:stop] = values
    return {key: buffer.to_bytes() for key, buffer in files.items() if not key.endswith("zarr.json")}


def _create_arrays(store: MemoryStore, config: StoredConfig) -> dict[str, zarr.Array]:
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
    chunk = min(config.shard_size, max(1, CHUNK_BYTES // config.world.bytes))
    while config.shard_size % chunk:
        chunk -= 1
    arrays = {}
    for name, (shape, dtype) in config.arrays.items():
        whole = (config.shard_size, *shape)
        arrays[name] = group.create_array(
            name,
            shape=(config.samples, *shape),
            dtype=dtype,
            chunks=(chunk, *shape) if name == "frames" else whole,
            shards=whole if name == "frames" else None,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},  # one folder an array, however many shards
            # Else a shard that is all zero would have no file to vouch for. Zarr does not store this: it holds for these
            # objects only, and not for the same arrays opened from the group.
            config={"write_empty_chunks": True},
        )
    return arrays


def _keys(config: StoredConfig, shard: int) -> set[str]:
    """The data files of a shard: one an array."""
    return {f"{name}/c.{shard}{'.0' * len(shape)}" for name, (shape, _) in config.arrays.items()}


def record_key(shard: int) -> str:
    return f"_done/{shard:05d}.json"


def write_group(folder: Folder, config: StoredConfig) -> None:
    """Create the empty dataset; the group's own `zarr.json` goes last, so a dataset that can be opened is whole."""
    for key, content in encode_group(config).items():
        folder.write(key, content)


def write_shard(folder: Folder, config: StoredConfig, shard: int, arrays: dict[str, np.ndarray]) -> None:
    """Write one shard's files, then its record."""
    files = encode_shard(config, shard, arrays)
    for key, content in files.items():
        folder.write(key, content)
    folder.write(record_key(shard), encode_record(config, shard, files))


def encode_record(config: StoredConfig, shard: int, files: dict[str, bytes]) -> bytes:
    """The record that vouches for the data files of a shard, given by their key."""
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
    return to_json(record)


def read_record(folder: Folder, config: StoredConfig, shard: int) -> dict | None:
    """The record of a shard, or None when there is none that vouches for this shard of this config."""
    start, stop = config.range(shard)
    expected = {"shard": shard, "start": start, "stop": stop, "count": stop - start, "config_hash": config.hash}
    try:
        record = json.loads(folder.read(record_key(shard)) or "null")
        whole = all(record[key] == value for key, value in expected.items()) and set(record["files"]) == _keys(config, shard)
        return record if whole and all(file.keys() == {"bytes", "sha256"} for file in record["files"].values()) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def missing_shards(folder: Folder, config: StoredConfig) -> list[int]:
    """The shards that lack their record or a file of the recorded size; what is in the files is for crc and `verify`."""
    sizes = folder.sizes()

    def is_there(shard: int) -> bool:
        record = read_record(folder, config, shard) if record_key(shard) in sizes else None
        return record is not None and all(sizes.get(key) == file["bytes"] for key, file in record["files"].items())

    with ThreadPoolExecutor(TOGETHER) as pool:
        return [shard for shard, there in enumerate(pool.map(is_there, range(config.shards))) if not there]


class DamagedError(InputError):
    """A file of a dataset is not what was written."""


def read_config(folder: Folder, key: str = "zarr.json") -> StoredConfig | None:
    """The config of the dataset in a folder, or None where there is no dataset.

    Raises `InputError` for one of another format version, and for a damaged or foreign `zarr.json`.
    """
    content = folder.read(key)
    if content is None:
        return None
    try:
        attributes = json.loads(content)["attributes"]
        version = attributes["format_version"]
        if version == FORMAT_VERSION:
            config = KINDS[attributes["config"]["kind"]](**attributes["config"])
            if config.hash == attributes["config_hash"]:
                return config
    except (ValueError, KeyError, TypeError):
        version = FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise InputError(f"{folder} has format version {version}; this trajvit reads version {FORMAT_VERSION}: generate it again")
    raise DamagedError(
        f"{folder}/{key} is damaged, or not that of a trajvit dataset: name another folder, or if it was one, "
        f"run 'python -m trajvit verify {folder} --repair'"
    )


class Vouched(WrapperStore):
    """A store whose data files are all known to have been there: one that is not is an error, where zarr reads zeros."""

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is None and "/c." in key:
            raise ValueError(f"{key} is gone")
        return found


@dataclass(frozen=True)
class Dataset:
    """A complete dataset, opened for reading; `config` says what it holds."""

    folder: Folder
    config: StoredConfig

    def __len__(self) -> int:
        return self.config.samples

    @property
    def root(self) -> Path | str:
        """Where it is: a path, or s3://bucket/prefix."""
        return self.folder.place

    @cached_property
    def group(self) -> zarr.Group:
        for key, content in encode_group(self.config).items():
            if key != SPARE and self.folder.read(key) != content:
                raise ValueError(f"{key} is not as generated")
        return zarr.open_group(Vouched(self.folder.zarr_store()), mode="r", zarr_format=3)

    def read(self, start: int = 0, stop: int | None = None) -> Clips:
        """The samples start..stop-1 (all by default) as `Clips`. Raises `InputError` where a checksum fails."""
        return Clips(**{name: self.array(name, start, stop) for name in ARRAYS})

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """A text that came with each imported sample, such as its `equations`. Raises `InputError` where there is none."""
        if name not in getattr(self.config, "texts", {}):
            raise InputError(f"{self.root} has no texts {name!r}; it has {sorted(getattr(self.config, 'texts', {})) or 'none'}")
        return [row.tobytes().rstrip(b"\0").decode() for row in self.array(name, start, stop)]

    def origin(self, samples: int) -> dict:
        """What the first `samples` samples are, as JSON: to say what a training was on."""
        return self.config.origin | {"samples": samples}

    def array(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The samples start..stop-1 of one array."""
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise InputError(f"samples {start}..{stop} were asked of {self.root}, which holds 0..{len(self)}")
        try:
            with self.folder.naming(name, "read"):
                return self.group[name][start:stop]
        except (ValueError, RuntimeError) as error:
            raise DamagedError(f"{self.root} is damaged ({error}): run 'python -m trajvit verify {self.root} --repair'") from None


def open_dataset(path: Place) -> Dataset:
    """Open the dataset at `path`, a folder or s3://bucket/prefix.

    Raises `InputError` when there is none, when it is of another format version, or when any shard lacks its record
    or has a file of the wrong size.
    """
    folder = open_folder(path)
    config = read_config(folder)
    if config is None:
        raise no_dataset(folder)
    missing = missing_shards(folder, config)
    if missing:
        how = "generate" if config.kind == "filmed" else "import-npz"
        raise InputError(
            f"{folder} is incomplete: {len(missing)} of {config.shards} shards are missing or cut short "
            f"(first: shard {missing[0]}): run its 'python -m trajvit {how}' again, which makes only those"
        )
    return Dataset(folder, config)


def digest_frames(frames: UInt8[np.ndarray, "N T H W C"]) -> UInt64[np.ndarray, " N"]:
    """A 64-bit digest of each clip's frames: equal clips have equal digests."""
    digests = b"".join(hashlib.blake2b(clip, digest_size=8).digest() for clip in frames)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def no_dataset(folder: Folder) -> InputError:
    """What is said of a folder that holds no dataset itself."""
    if within := [split for split in SPLITS if split in folder.names()]:
        return InputError(f"there is no dataset at {folder} itself: name one of {', '.join(within)} in it")
    return InputError(
        f"there is no dataset at {folder}: make one, in a folder of its own, with 'python -m trajvit generate --out DIR'"
    )
