"""Where a dataset is: a folder on a disk or a prefix in an S3 bucket, behind the few operations that both can keep.

A key is a path below the folder, with '/'. What is written under a key is there whole or not at all.
"""

import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from trajvit.datasets.bucket import Bucket, open_bucket
from trajvit.datasets.files import replace_by, sync_folder, write_atomic
from trajvit.datasets.owners import here, is_gone, named
from trajvit.settings import InputError

FORGOTTEN_S = 86400.0  # the age at which a temporary file of another machine is rubbish
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)  # a disk's trouble, not a wrong place


@runtime_checkable
class Folder(Protocol):
    """What a dataset needs of the place it is in. Failures raise `OSError` with a message that names the place."""

    place: Path | str

    def read(self, key: str) -> bytes | None:
        """The content under a key; None where there is nothing."""

    def write(self, key: str, content: bytes) -> None:
        """Put `content` under a key, whole or not at all, and durably."""

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens where there is none."""

    def sizes(self, below: str = "") -> dict[str, int]:
        """The size in bytes of everything that is there, or `below` a key, by key."""

    def names(self) -> set[str]:
        """What lies directly in the place; empty where it does not exist."""

    def prepare(self, folders: list[str]) -> None:
        """Make the folders that keys will lie in; `write` makes none, so that a vanished disk is not written beside.

        Raises `InputError` for a place that cannot be written.
        """

    def impatient(self) -> "Folder":
        """The same place, asked with little patience: for what is soon said again, or can be done without."""

    def lock(self, name: str) -> AbstractContextManager[Callable[[], None]]:
        """A context in which nobody else holds the lock `name` here; raises `InputError` where somebody does.

        What it gives raises `LostLock`, an `OSError`, where the lock has been taken over since, while this machine slept.
        """

    def naming(self, key: str, done: str) -> AbstractContextManager[None]:
        """A context that says of an error where it happened and what was `done` there, as an `OSError`."""

    def zarr_store(self):
        """The place as a zarr store to read from."""


Place = str | Path | Folder


def open_folder(place: Place) -> Folder:
    """The folder at a path or at `s3://bucket/prefix`. Raises `InputError` for a bucket that cannot be reached."""
    if isinstance(place, Disk | Bucket):
        return place
    if str(place).startswith("s3://"):
        return open_bucket(str(place))
    if re.match(r"\w{2,}:/", str(place)):
        raise InputError(f"{str(place)!r} is neither a folder nor s3://bucket/prefix")
    try:
        Path(place).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # what is to be made there says so itself
    except OSError as error:
        raise InputError(f"{place} cannot be used ({error.strerror})") from None
    return Disk(Path(place))


def write_file(place: Place, name: str, content: bytes) -> None:
    """Write a file for others directly into a place, which is made where it is missing: whole or not at all."""
    folder = open_folder(place)
    if isinstance(folder, Disk):
        write_atomic(folder.place / name, content)  # in a folder of results, without `_tmp` beside them
    else:
        folder.write(name, content)


@dataclass(frozen=True)
class Disk:
    """A folder on a disk. Files are made under `_tmp/`, synced and renamed."""

    place: Path

    def __str__(self) -> str:
        return str(self.place)

    def read(self, key: str) -> bytes | None:
        with self.naming(key, "read"):
            try:
                return (self.place / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, content: bytes) -> None:
        with self.naming(key, "written"):
            replace_by(self.place / key, content, self.place / "_tmp")

    def delete(self, key: str) -> None:
        with self.naming(key, "deleted"):
            (self.place / key).unlink(missing_ok=True)

    def sizes(self, below: str = "") -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self.place / below):
            parent = Path(folder).relative_to(self.place)
            for name in names:
                with suppress(FileNotFoundError):  # a temporary file that was renamed while we looked
                    found[(parent / name).as_posix()] = os.stat(os.path.join(folder, name)).st_size
        return found

    def names(self) -> set[str]:
        return set(os.listdir(self.place)) if self.place.is_dir() else set()

    def prepare(self, folders: list[str]) -> None:
        with self._being_prepared():
            for name in ("_tmp", "_lock", *folders):
                (self.place / name).mkdir(parents=True, exist_ok=True)
            sync_folder(self.place)

    def impatient(self) -> "Disk":
        return self

    @contextmanager
    def lock(self, name: str) -> Iterator[Callable[[], None]]:
        """The kernel's own lock on `_lock/<name>`: it ends with the process that holds it, however that ends.

        Its holder clears away the temporary files of dead processes, first and last.
        """
        with self._being_prepared():
            file = open(self.place / "_lock" / name, "a+", errors="replace")  # noqa: SIM115
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    f"{self.place} is being written by {named(file.read())}: wait for it, or stop it and run this again"
                ) from None
            except OSError as error:  # some network disks cannot
                raise OSError(f"{self.place} cannot be locked ({error.strerror})") from error
            self._clear_temporary()  # before anything is written: it may be what fills the disk
            with self._being_prepared():
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), json.dumps(here()).encode())
            try:
                yield lambda: None  # the kernel gives it to nobody else
            finally:
                with suppress(OSError):  # the disk may have vanished
                    self._clear_temporary()

    @contextmanager
    def _being_prepared(self) -> Iterator[None]:
        """Say of an error that the place is to blame: of a wrong one as `InputError`, of a disk in trouble as `OSError`."""
        try:
            yield
        except OSError as error:
            reason = f"{self.place} cannot be written ({error.strerror})"
            if error.errno in PASSING:
                raise OSError(reason) from error
            raise InputError(f"{reason}: name another folder") from None

    def _clear_temporary(self) -> None:
        for left in (self.place / "_tmp").iterdir():
            host, _, pid = left.name.removeprefix("_").rpartition("-")[0].rpartition("-")
            with suppress(FileNotFoundError):  # renamed by its owner just now
                old = time.time() - left.stat().st_mtime > FORGOTTEN_S
                if old or (pid.isdigit() and is_gone(host, int(pid))):
                    left.unlink()

    @contextmanager
    def naming(self, key: str, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            if done == "written" and not self.place.joinpath("_tmp").is_dir():
                why = "its folder is gone: is the disk still there?"
            raise OSError(f"{self.place / key} cannot be {done} ({why})") from error

    def zarr_store(self):
        from zarr.storage import LocalStore

        return LocalStore(self.place, read_only=True)
