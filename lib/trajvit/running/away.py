"""Runs' folders, each held by one at a time. One that is kept in a bucket is brought from there when a run begins, and sent
there as it grows: the bucket's copy counts."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from trajvit.datasets.bucket import Bucket, LostLock
from trajvit.datasets.folders import open_folder
from trajvit.datasets.progress import Telling
from trajvit.running.mirror import INDEX, Mirror

SEND_S, BEAT_S = 20.0, 5.0
UNSENT = "_unsent"  # in a folder of which not all could be sent
Stand = Callable[[], tuple[int, str]]  # how many parts are done, and what is being done


def held(place: str, folder: Path, parts: int, stand: Stand, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """A context in which a run's folder is ours alone, and its `place` in a bucket, unless that is empty, kept up to date."""
    if place:
        return _kept_in(place, folder, parts, stand, say)
    ours = open_folder(folder)
    ours.prepare([])
    return ours.lock("run")


@contextmanager
def _kept_in(place: str, folder: Path, parts: int, stand: Stand, say: Callable[[str], None]) -> Iterator[None]:
    """A context in which `folder` is this machine's copy of `s3://bucket/prefix`: brought from there first, sent there as it changes,
    with how many of its `parts` are done.

    What the last sending could not send is put aside, not lost; what a killed run had not begun to send is made again. A run whose
    place another machine takes over is interrupted. Raises `InputError` where another machine is at it, `OSError` where the last
    of it could not be sent.
    """
    bucket = Bucket(place)
    mirror = Mirror(bucket, folder)
    with bucket.lock("machine") as check_lock:  # the lock of a rented machine: both may go on with a run
        if INDEX in bucket.names():
            if (folder / UNSENT).exists():
                aside = folder.rename(folder.with_name(f"{folder.name}-unsent-{int(time.time())}"))
                say(f"{aside} holds what could not be sent; this run goes on from what is in the bucket")
            shutil.rmtree(folder, ignore_errors=True)  # else two states of one run would be mixed
        ours = open_folder(folder)
        ours.prepare([])
        say(f"{place}: {mirror.bring()} files brought to {folder}")
        telling = Telling(place.rpartition("/")[2], parts, "parts", bucket, done=stand()[0], period_s=BEAT_S)

        def send() -> None:
            (folder / UNSENT).touch()
            check_lock()
            mirror.send()
            (folder / UNSENT).unlink()

        with ours.lock("run"), telling, _sending(send, lambda: telling.advance(*stand()), say):
            yield


@contextmanager
def _sending(send: Callable[[], None], tell: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """Tell how it stands, and send what has changed, now and then; and the last of it at the end."""
    ended = threading.Event()

    def keep_sending() -> None:
        sent = time.monotonic()
        while not ended.wait(BEAT_S):
            tell()
            if time.monotonic() - sent >= SEND_S:
                sent = time.monotonic()
                try:
                    send()
                except LostLock as error:  # whatever is made here from now on is in vain
                    say(f"trajvit: {error}")
                    return os.kill(os.getpid(), signal.SIGINT)
                except OSError as error:
                    say(f"trajvit: {error}; tried again in {SEND_S:.0f} s")

    sender = threading.Thread(target=keep_sending, name="sending a run", daemon=True)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()
        tell()
        send()
