"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").

A value is a pure function of (seed, split, sample, attempt, position), so no order of work can change it.
"""

import numpy as np
from jaxtyping import Float, Int, UInt32

from trajvit.settings import InputError
from trajvit.worlds.kernels import fill_words

SPLITS = ("train", "val", "test")
MAX_SEED = 2**32 - 1


def split_key(seed: int, split: str) -> tuple[np.uint32, np.uint32]:
    """The Philox key of a split's stream. Raises `InputError` for an unknown split or a seed outside 0..2^32-1."""
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed} is out of range; it must lie in 0..{MAX_SEED}")
    return np.uint32(seed), np.uint32(SPLITS.index(split))


def uniforms(
    key: tuple[np.uint32, np.uint32],
    samples: Int[np.ndarray, " n"],
    attempt: int,
    count: int,
    first_block: int = 0,
) -> Float[np.ndarray, "n count"]:
    """`count` numbers in the open interval (0, 1) for each sample; blocks of four start at `first_block` (0..255)."""
    blocks = -(-count // 4)
    words: UInt32[np.ndarray, "n words"] = np.empty((samples.size, 4 * blocks), np.uint32)
    fill_words(*key, samples, attempt, first_block, words)
    return (words[:, :count] + 0.5) * 2.0**-32


def normals(
    key: tuple[np.uint32, np.uint32],
    samples: Int[np.ndarray, " n"],
    attempt: int,
    count: int,
    first_block: int,
) -> Float[np.ndarray, "n count"]:
    """`count` standard normal numbers for each sample, by the Box-Muller transform."""
    u = uniforms(key, samples, attempt, 2 * -(-count // 2), first_block)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0::2])), 2 * np.pi * u[:, 1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]
