"""What asks for an end, held back until a step is whole and its checkpoint written."""

import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_S = 3.0  # signals within it are one request: a terminal and a launcher may both tell a process


class Held:
    """While entered, SIGINT and SIGTERM are only noted; `why` says what asked for the end, and is empty till then.

    Who asks again is taken at their word: a later signal ends at once, as it would without this. Outside the main thread,
    where Python lets nobody handle signals, only `ask` counts.
    """

    def __init__(self):
        self.why = ""
        self._first = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Held":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        self._restore()

    def ask(self, why: str) -> None:
        """Ask for the end, from any thread."""
        self.why = self.why or why

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._first and time.monotonic() - self._first > SAME_S:
            self._restore()
            signal.raise_signal(number)
            return
        self._first = self._first or time.monotonic()
        self.ask(f"told by {signal.Signals(number).name}")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
