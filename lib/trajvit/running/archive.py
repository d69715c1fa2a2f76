"""The source that a rented machine runs: the last commit, packed without its history and without credentials."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from trajvit.settings import InputError

WHAT_RUNS = ("lib", "data/weights", "notebooks/*.ipynb", "reports/ablations.json", "pyproject.toml", "requirements.txt")


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` of the repository at a commit, whose name git has written into its header."""

    commit: str
    content: bytes


def pack(root: Path) -> Archive:
    """The last commit of the repository at `root`.

    Raises `InputError` where there is no commit, or where what would run is not what lies on the disk.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        changed = [line[3:] for line in _git(root, "status", "--porcelain", "--", *WHAT_RUNS).decode().splitlines()]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(
                f"{', '.join(changed[:3])}{more} differ from the last commit, which is what the machine would run: "
                "commit them or put them away"
            )
        return Archive(commit, _git(root, "archive", "--format=tar.gz", "HEAD"))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        reason = " ".join(said.decode(errors="replace").split())
        raise InputError(f"the source in {root} cannot be packed ({reason}): launch from a git clone") from None


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
