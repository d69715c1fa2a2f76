"""The one place that writes a file which somebody else may read: whole or not at all."""

import json
import os
import socket
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: temporary name, fsync, rename, fsync of the folder.

    A reader sees the old content or the new, never a part; missing folders are made. Raises `OSError` when the disk
    is full or the folder cannot be written, leaving the old content in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_by(path, content, path.parent)


def replace_by(path: Path, content: bytes, workplace: Path) -> None:
    """`write_atomic` with the temporary file in `workplace`, a folder of the same disk. Makes no folders.

    The temporary file's name says which process of which machine it belongs to.
    """
    handle, temporary = tempfile.mkstemp(prefix=f"_{socket.gethostname()}-{os.getpid()}-", dir=workplace)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(value) -> bytes:
    """`value` as indented JSON. NaN and infinity are refused with `ValueError`."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, value) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, to_json(value))
