"""Re-reads a whole dataset and says which shards are not what their records vouch for."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from trajvit.datasets.files import write_atomic
from trajvit.datasets.generator import complete
from trajvit.datasets.store import DatasetConfig, encode_group, read_config, read_record, record_path
from trajvit.settings import InputError


@dataclass(frozen=True)
class Verification:
    """What a verification found; `damaged` gives the reason for each shard that does not hold what it should."""

    config: DatasetConfig
    damaged: dict[int, str]

    @property
    def sound(self) -> bool:
        return not self.damaged

    def __str__(self) -> str:
        config = self.config
        if self.sound:
            return f"sound: {config.samples} samples in {config.shards} shards, every sha256 as recorded"
        reasons = "; ".join(f"shard {shard}: {reason}" for shard, reason in sorted(self.damaged.items())[:5])
        return f"damaged: {len(self.damaged)} of {config.shards} shards ({reasons})"


def verify(path: str | Path, repair: bool = False) -> Verification:
    """Compare every file of the dataset at `path` with the sha256 in its shard's record.

    With `repair`, only the damaged shards are made again (the config says how) and the result is verified once more.
    Raises `InputError` when there is no dataset at `path`.
    """
    root = Path(path)
    config = read_config(root)
    if config is None:
        raise InputError(f"there is no dataset at {root}: make one with 'python -m trajvit generate --out {root}'")
    damaged = {shard: reason for shard in range(config.shards) if (reason := _damage(root, config, shard))}
    for key, content in encode_group(config).items():
        if not (root / key).is_file() or (root / key).read_bytes() != content:
            damaged |= dict.fromkeys(range(config.shards), f"{key} is not as generated")
            if repair:
                write_atomic(root / key, content)
    if damaged and repair:
        for shard in damaged:
            record_path(root, shard).unlink(missing_ok=True)
        complete(root, config)
        return verify(root)
    return Verification(config, damaged)


def _damage(root: Path, config: DatasetConfig, shard: int) -> str:
    """Why a shard is not sound; empty when it is."""
    record = read_record(root, config, shard)
    if record is None:
        return "no valid record"
    for key, expected in record["files"].items():
        try:
            content = (root / key).read_bytes()
        except OSError:
            return f"{key} cannot be read"
        if hashlib.sha256(content).hexdigest() != expected.get("sha256"):
            return f"{key} has another sha256"
    return ""
