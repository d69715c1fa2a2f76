"""Tells how far a long piece of work is: an event for whoever listens, and a file that can be watched from afar."""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from trajvit.datasets.files import write_atomic, write_json

PERIOD_S = 0.5


@dataclass(frozen=True)
class Progress:
    """One report: `done` of `total` `unit`s, `rate` a second, `eta_s` seconds to go, `state` and a free `note`."""

    work: str
    state: str
    done: int
    total: int
    unit: str
    rate: float
    eta_s: float | None
    note: str = ""

    def __str__(self) -> str:
        share = 100 * self.done // max(self.total, 1)
        eta = "" if self.eta_s is None or self.state != "running" else f", {self.eta_s:.0f} s to go"
        note = f", {self.note}" if self.note else ""
        return f"{self.work}: {self.state}, {self.done}/{self.total} {self.unit} ({share} %), {self.rate:,.1f}/s{eta}{note}"


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener that says nothing."""


class Telling:
    """Reports the progress of a `with` block to a listener and, given a folder, to `PROGRESS.json` and `.txt` there.

    The files are replaced atomically at least once a second even while the work itself is silent; a heartbeat that
    is older means that the process is gone. Leaving the block tells `done`, `interrupted` (Ctrl-C) or `failed`.
    """

    def __init__(self, work: str, total: int, unit: str, folder: Path | None = None, listener: Listener = silent, done: int = 0):
        self.work, self.total, self.unit, self.folder, self.listener = work, total, unit, folder, listener
        self.first = self.done = done
        self.state, self.note = "running", ""
        self.started = time.monotonic()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"progress of {work}", daemon=True)

    def __enter__(self) -> "Telling":
        self._tell()
        self._write()
        self._heart.start()
        return self

    def advance(self, done: int, note: str = "") -> None:
        """Say that `done` units are finished."""
        self.done, self.note = done, note
        self._tell()

    def __exit__(self, kind, error, trace) -> None:
        self._stop.set()
        self._heart.join()
        self.state = "done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        if kind is not None:
            self.note = " ".join(f"{kind.__name__}: {error}".split())[:200]
        self._tell()
        try:
            self._write()
        except OSError:  # a full disk must not hide the error that is on its way
            if kind is None:
                raise

    def now(self) -> Progress:
        """The current report."""
        rate = (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)
        eta = (self.total - self.done) / rate if rate > 0 else None
        return Progress(self.work, self.state, self.done, self.total, self.unit, rate, eta, self.note)

    def _tell(self) -> None:
        self.listener(self.now())

    def _beat(self) -> None:
        while not self._stop.wait(PERIOD_S):
            try:
                self._write()
            except OSError:
                continue  # the work itself meets the same disk and says so

    def _write(self) -> None:
        if self.folder is None:
            return
        report = self.now()
        heartbeat = {"heartbeat": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self.folder / "PROGRESS.json", asdict(report) | heartbeat)
        write_atomic(self.folder / "PROGRESS.txt", f"{report}\n".encode())
