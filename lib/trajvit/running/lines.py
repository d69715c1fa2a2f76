"""Work told in lines on the terminal."""

import shutil
import sys
import time

from trajvit.datasets.progress import Progress, Sighting

LINE_EVERY_S = 2.0


def tell(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


class Lines:
    """Prints progress as plain lines, at most one every few seconds and one at each end."""

    def __init__(self):
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.state != "running" or time.monotonic() - self.last >= LINE_EVERY_S:
            self.last = time.monotonic()
            print(progress, file=sys.stderr, flush=True)


class Latest:
    """Prints what was seen of progress files: on a terminal always the newest in place, a row each, else now and then a line."""

    def __init__(self):
        self.last, self.height = -LINE_EVERY_S, 0

    def __call__(self, sightings: list[Sighting]) -> None:
        in_place = sys.stdout.isatty()
        ended = all(found.progress.state != "running" for found in sightings)
        if not (in_place or ended or time.monotonic() - self.last >= LINE_EVERY_S):
            return
        self.last = time.monotonic()
        above = f"\x1b[{self.height}A\x1b[J" if in_place and self.height else ""
        self.height = len(sightings)
        # A line that wraps would take more rows than are cleared.
        width = shutil.get_terminal_size().columns - 1 if in_place and not ended else None
        print(above + "\n".join(str(found)[:width] for found in sightings), flush=True)
