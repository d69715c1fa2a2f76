"""Where things are: paths in parameters are relative to the repository, wherever a notebook or command runs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "reports" / "runs"


def place(path: str | Path) -> Path:
    """`path` itself when absolute, else below the repository."""
    return ROOT / path
