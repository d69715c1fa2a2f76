"""Re-reads a whole dataset and says which shards are not what they should be, and what the sound ones hold."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt64

from trajvit.datasets.folders import Folder, Place, open_folder
from trajvit.datasets.generator import fill, film_shard
from trajvit.datasets.labour import Labour
from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.datasets.store import (
    ARRAYS,
    SPARE,
    DamagedError,
    Dataset,
    StoredConfig,
    digest_frames,
    encode_group,
    encode_record,
    no_dataset,
    read_config,
    read_record,
    record_key,
)
from trajvit.settings import InputError
from trajvit.worlds.config import ClipShape
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips
from trajvit.worlds.renderer import light_centres

# How far the centre of light of a filmed ball may be from its projection.
CENTRE_PX = 0.05


@dataclass
class Verification:
    """What a verification found.

    `damaged` gives the reason for each shard that does not hold what it should. Of the sound shards: how many clips of
    each class, a 64-bit digest of each clip's frames, in how many clips a ball leaves the frame, and how far in px the
    centre of light of any frame is from the projection of the ball.
    """

    config: StoredConfig
    damaged: dict[int, str] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0] * len(NAMES))
    digests: UInt64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.uint64))
    outside: int = 0
    centre_error_px: float = 0.0

    @property
    def duplicates(self) -> int:
        """Clips whose frames another clip has too, but one."""
        return self.digests.size - np.unique(self.digests).size

    @property
    def imbalance(self) -> int:
        """Clips that the commonest class has more than the rarest."""
        return max(self.counts) - min(self.counts)

    @property
    def sound(self) -> bool:
        """Whether every shard is as it should be, and what was filmed is balanced, whole, in place and never twice."""
        imported = self.config.kind == "imported"
        good = self.duplicates == 0 and self.outside == 0 and self.centre_error_px <= CENTRE_PX and self.imbalance <= 1
        return not self.damaged and (imported or good)

    def __str__(self) -> str:
        config = self.config
        if self.damaged:
            reasons = "; ".join(f"shard {shard}: {reason}" for shard, reason in sorted(self.damaged.items())[:3])
            return f"damaged: {len(self.damaged)} of {config.shards} shards ({reasons})"
        verdict = "sound" if self.sound else "not as it should be"
        origin = "every byte as its config films it" if config.kind == "filmed" else "as imported"
        return (
            f"{verdict}: {config.samples} clips in {config.shards} shards, {origin}; "
            f"{self.duplicates} duplicates, {self.imbalance} more of the commonest class than of the rarest, "
            f"{self.outside} balls outside, centres within {self.centre_error_px:.3f} px"
        )


def verify(path: Place, repair: bool = False, on_progress: Listener = silent) -> Verification:
    """Check the dataset at `path`, a folder or s3://bucket/prefix, to the last byte.

    Every file is compared with the sha256 in its shard's record, every chunk with its crc, and the content of a
    filmed dataset with what its config films. With `repair`, damaged metadata is written again, damaged shards are made
    again and the result is verified once more; an imported dataset loses their records instead, so that importing again
    makes them anew.
    Raises `InputError` when there is no dataset at `path`.
    """
    folder = open_folder(path)
    config = _config(folder)
    found, dataset = Verification(config), Dataset(folder, config)
    if repair:
        folder.prepare(["_done", *config.arrays])
    for key, content in encode_group(config).items():
        if folder.read(key) == content:
            continue
        if repair:
            folder.write(key, content)
        else:
            found.damaged |= dict.fromkeys(range(config.shards), f"{folder}/{key} is not as generated")
    digests = []
    with Telling("verify", config.samples, "samples", listener=on_progress) as telling:
        for shard in range(config.shards):
            start, stop = config.range(shard)
            reason = _damage(folder, config, shard)
            if not reason and shard not in found.damaged:
                try:
                    digests.append(_look_at(found, dataset, start, stop))
                except InputError as error:
                    reason = str(error)
            if reason:
                found.damaged[shard] = reason
            telling.advance(stop)
    found.digests = np.concatenate([found.digests, *digests])
    if found.damaged and repair:
        return _repaired(folder, found, on_progress)
    return found


def _config(folder: Folder) -> StoredConfig:
    """The dataset's config, from its spare copy where the group's own is damaged."""
    configs, problems = [], []
    for key in ("zarr.json", SPARE):
        try:
            configs.append(read_config(folder, key))
        except InputError as error:
            problems.append(error)
    configs = [config for config in configs if config is not None]
    if len(configs) == 2 and configs[0] != configs[1]:
        raise InputError(
            f"{folder}/zarr.json and its spare copy {SPARE} are of different datasets: remove the wrong one and run "
            f"'python -m trajvit verify {folder} --repair'"
        )
    if configs:
        return configs[0]
    if not problems:
        raise no_dataset(folder)
    if not all(isinstance(problem, DamagedError) for problem in problems):
        raise problems[0]
    raise InputError(
        f"{folder}/zarr.json and its spare copy {SPARE} are both damaged or missing: remove what is left of them and run its "
        f"'python -m trajvit generate' again, which keeps the shards that are whole"
    )


def _damage(folder: Folder, config: StoredConfig, shard: int) -> str:
    """Why a shard's files are not what its record says; empty when they are."""
    record = read_record(folder, config, shard)
    if record is None:
        return f"{folder}/{record_key(shard)} is missing or does not vouch for it"
    files = {}
    for key, expected in record["files"].items():
        content = files[key] = folder.read(key)
        if content is None:
            return f"{folder}/{key} is missing"
        if len(content) != expected["bytes"]:
            return f"{folder}/{key} has {len(content)} bytes instead of {expected['bytes']}"
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            return f"{folder}/{key} has another sha256 than its record"
    if folder.read(record_key(shard)) != encode_record(config, shard, files):
        return f"{folder}/{record_key(shard)} is not as it was written"
    return ""


