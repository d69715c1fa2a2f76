"""Shows progress while it happens: a widget in JupyterLab, plain lines where nobody is looking at a screen."""

import html
import os
import time
from collections.abc import Iterable

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from trajvit.datasets.folders import Place, open_folder
from trajvit.datasets.progress import Progress, Sighting, watch
from trajvit.reporting.animations import image_tag

LINE_EVERY_S, PICTURE_PX = 5.0, 96
HEADLESS = "TRAJVIT_HEADLESS"  # set in the kernels of batch runs
STYLES = {"running": "info", "done": "success", "failed": "danger", "interrupted": "warning"}


def is_headless() -> bool:
    """Whether nobody is looking at a screen that could show a widget."""
    return HEADLESS in os.environ or get_ipython() is None


class LiveProgress:
    """A listener for `on_progress`: a gauge for each piece of work it is told about, and a closing line for each."""

    def __init__(self):
        self.headless = is_headless()
        self.gauges: dict[str, Gauge] = {}
        self.lines = Lines()

    def __call__(self, progress: Progress) -> None:
        ended = progress.state != "running"
        if not self.headless:
            self._show(progress, ended)
        if self.headless or ended:
            self.lines([progress], ended)

    def _show(self, progress: Progress, ended: bool) -> None:
        if progress.work not in self.gauges:
            self.gauges[progress.work] = Gauge()
            display(self.gauges[progress.work].box)
        self.gauges[progress.work].show(progress)
        if ended:  # the next work of this name is another one
            del self.gauges[progress.work]


def follow(place: Place) -> None:
    """Show work that goes on elsewhere, from the progress files in `place`, a folder or s3://bucket/prefix, until it ends.

    One gauge for each machine that works there. One that has not been heard of for a while is shown as stalled, and
    followed on: the same command on that machine continues it. Raises `InputError` where no progress is reported.
    """
    lines, gauges, box, headless = Lines(), [], ipywidgets.VBox(), is_headless()
    if not headless:
        display(box)
    for sightings in watch(open_folder(place)):
        ended = all(found.progress.state != "running" for found in sightings)
        gauges += [Gauge() for _ in sightings[len(gauges) :]]
        for gauge, found in zip(gauges, sightings, strict=False):
            gauge.show(found.progress, found)
        box.children = [gauge.box for gauge in gauges]
        if headless or ended:
            lines(sightings, ended)


class Lines:
    """Prints reports: at most one set every `LINE_EVERY_S`, and always the last."""

    def __init__(self):
        self.last = time.monotonic()

    def __call__(self, reports: Iterable[Progress | Sighting], ended: bool) -> None:
        if ended or time.monotonic() - self.last >= LINE_EVERY_S:
            self.last = time.monotonic()
            print("\n".join(map(str, reports)), flush=True)


class Gauge:
    """The widget of one piece of work: bar, rate, time to go, note, and its newest picture; `box` is what to display."""

    def __init__(self):
        self.bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="320px"))
        self.text, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.box = ipywidgets.HBox([ipywidgets.VBox([self.bar, self.text]), self.picture])
        self.shown = b""

    def show(self, progress: Progress, sighting: Sighting | None = None) -> None:
        """Show a report, or what was seen of it from afar."""
        stalled = sighting is not None and sighting.stalled
        self.bar.max, self.bar.value = max(progress.total, 1), progress.done
        self.bar.bar_style = "danger" if stalled else STYLES.get(progress.state, "info")
        self.text.value = f"<span>{html.escape(str(sighting or progress))}</span>"
        if progress.picture and progress.picture != self.shown:
            self.picture.value = image_tag(progress.picture, "gif", f"newest clip of {progress.work}", PICTURE_PX)
            self.shown = progress.picture
