"""Where a dataset is: a folder on a disk or a prefix in an S3 bucket, behind the few operations that both can keep.

A key is a path below the folder, with '/'. What is written under a key is there whole or not at all.
"""

import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import psutil

from trajvit.datasets.files import replace_by, sync_folder
from trajvit.settings import InputError

BEAT_S, STALE_S = 5.0, 30.0  # of the lock of a bucket: how often it is renewed, and when it counts as abandoned
FORGOTTEN_S = 86400.0  # the age at which a temporary file of another machine is rubbish


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

    def prepare(self, folders: list[str]) -> None:
        """Make the folders that keys will lie in; `write` makes none, so that a vanished disk is not written beside."""

    def lock(self, name: str):
        """A context in which nobody else holds the lock `name` here; raises `InputError` where somebody does."""

    def zarr_store(self):
        """The place as a zarr store to read from."""


Place = str | Path | Folder


def open_folder(place: Place) -> Folder:
    """The folder at a path or at `s3://bucket/prefix`. Raises `InputError` for a bucket that cannot be reached."""
    if isinstance(place, Disk | Bucket):
        return place
    return _bucket(str(place)) if str(place).startswith("s3://") else Disk(Path(place))


def here() -> dict:
    """Which process on which machine this is."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


@dataclass(frozen=True)
class Disk:
    """A folder on a disk. Files are made under `_tmp/`, synced and renamed."""

    place: Path

    def __str__(self) -> str:
        return str(self.place)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.place / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, content: bytes) -> None:
        try:
            replace_by(self.place / key, content, self.place / "_tmp")
        except OSError as error:
            raise OSError(f"{self.place / key} cannot be written ({error.strerror or error})") from error

    def delete(self, key: str) -> None:
        (self.place / key).unlink(missing_ok=True)

    def sizes(self, below: str = "") -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self.place / below):
            parent = Path(folder).relative_to(self.place)
            for name in names:
                try:
                    found[(parent / name).as_posix()] = os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:  # a temporary file that was renamed while we looked
                    continue
        return found

    def prepare(self, folders: list[str]) -> None:
        for name in ("_tmp", "_lock", *folders):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        sync_folder(self.place)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """The kernel's own lock on `_lock/<name>`: it ends with the process that holds it, however that ends.

        Its holder clears away the temporary files of dead processes.
        """
        with open(self.place / "_lock" / name, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    f"{self.place} is being written by {_owner(file.read())}: wait for it, or stop it and run this again"
                ) from None
            file.truncate(0)
            file.write(json.dumps(here()))
            file.flush()
            self._clear_temporary()
            yield
            file.truncate(0)

    def _clear_temporary(self) -> None:
        for left in (self.place / "_tmp").iterdir():
            host, pid, *_ = left.name.removeprefix("_").rsplit("-", 2)
            old = time.time() - left.stat().st_mtime > FORGOTTEN_S
            if old or (host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))):
                left.unlink(missing_ok=True)

    def zarr_store(self):
        from zarr.storage import LocalStore

        return LocalStore(self.place, read_only=True)


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


class Bucket:
    """A prefix in an S3 bucket, or in anything that speaks S3 at `AWS_ENDPOINT_URL`; credentials as the AWS tools find
    them. Server errors and answers that do not come are tried again, with growing pauses, for `patience`."""

    def __init__(self, place: str, patience: timedelta = timedelta(minutes=3)):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", place):
            raise InputError(f"{place!r} is not an S3 place; write s3://bucket/prefix")
        self.place, self.patience = place.rstrip("/"), patience

    def __str__(self) -> str:
        return self.place

    def __reduce__(self):
        return Bucket, (self.place, self.patience)

    @cached_property
    def store(self):
        from boto3 import Session
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        session = Session()
        if session.get_credentials() is None:
            raise InputError(
                f"no AWS credentials for {self.place}: run 'aws configure', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        return S3Store.from_url(
            self.place,
            region=session.region_name or "us-east-1",
            credential_provider=Boto3CredentialProvider(session),
            client_options={"timeout": "20s", "connect_timeout": "5s", "allow_http": endpoint.startswith("http://")},
            retry_config={
                "max_retries": 12,
                "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
                "retry_timeout": self.patience,
            },
        )

    def read(self, key: str) -> bytes | None:
        with self._named(key, "read"):
            try:
                return self.store.get(key).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def write(self, key: str, content: bytes) -> None:
        with self._named(key, "written"):
            # In one request, so that no upload of parts is left behind, invisible and paid for.
            self.store.put(key, content, use_multipart=False)

    def delete(self, key: str) -> None:
        with self._named(key, "deleted"):
            try:
                self.store.delete(key)
            except FileNotFoundError:
                return

    def sizes(self, below: str = "") -> dict[str, int]:
        with self._named(below, "listed"):
            return {entry["path"]: entry["size"] for batch in self.store.list(below or None) for entry in batch}

    def prepare(self, folders: list[str]) -> None:
        """A bucket has no folders."""

    def check(self) -> None:
        """Raise `InputError` unless the bucket answers."""
        try:
            with self._named("", "listed"):
                next(iter(self.store.list(chunk_size=1)), None)
        except OSError as error:
            raise InputError(f"{error}: check the name, the credentials and AWS_ENDPOINT_URL") from None

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """An object `_lock/<name>` that its holder renews; one that was not renewed for `STALE_S` is taken over.

        Taking and taking over are conditional requests, of which S3 grants one.
        """
        key = f"_lock/{name}"
        self._take(key)
        released = threading.Event()
        beat = threading.Thread(target=self._renew, args=(key, released), daemon=True)
        beat.start()
        try:
            yield
        finally:
            released.set()
            beat.join()
            self.delete(key)

    def _take(self, key: str) -> None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with self._named(key, "locked"):
                self._put_lock(key, "create")
            return
        except AlreadyExistsError:
            pass
        found = self.store.get(key)
        text = found.bytes().to_bytes().decode()
        age = time.time() - found.meta["last_modified"].timestamp()
        if age <= STALE_S and not _dead(text):
            raise InputError(
                f"{self.place} is being written by {_owner(text)}, last heard of {max(age, 0):.0f} s ago: wait for it, or stop "
                f"it and run this again {STALE_S:.0f} s later"
            )
        try:
            self._put_lock(key, {"e_tag": found.meta["e_tag"]})
        except PreconditionError:
            raise InputError(f"{self.place} was taken over by another process just now: wait for it") from None

    def _put_lock(self, key: str, mode) -> None:
        self.store.put(key, json.dumps(here()).encode(), mode=mode, use_multipart=False)

    def _renew(self, key: str, released: threading.Event) -> None:
        while not released.wait(BEAT_S):
            try:
                self.write(key, json.dumps(here()).encode())
            except OSError:
                continue  # the work itself meets the same trouble and says so

    @contextmanager
    def _named(self, key: str, done: str):
        """Say of an error where it happened; what the caller asks for by name passes through."""
        from obstore import exceptions

        try:
            yield
        except (exceptions.NotFoundError, exceptions.AlreadyExistsError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise OSError(f"{self.place}: there is no such bucket") from None
            raise
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise OSError(f"{self.place}/{key} cannot be {done} ({_reason(error)})") from None

    def zarr_store(self):
        from zarr.storage import ObjectStore

        return ObjectStore(self.store, read_only=True)


def _dead(text: str) -> bool:
    """Whether a lock's owner was a process of this machine that is gone."""
    try:
        owner = json.loads(text)
        return owner["host"] == socket.gethostname() and not psutil.pid_exists(owner["pid"])
    except (ValueError, KeyError, TypeError):
        return False


def _reason(error: Exception) -> str:
    """What an error of the object store comes to, in one short line."""
    text = str(error)
    for code, meaning in (
        ("NoSuchBucket", "there is no such bucket"),
        ("InvalidAccessKeyId", "the access key is unknown: check the AWS credentials"),
        ("SignatureDoesNotMatch", "the secret key is wrong: check the AWS credentials"),
        ("AccessDenied", "access denied: these credentials may not do that"),
        ("403", "access denied: these credentials may not do that"),
        ("error sending request", f"no answer from {os.environ.get('AWS_ENDPOINT_URL', 'S3')}"),
    ):
        if code in text:
            return meaning
    return " ".join(text.split())[:200]


@lru_cache(maxsize=16)
def _bucket(place: str) -> Bucket:
    """A bucket that has answered once."""
    Bucket(place, timedelta(seconds=8)).check()
    return Bucket(place)