def _look_at(found: Verification, dataset: Dataset, start: int, stop: int) -> UInt64[np.ndarray, " n"]:
    """Add what the clips of a shard show to `found`; a 64-bit digest of each clip's frames.

    Raises `InputError` where a crc fails or a filmed clip is another than its config's.
    """
    clips = dataset.read(start, stop)
    if dataset.config.kind == "filmed":
        filmed = film_shard(dataset.config, start, stop)
        for name in ARRAYS:
            if not np.array_equal(getattr(clips, name), filmed[name]):
                raise InputError(f"{dataset.root}/{name} holds other samples than its config films")
    counts = np.bincount(clips.label, minlength=len(NAMES))
    found.counts = [old + int(new) for old, new in zip(found.counts, counts, strict=True)]
    found.outside += int((~_inside(dataset.config.world, clips)).sum())
    error = np.linalg.norm(light_centres(clips.frames) - clips.pixels, axis=-1)
    found.centre_error_px = max(found.centre_error_px, float(error.max()))
    return digest_frames(clips.frames)


def _inside(shape: ClipShape, clips: Clips) -> Bool[np.ndarray, " n"]:
    """Which clips have the rim of their ball inside the outermost pixels' edges in every frame."""
    reach: Float32[np.ndarray, "n T 1"] = clips.radius[..., None] - 0.5
    far = np.array([shape.width, shape.height], np.float32) - 1
    return ((clips.pixels - reach >= 0) & (clips.pixels + reach <= far)).all(axis=(1, 2))


def _repaired(folder: Folder, found: Verification, on_progress: Listener) -> Verification:
    if found.config.kind == "imported":
        for shard in found.damaged:
            folder.delete(record_key(shard))
        return found
    fill(folder, found.config, film_shard, Labour(), on_progress, broken=set(found.damaged))
    return verify(folder, on_progress=on_progress)
