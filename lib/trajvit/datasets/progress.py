"""Tells how far a long piece of work is: an event for whoever listens, and a file that can be watched from afar."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from trajvit.datasets.files import to_json
from trajvit.datasets.folders import Folder
from trajvit.datasets.owners import here
from trajvit.settings import InputError

PERIOD_S, PICTURE_EVERY_S, STALLED_S = 0.5, 2.0, 10.0


@dataclass(frozen=True)
class Progress:
    """One report: `done` of `total` `unit`s, `rate` a second, `eta_s` seconds to go, `state`, a free `note`, a GIF of the
    newest result (empty where there is none), named `figures`, and `pictures`, the names of files that lie beside it."""

    work: str
    state: str
    done: int
    total: int
    unit: str
    rate: float
    eta_s: float | None
    note: str = ""
    picture: bytes = b""
    figures: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        share = 100 * self.done // max(self.total, 1)
        eta = "" if self.eta_s is None or self.state != "running" else f", {self.eta_s:.0f} s to go"
        note = f", {self.note}" if self.note else ""
        return f"{self.work}: {self.state}, {self.done}/{self.total} {self.unit} ({share} %), {self.rate:,.1f}/s{eta}{note}"


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener that says nothing."""


class Telling:
    """Reports the progress of a `with` block to a listener and, given a folder, to files `<report>.json` and `.txt` there.

    The files are replaced atomically every `period_s` even while the work itself is silent; a heartbeat that is much
    older means that the process is gone. A picture of the newest result goes to `<report>.gif`, now and then.
    Leaving the block tells `done`, `interrupted` (Ctrl-C or SIGTERM) or `failed`.
    """

    def __init__(
        self,
        work: str,
        total: int,
        unit: str,
        folder: Folder | None = None,
        listener: Listener = silent,
        done: int = 0,
        report: str = "PROGRESS",
        period_s: float = PERIOD_S,
    ):
        self.period_s = period_s
        self.work, self.total, self.unit, self.listener, self.report = work, total, unit, listener, report
        self.folder = folder and folder.impatient()
        self.first = self.done = done
        self.state, self.note, self.picture, self._shown = "running", "", b"", b""
        self.figures: dict[str, float] = {}
        self.pictures: dict[str, str] = {}
        self.started, self.pictured = time.monotonic(), -PICTURE_EVERY_S
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"progress of {work}", daemon=True)

    def __enter__(self) -> "Telling":
        try:
            if self.folder is not None:
                self.folder.prepare([self.report.rpartition("/")[0]])
            self._tell()
            self._write()
            self._heart.start()
        except BaseException as error:
            self._end(type(error), error)
            raise
        return self

    def advance(self, done: int, note: str = "", picture: Callable[[], bytes] | None = None) -> None:
        """Say that `done` units are finished; `picture` draws the newest of them as a GIF, and is not always asked."""
        self.done, self.note = done, note
        if picture is not None and time.monotonic() - self.pictured >= PICTURE_EVERY_S:
            self.picture, self.pictured = picture(), time.monotonic()
        self._tell()

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._end(kind, error)
        except KeyboardInterrupt as late:
            self._end(KeyboardInterrupt, late)
            raise

    def _end(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        self._stop.set()
        if self._heart.is_alive():
            self._heart.join()
        self.state = "done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        if kind is not None:
            self.note = " ".join(f"{kind.__name__}: {error}".removesuffix(": ").split())[:200]
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
        counted = self.work, self.state, self.done, self.total, self.unit, rate, eta
        return Progress(*counted, self.note, self.picture, self.figures, self.pictures)

    def _tell(self) -> None:
        self.listener(self.now())

    def _beat(self) -> None:
        while not self._stop.wait(self.period_s):
            try:
                self._write()
            except OSError:
                continue  # the work itself meets the same disk and says so

    def _write(self) -> None:
        if self.folder is None:
            return
        progress = self.now()
        told = {name: value for name, value in asdict(progress).items() if name != "picture"}
        self.folder.write(f"{self.report}.json", to_json(told | {"heartbeat": time.time()} | here()))
        self.folder.write(f"{self.report}.txt", f"{progress}\n".encode())
        if progress.picture and progress.picture is not self._shown:
            self.folder.write(f"{self.report}.gif", progress.picture)
            self._shown = progress.picture


@dataclass(frozen=True)
class Sighting:
    """What one reading of a progress file tells of work that may be on another machine."""

    progress: Progress
    host: str
    pid: int
    silent_s: float

    @property
    def stalled(self) -> bool:
        """Whether work that should be running has not been heard of for `STALLED_S`."""
        return self.progress.state == "running" and self.silent_s > STALLED_S

    def __str__(self) -> str:
        stalled = f", STALLED: nothing heard for {self.silent_s:.0f} s" if self.stalled else ""
        return f"{self.progress} [{self.host} {self.pid}]{stalled}"


def watch(folder: Folder, period_s: float = 1.0) -> Iterator[list[Sighting]]:
    """What the progress files in a folder say, again and again, until all that is reported there has ended.

    One `Sighting` a file: one, or one for each machine that works there. Raises `InputError` where there is none.
    """
    looking = Lookout(folder)
    while True:
        sightings = looking.sightings()
        if not sightings:
            below = [name for name in sorted(folder.names())[:50] if folder.read(f"{name}/PROGRESS.json") is not None]
            told = f"one of {', '.join(below)} in it" if below else "the folder that a run writes to"
            raise InputError(f"no progress is reported in {folder} itself (no PROGRESS.json): name {told}")
        yield sightings
        if all(found.progress.state != "running" for found in sightings):
            return
        time.sleep(period_s)


class Lookout:
    """Looks at the progress files in a folder; `heard` is, by file, the heartbeat seen last, and when it was new by our clock."""

    def __init__(self, folder: Folder):
        self.folder = folder
        self.heard: dict[str, tuple[float, float]] = {}

    def sightings(self) -> list[Sighting]:
        """What each file says now. Raises `InputError` for one that is not trajvit's."""
        parts = sorted(key.removesuffix(".json") for key in self.folder.sizes("_progress") if key.endswith(".json"))
        return [found for report in ("PROGRESS", *parts) if (found := self._sight(report))]

    def _sight(self, report: str) -> Sighting | None:
        content = self.folder.read(f"{report}.json")
        if content is None:
            return None
        try:
            told = json.loads(content)
            beat, host, pid = float(told.pop("heartbeat")), told.pop("host"), told.pop("pid")
            progress = Progress(**told, picture=self.folder.read(f"{report}.gif") or b"")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{self.folder}/{report}.json is not a progress file of trajvit") from None
        if report not in self.heard:  # the first look has only the two machines' clocks to go by
            self.heard[report] = beat, time.monotonic() - max(0.0, time.time() - beat)
        elif self.heard[report][0] != beat:
            self.heard[report] = beat, time.monotonic()
        return Sighting(progress, host, pid, time.monotonic() - self.heard[report][1])
