"""Runs the real command in processes of its own, for tests that stop it in the middle."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = (sys.executable, "-m", "trajvit")
NOT_DATA = ("PROGRESS", "_lock", "_tmp", "_progress")


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    """Start `python -m trajvit` in a process group of its own, as a terminal would."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    )


def run(*arguments: object, limit_s: float = 60, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself within the limit."""
    return end(start(*arguments, **environment), limit_s)


def end(process: subprocess.Popen, limit_s: float = 60) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process, once it ends by itself within the limit."""
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


@contextmanager
def quick_folder() -> Iterator[Path]:
    """An empty folder in memory where there is such a disk: syncing is most of the time that a tiny dataset takes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="trajvit-", dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def last_line(text: str) -> str:
    return text.splitlines()[-1] if text else ""


def wait_until(true: Callable[[], object], limit_s: float = 30, what: str = "it") -> None:
    """Wait for something to come true."""
    limit = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < limit, f"{what} did not come true within {limit_s} s"
        time.sleep(0.005)


def contents(root: Path) -> dict[str, str]:
    """The sha256 of every file of a dataset, but for what tells of its making."""
    files = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if not name.parts[0].startswith(NOT_DATA)
    }


def records(root: Path) -> int:
    """How many shards a dataset says that it has."""
    return sum(1 for _ in root.glob("_done/0*.json"))


def litter(root: Path) -> list[str]:
    """Temporary files."""
    return [path.name for path in (root / "_tmp").iterdir()]


def progress(root: Path) -> dict:
    return json.loads((root / "PROGRESS.json").read_text())


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)
