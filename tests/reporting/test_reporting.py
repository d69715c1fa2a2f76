import base64
import html
import io
import itertools
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image
from trajvit.datasets.progress import Progress
from trajvit.datasets.store import DatasetConfig
from trajvit.datasets.verification import Verification
from trajvit.evaluation.costs import Cost
from trajvit.evaluation.scores import Completion
from trajvit.magvit.tokenizer import TokenizerConfig
from trajvit.reporting.animations import moving_clips
from trajvit.reporting.cards import Cards
from trajvit.reporting.figures import _apart, commit_conditions, generation_passes, throughput
from trajvit.reporting.html import Section, front_page, notebook_page
from trajvit.reporting.tables import Table, costs_table, integrity_table
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
    (still,) = re.findall(r'prefers-reduced-motion: reduce\)" srcset="data:image/png;base64,([^"]+)"', animation._repr_html_())
    shown = Image.open(io.BytesIO(base64.b64decode(still)))
    assert (np.asarray(shown.convert("RGB")) == pictures[0]).all(), "to those who ask for less motion"


def test_tables_escape_what_they_show():
    table = Table(["a", HOSTILE], [[HOSTILE, "GO"]], verdict_column=1)
    assert "<script>" not in table._repr_html_() and "GO" in str(table)


def test_the_cards_of_the_families_say_and_show_what_each_variety_varies():
    textbook, varied = (Cards(WorldConfig(variety=variety))._repr_html_() for variety in ("textbook", "varied"))
    assert "<b>phase</b>&nbsp;0 " in textbook and "<b>direction</b>&nbsp;-1 or 1" in varied
    for family in FAMILIES:
        assert family.description in textbook and html.escape(family.equation) in textbook
        assert f'alt="3-D path of a {family.name} flight"' in textbook
        assert f'alt="moving clip of a {family.name} flight"' in textbook


def test_the_table_of_integrity_says_what_each_dataset_holds_and_why_one_is_not_sound():
    config = DatasetConfig(world=WorldConfig(), samples=8, shard_size=4)
    sound = Verification(config, counts=[2, 2, 2, 2], digests=np.arange(8, dtype=np.uint64), centre_error_px=0.02)
    broken = Verification(config, damaged={1: HOSTILE}, counts=[2, 2, 0, 0], digests=np.zeros(4, np.uint64))
    table = integrity_table({"train": sound, "val": broken})
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["shards: sha256 of every file"] == ["2 of 2", "1 of 2", "all"]
    assert rows["clips there twice"] == ["0", "3", "0"] and rows["worst centre of light"][0] == "0.020 px"
    assert rows["verdict"][0] == "sound" and "damaged: 1 of 2" in rows["verdict"][1]
    assert "<script>" not in table._repr_html_()


def test_the_table_of_costs_says_time_bytes_and_dollars():
    (row,) = costs_table([Cost(10**9, 5.56, 6, 440.0, 0.57, 14.648, 0.001)]).rows
    assert row == ["1,000,000,000", "5.56 hours", "6", "440 GB", "$0.57", "$14.65", "under $0.01"]


def test_the_chart_of_throughput_says_how_many_times_the_baseline():
    figure = throughput({"loop": 4000.0, "ours": 400_000.0, "limit": 800_000.0})
    assert [text.get_text() for text in figure.axes[0].texts] == ["4,000 /s (1 x)", "400,000 /s (100 x)", "800,000 /s (200 x)"]
    plt.close(figure)


def veiled(figure):
    """The rows by name, and how many tokens are veiled in each frame of them."""
    rows = {axis.get_ylabel(): [] for axis in figure.axes if axis.get_ylabel()}
    frames = len(figure.axes) // len(rows)
    for row, name in enumerate(rows):
        rows[name] = [len(axis.patches) for axis in figure.axes[row * frames : (row + 1) * frames]]
    plt.close(figure)
    return rows


def test_generation_is_veiled_where_nothing_is_drawn_yet():
    masked = np.ones((10, 2, 4, 4), bool)
    for k in range(8):
        masked[k].reshape(-1)[: 2 * k + 2] = False
    masked[8:] = False
    rows = veiled(generation_passes(np.zeros((10, 4, 32, 32, 1), np.uint8), masked))
    assert rows == {
        "2 of 32 tokens": [14, 14, 16, 16],
        "4 of 32 tokens": [12, 12, 16, 16],
        "8 of 32 tokens": [8, 8, 16, 16],
        "16 of 32 tokens": [0, 0, 16, 16],
        "the rest predicted": [0] * 4,
        "settled": [0] * 4,
    }


def test_passes_that_fill_several_tokens_of_few_are_told_as_they_are():
    masked = np.ones((4, 2, 2, 2), bool)
    masked[0].reshape(-1)[:3] = False
    masked[1].reshape(-1)[:4] = False
    masked[2:] = False
    rows = veiled(generation_passes(np.zeros((4, 4, 32, 32, 1), np.uint8), masked))
    assert [*rows] == ["3 of 8 tokens", "4 of 8 tokens", "the rest predicted", "settled"]


def test_what_a_task_does_not_show_is_veiled_and_what_it_shows_a_part_of_is_not():
    clips = np.zeros((1, 8, 32, 32, 1), np.uint8)
    rows = veiled(commit_conditions({name: Completion(None, clips, clips) for name in ("FP", "OPC")}, TokenizerConfig()))
    assert rows == {
        "FP: given": [0] * 4 + [16] * 4,
        "FP: filled in": [0] * 8,
        "OPC: given": [12] * 8,
        "OPC: filled in": [0] * 8,
    }


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


def test_a_page_tells_progress_by_its_newest_line(tmp_path):
    reports = [
        Progress("train", state, done, 9, "steps", 1.0, None) for state, done in (("running", 1), ("running", 5), ("done", 9))
    ]
    reports += [Progress("verify", "running", 1, 3, "samples", 1.0, 2.0)]  # where its kernel died
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{report}\n") for report in reports]
    outputs.insert(2, nbformat.v4.new_output("stream", name="stdout", text="GO: 6 of 6\n"))
    cell = nbformat.v4.new_code_cell("train()", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "nb.ipynb")
    notebook_page(tmp_path / "nb.ipynb", tmp_path / "nb.html", [])
    page = (tmp_path / "nb.html").read_text()
    said = re.findall(r"<pre>(.*?)</pre>", page.split("output_stdout")[-1], re.DOTALL)
    assert [line.split(",")[0] for line in said[0].splitlines()] == ["GO: 6 of 6", "train: done", "verify: running"]
    assert page.count('class="output_subarea output_stream') == 1


def test_names_of_lines_keep_apart_and_move_as_little_as_they_can():
    assert _apart([0.0, 1.0, 5.0], 1.0) == [0.0, 1.0, 5.0]
    assert _apart([0.0, 0.1, 0.2, 5.0], 1.0) == pytest.approx([-0.9, 0.1, 1.1, 5.0])
