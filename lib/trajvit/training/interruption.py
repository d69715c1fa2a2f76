"""Signals that ask for an end, held back until a step is whole and its checkpoint written."""

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Held:
    """While entered, SIGINT and SIGTERM are only noted; `received` says whether one came.

    Two in a row are taken at their word: the second ends at once, as it would without this. Outside the main thread,
    where Python lets nobody handle signals, it does nothing.
    """

    def __init__(self):
        self.received = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Held":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
