import io
import itertools
import re

import nbformat
import numpy as np
import pytest
from PIL import Image
from trajvit.datasets.progress import Progress
from trajvit.reporting.animations import moving_clips
from trajvit.reporting.html import Section, front_page, notebook_page
from trajvit.reporting.live import HEADLESS, LiveProgress
from trajvit.reporting.tables import Table, families_table
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.film import film

HOSTILE = '<script>alert("x")</script>'


def test_animations_move_as_the_clips_do():
    frames = film(WorldConfig(channels=3), 0, "val", 0, 4).frames
    animation = moving_clips({"real": frames, "again": frames[:2]}, alt=HOSTILE)
    gif = Image.open(io.BytesIO(animation.gif))
    pictures = []
    for k in range(gif.n_frames):
        gif.seek(k)
        pictures.append(np.asarray(gif.convert("RGB")))
    assert len(pictures) == 8 and all((a != b).any() for a, b in itertools.pairwise(pictures))
    assert "<script>" not in animation._repr_html_()


def test_tables_escape_what_they_show():
    table = Table(["a", HOSTILE], [[HOSTILE, "GO"]], verdict_column=1)
    assert "<script>" not in table._repr_html_() and "GO" in str(table)


def test_the_table_of_families_says_what_each_variety_varies():
    assert "phase 0," in str(families_table(FAMILIES, "textbook"))
    assert "direction -1 or 1" in str(families_table(FAMILIES, "varied"))


@pytest.fixture
def executed(tmp_path):
    image = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "figure"})
    widget = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntProgress"})
    text = nbformat.v4.new_output("stream", name="stdout", text=HOSTILE)
    cells = [
        nbformat.v4.new_markdown_cell("# Does it stand alone?"),
        nbformat.v4.new_code_cell("1 + 1", outputs=[image, widget, text]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "nb.ipynb")
    return tmp_path


def test_a_page_stands_alone_and_is_escaped(executed):
    notebook_page(executed / "nb.ipynb", executed / "nb.html", [("run", HOSTILE)])
    page = (executed / "nb.html").read_text()
    assert "<title>Does it stand alone?</title>" in page and "data:image/png;base64" in page
    assert "IntProgress" not in page and "<script>" not in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert re.search(r"<img[^>]*alt=", page)


def test_a_front_page_shows_its_verdict_and_escapes_its_facts(tmp_path):
    front_page(tmp_path / "index.html", HOSTILE, "NO-GO", False, [("why", HOSTILE)], [Section("Pages", "<ol></ol>")])
    page = (tmp_path / "index.html").read_text()
    assert "NO-GO" in page and "verdict bad" in page and "<script>" not in page


def test_progress_is_plain_lines_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    show = LiveProgress()
    for done in range(1000):
        show(Progress("generate", "running", done, 1000, "samples", 10.0, 5.0))
    show(Progress("generate", "done", 1000, 1000, "samples", 10.0, 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1] == "generate: done, 1000/1000 samples (100 %), 10.0/s"


def test_the_widget_moves_and_fills(monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr("trajvit.reporting.live.get_ipython", lambda: object())
    monkeypatch.setattr("trajvit.reporting.live.display", lambda shown: None)
    show = LiveProgress()
    seen = []
    for done, state in ((0, "running"), (40, "running"), (100, "done")):
        show(Progress("train", state, done, 100, "steps", 1.0, None, note=HOSTILE))
        bar, text = show.bars["train"]
        seen.append((bar.value, bar.max, bar.bar_style))
        assert "<script>" not in text.value
    assert seen == [(0, 100, "info"), (40, 100, "info"), (100, 100, "success")]
