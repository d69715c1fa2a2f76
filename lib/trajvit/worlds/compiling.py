"""Compiled functions, kept on disk for as long as no file of this folder changes.

Numba itself looks only at a function's own file to see whether what it kept is stale, not at those of the functions that it calls:
after a change of a family's path the oracle would go on with the old one.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from numba import config, njit

HERE = Path(__file__).parent
STAMP = sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))).hexdigest()[:16]


def compiled(function: Callable) -> Callable:
    """`function` as numba compiles it, in `NUMBA_CACHE_DIR` or beside this file under the stamp of all that is written here."""
    elsewhere = config.CACHE_DIR
    config.CACHE_DIR = str(Path(elsewhere or HERE / "__pycache__") / STAMP)
    try:
        return njit(cache=True)(function)
    finally:
        config.CACHE_DIR = elsewhere
