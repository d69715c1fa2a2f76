"""The random streams: counter-based, so a value is a pure function of (seed, split, sample, attempt, position)."""

import numpy as np
from jaxtyping import UInt32

from trajvit.settings import InputError

SPLITS = ("train", "val", "test")
MAX_SEED = 2**32 - 1


def split_key(seed: int, split: str) -> UInt32[np.ndarray, "2"]:
    """The Philox key of a split's stream. Raises `InputError` for an unknown split or a seed outside 0..2^32-1."""
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed} is out of range; it must lie in 0..{MAX_SEED}")
    return np.array([seed, SPLITS.index(split)], np.uint32)
