"""A dataset's place in an S3 bucket, or in anything that speaks S3, and the lock that such a place can keep."""

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property, lru_cache
from pathlib import Path

from trajvit.datasets.owners import here, is_gone, named, owner
from trajvit.settings import InputError

BEAT_S, STALE_S = 5.0, 30.0  # how often a lock is renewed, and when one that is not counts as abandoned
PATIENCE, LITTLE_PATIENCE, FIRST_PATIENCE = timedelta(minutes=3), timedelta(seconds=3), timedelta(seconds=8)
ANSWER_WITHIN_S = 20  # else the request is made again
PART = 2**26  # bytes that a request can carry in that time


class Bucket:
    """A prefix in a bucket, at `AWS_ENDPOINT_URL` if that is set; credentials as the AWS tools find them.

    Server errors and answers that do not come are tried again, with growing pauses, for `patience`.
    """

    def __init__(self, place: str, patience: timedelta = PATIENCE):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", place):
            raise InputError(f"{place!r} is not an S3 place; write s3://bucket/prefix")
        self.place, self.patience = place.rstrip("/"), patience

    def __str__(self) -> str:
        return self.place

    def __reduce__(self):
        return _kept, (self.place, self.patience)

    @cached_property
    def store(self):
        from boto3 import Session
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        try:
            session = Session()
            found = session.get_credentials()
        except BotoCoreError as error:
            raise InputError(f"the AWS settings cannot be used ({error}): check AWS_PROFILE and ~/.aws") from None
        if found is None:
            raise InputError(
                f"no AWS credentials for {self.place}: run 'aws configure', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return S3Store.from_url(
            self.place,
            region=session.region_name or "us-east-1",
            credential_provider=Boto3CredentialProvider(session),
            client_options={
                "timeout": min(timedelta(seconds=ANSWER_WITHIN_S), self.patience),
                "connect_timeout": timedelta(seconds=5),
                "allow_http": _endpoint().startswith("http://"),
            },
            retry_config={
                "max_retries": 12,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": min(timedelta(seconds=10), self.patience / 4),
                    "base": 2,
                },
                "retry_timeout": self.patience,
            },
        )

    def read(self, key: str) -> bytes | None:
        with self.naming(key, "read"):
            try:
                found = self.store.get(key)
            except FileNotFoundError as error:
                return _unless_no_bucket(error)
            size = found.meta["size"]
            if size <= PART:
                return found.bytes().to_bytes()
            return b"".join(self.store.get_range(key, start=start, end=min(start + PART, size)) for start in range(0, size, PART))

    def write(self, key: str, content: bytes) -> None:
        with self.naming(key, "written"):
            # In one request where it can be, so that no upload of parts is left behind, invisible and paid for.
            self.store.put(key, content, use_multipart=len(content) > PART, chunk_size=PART // 4)

    def send(self, key: str, path: Path) -> None:
        """Put a file of any size under a key. Raises `FileNotFoundError` where the file is gone."""
        with open(path, "rb") as file:
            large = os.fstat(file.fileno()).st_size > PART
            with self.naming(key, "written"):
                self.store.put(key, file, use_multipart=large, chunk_size=PART // 4)

    def fetch(self, key: str, path: Path) -> None:
        """Write what is under a key to a file, piece by piece. The file is not there whole until this returns."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.naming(key, "read"), open(path, "wb") as file:
            size = self.store.head(key)["size"]
            for start in range(0, size, PART):
                file.write(self.store.get_range(key, start=start, end=min(start + PART, size)))

    def delete(self, key: str) -> None:
        with self.naming(key, "deleted"):
            try:
                self.store.delete(key)
            except FileNotFoundError as error:
                _unless_no_bucket(error)

    def sizes(self, below: str = "") -> dict[str, int]:
        with self.naming(below, "listed"):
            return {entry["path"]: entry["size"] for batch in self.store.list(below or None) for entry in batch}

    def names(self) -> set[str]:
        with self.naming("", "listed"):
            found = self.store.list_with_delimiter()
            return {*found["common_prefixes"], *(entry["path"] for entry in found["objects"])}

    def prepare(self, folders: list[str]) -> None:
        """A bucket has no folders."""

    def impatient(self) -> "Bucket":
        return _kept(self.place, min(self.patience, LITTLE_PATIENCE))

    def check(self) -> None:
        """Raise `InputError` unless the bucket answers."""
        try:
            with self.naming("", "listed"):
                next(iter(self.store.list(chunk_size=1)), None)
        except OSError as error:
            raise InputError(f"{error}: check the name, the region, the credentials and AWS_ENDPOINT_URL") from None

    def lock(self, name: str) -> "BucketLock":
        return BucketLock(self, name)

    @contextmanager
    def naming(self, key: str, done: str) -> Iterator[None]:
        """Say of an error where it happened, as an `OSError`; the answers to a conditional request pass through."""
        from obstore import exceptions

        try:
            yield
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except (exceptions.BaseError, OSError) as error:
            raise OSError(f"{self.place}/{key} cannot be {done} ({_reason(error)})") from None

    def zarr_store(self):
        from zarr.storage import ObjectStore

        return ObjectStore(self.store, read_only=True)


class LostLock(OSError):
    """A lock was taken over by another process while this machine slept: what it guards is that one's now."""


class BucketLock:
    """A lock kept as the object `_lock/<name>`, which its holder renews; one that stays silent is taken over.

    Taking, renewing and taking over are conditional requests, of which the bucket grants one. A lock whose holder was a
    process of this machine and has ended is taken over at once, any other after `STALE_S`. Where the two clocks disagree
    a lock must also be seen to be silent.
    """

    def __init__(self, bucket: Bucket, name: str):
        self.bucket, self.key = bucket, f"_lock/{name}"
        self._token, self._beats, self._tag = uuid.uuid4().hex, 0, None
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lock of {bucket}", daemon=True)

    def __enter__(self) -> Callable[[], None]:
        self._tag = self._taken()
        self._heart.start()
        return self._check

    def __exit__(self, *error) -> None:
        self._released.set()
        self._heart.join()
        if self._tag is not None:
            with suppress(OSError):  # it will count as abandoned soon
                if self._replaced(self.bucket.impatient(), self._tag):  # still ours, after a machine's sleep too
                    self.bucket.impatient().delete(self.key)

    def _check(self) -> None:
        """Raise `LostLock` where the lock was taken over."""
        found = self._found(self.bucket)
        if found is None or self._token not in found[0]:
            self._tag = None  # it is not ours to give up
            raise LostLock(f"{self.bucket} was taken over by another process: what was made here since is on this disk alone")

    def _taken(self) -> str:
        from obstore.exceptions import AlreadyExistsError

        with suppress(AlreadyExistsError):
            return self._put(self.bucket, "create")
        found = self._found(self.bucket)
        if found is None:  # given up just now
            return self._taken()
        text, tag, written = found
        if self._token in text:  # our own request, whose answer was lost
            return tag
        holder, age = owner(text), time.time() - written
        if not (holder and is_gone(*holder)):
            if abs(age) > STALE_S:
                time.sleep(2 * BEAT_S)
                now = self._found(self.bucket)
            if abs(age) <= STALE_S or now is None or now[1] != tag:
                raise InputError(
                    f"{self.bucket} is being written by {named(text)}: wait for it, or stop it and run this again "
                    f"{STALE_S:.0f} s later"
                )
        if (own := self._replaced(self.bucket, tag)) is None:
            raise InputError(f"{self.bucket} was taken over by another process just now: wait for it")
        return own

    def _found(self, bucket: Bucket) -> tuple[str, str, float] | None:
        """The lock's text, its tag and when it was written, by the bucket's clock; None where there is no lock."""
        with bucket.naming(self.key, "read"):
            try:
                found = bucket.store.get(self.key)
                text = found.bytes().to_bytes().decode(errors="replace")
                return text, found.meta["e_tag"], found.meta["last_modified"].timestamp()
            except FileNotFoundError:
                return None

    def _put(self, bucket: Bucket, mode) -> str:
        """Write the lock, each time with another content, so that its tag tells a renewed lock from a silent one."""
        self._beats += 1
        content = json.dumps(here() | {"token": self._token, "beats": self._beats}).encode()
        with bucket.naming(self.key, "locked"):
            return bucket.store.put(self.key, content, mode=mode, use_multipart=False)["e_tag"]

    def _beat(self) -> None:
        while self._tag is not None and not self._released.wait(BEAT_S):
            with suppress(OSError):  # the work itself meets the same trouble and says so
                self._tag = self._replaced(self.bucket.impatient(), self._tag)

    def _replaced(self, bucket: Bucket, tag: str) -> str | None:
        """The new tag of the lock that had this one: ours is renewed, or another's taken over; None where somebody was faster."""
        from obstore.exceptions import PreconditionError

        try:
            return self._put(bucket, {"e_tag": tag})
        except PreconditionError:
            found = self._found(bucket)
            return found[1] if found and self._token in found[0] else None  # ours, but the answer was lost


def _unless_no_bucket(error: FileNotFoundError) -> None:
    """What is not there is no error, but that the whole bucket is not is one."""
    if "NoSuchBucket" in str(error):
        raise error


def _endpoint() -> str:
    """Where S3 is spoken, if not at Amazon."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def _reason(error: Exception) -> str:
    """What an error of the object store comes to, in one short line."""
    text = str(error)
    for code, meaning in (
        ("NoSuchBucket", "there is no such bucket"),
        ("InvalidAccessKeyId", "the access key is unknown: check the AWS credentials"),
        ("SignatureDoesNotMatch", "the secret key is wrong: check the AWS credentials"),
        ("AccessDenied", "access denied: these credentials may not do that"),
        ("incorrectly configured region", "the bucket is in another region: set AWS_DEFAULT_REGION"),
        ("403 Forbidden", "access denied: these credentials may not do that"),
        ("error sending request", f"no answer from {_endpoint() or 'S3'}"),
    ):
        if code in text:
            return meaning
    return " ".join(text.split())[:200]


@lru_cache(maxsize=16)
def _kept(place: str, patience: timedelta) -> Bucket:
    """A process's own bucket, with its open connections."""
    return Bucket(place, patience)


@lru_cache(maxsize=16)
def open_bucket(place: str) -> Bucket:
    """A bucket that has answered once."""
    Bucket(place, FIRST_PATIENCE).check()
    return Bucket(place)
