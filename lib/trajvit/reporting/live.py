"""Shows progress while it happens: a bar in JupyterLab, plain lines where nobody is looking at a screen."""

import html
import os
import sys
import time

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from trajvit.datasets.progress import Progress

LINE_EVERY_S = 5.0
HEADLESS = "TRAJVIT_HEADLESS"  # set in the kernels of batch runs


class LiveProgress:
    """A listener for `on_progress`: one bar for each piece of work it is told about, and a closing line for each."""

    def __init__(self):
        self.headless = HEADLESS in os.environ or get_ipython() is None
        self.bars: dict[str, tuple[ipywidgets.IntProgress, ipywidgets.HTML]] = {}
        self.last_line = -LINE_EVERY_S

    def __call__(self, progress: Progress) -> None:
        if not self.headless:
            self._move_bar(progress)
        ended = progress.state != "running"
        if ended or (self.headless and time.monotonic() - self.last_line >= LINE_EVERY_S):
            self.last_line = time.monotonic()
            print(progress, file=sys.stdout, flush=True)

    def _move_bar(self, progress: Progress) -> None:
        if progress.work not in self.bars:
            bar = ipywidgets.IntProgress(max=progress.total, layout=ipywidgets.Layout(width="320px"))
            text = ipywidgets.HTML()
            self.bars[progress.work] = bar, text
            display(ipywidgets.HBox([bar, text]))
        bar, text = self.bars[progress.work]
        bar.value = progress.done
        bar.bar_style = {"done": "success", "failed": "danger", "interrupted": "warning"}.get(progress.state, "info")
        text.value = f"<span>{html.escape(str(progress))}</span>"
