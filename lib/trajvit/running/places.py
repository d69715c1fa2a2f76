"""Where things are: paths in parameters are relative to the repository, wherever a notebook or command runs."""

import re
from pathlib import Path

from trajvit.settings import InputError

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "reports" / "runs"


def place(path: str | Path) -> Path:
    """`path` itself when absolute, else below the repository."""
    return ROOT / path


def from_root(path: str | Path) -> str:
    """`path` as others may read it: from the repository on where it lies in it, else absolute. `place` is the way back."""
    whole = Path(path).resolve()
    return str(whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole)


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a run
BUCKET_PLACE = rf"s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](/{NAME})*"


def is_bucket(path: str) -> bool:
    """Whether a place is in a bucket, or was meant to be."""
    return path.startswith("s3:")


def bucket_place(path: str) -> str:
    """Raises `InputError` unless a place in a bucket is made of what needs no quoting anywhere."""
    if not re.fullmatch(BUCKET_PLACE, place := path.rstrip("/")) or len(place) > 150:
        raise InputError(f"{path!r} is not a place for runs: write s3://bucket/prefix, in letters, digits, . _ -")
    return place
