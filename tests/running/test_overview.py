"""Runs beside each other: the page of all of them, and that of two."""

import json
import re

import yaml
from trajvit.evaluation.measure import Metric, record
from trajvit.running import comparison
from trajvit.running.cli import main
from trajvit.running.manifest import Manifest, NotebookState
from trajvit.running.parameters import Parameters

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>=cmd|calc'


def made(folder, error_px: float, ci95=None, state="done", notebook="04_evaluate", **values):
    parameters = Parameters(**values)
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters.model_dump(mode="json")))
    manifest = Manifest(folder.name, "p.yaml", parameters.seed, [NotebookState(notebook, state, 3.0)], state, seconds=3.0)
    manifest.curve = [3.0, 2.0, 1.5]
    manifest.write(folder)
    record(folder, notebook, {"prediction": {"centre_error_px": Metric(value=error_px, unit="px", ci95=ci95)}})
    return folder


def test_the_index_tells_of_all_runs_also_of_those_in_sweeps_and_of_those_it_cannot_read(tmp_path, capsys):
    made(tmp_path / "good", 1.25, (1.2, 1.3))
    made(tmp_path / "sweep" / "seed=1", 2.5, state="failed", notebook="02_validate_magvit")
    old = made(tmp_path / "old", 3.0)
    (old / "manifest.json").write_text(json.dumps({"run_id": "old", "state": "done"}))
    (made(tmp_path / "damaged", 3.0) / "manifest.json").write_text('{"format": 2, "run_id": 3')
    assert main(["index", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert 'href="good/index.html">good' in page and "1.25" in page and "1.2 to 1.3" in page and ">DONE<" in page
    assert 'href="sweep/seed%3D1/index.html">sweep/seed=1' in page and ">FAILED<" in page and "<td>val</td>" in page
    assert "holds a run of format 1, and this trajvit reads 2" in page and "manifest.json is damaged" in page
    assert page.count("<polyline") == 2 and "from 3 to 1.5" in page
    assert main(["index", str(tmp_path / "nowhere")]) == 2 and "is no folder" in capsys.readouterr().err


def test_a_run_whose_process_is_gone_is_shown_as_interrupted(tmp_path):
    folder = made(tmp_path / "killed", 1.0, state="running")
    (folder / "_lock").mkdir()
    import socket

    (folder / "_lock" / "run").write_text(json.dumps({"host": socket.gethostname(), "pid": 2**30}))
    assert main(["index", str(tmp_path)]) == 0
    assert ">INTERRUPTED<" in (tmp_path / "index.html").read_text()


def test_two_runs_are_compared_and_only_clear_differences_are_called_so(tmp_path, capsys):
    a = made(tmp_path / "a", 3.0, (2.8, 3.2), learning_rate=0.001)
    b = made(tmp_path / "b", 2.0, (1.9, 2.1), learning_rate=0.01)
    c = made(tmp_path / "c", 2.9, (2.7, 3.1))
    page = tmp_path / "compare.html"
    assert main(["compare", str(a), str(b), "--out", str(page)]) == 0
    text, told = page.read_text(), capsys.readouterr().out
    assert "better" in told and str(page) in told and "better in 1 and worse in 0" in text and ">-1<" in text
    differs = text[text.index("What-differs") : text.index('id="Figures"')]
    assert "learning_rate" in differs and "0.001" in differs and "transformer_steps" not in differs
    assert main(["compare", str(b), str(a), "--out", str(page)]) == 0 and ">worse</span>" in page.read_text()
    assert main(["compare", str(a), str(c), "--out", str(page)]) == 0 and "no clear difference" in page.read_text()
    other = made(tmp_path / "other", 1.0, (0.9, 1.1), variety="varied")
    assert main(["compare", str(a), str(other), "--out", str(page)]) == 0 and "better in 0 and worse in 0" in page.read_text()
    assert "other clips" in capsys.readouterr().out
    same = made(tmp_path / "same", 1.0, (0.9, 1.1), format="8x32x32x1")  # compact, in other words
    assert main(["compare", str(a), str(same), "--out", str(page)]) == 0 and "better in 1 and worse in 0" in page.read_text()


def test_distances_in_the_features_of_two_judges_are_not_compared(tmp_path, capsys):
    runs = [made(tmp_path / name, 1.0) for name in ("a", "b")]
    for run, value in zip(runs, (9.0, 3.0), strict=True):
        distance = Metric(value=value, unit="at n = 1000", ci95=(value - 1, value + 1), limit=3.0)
        record(run, "04_evaluate", {"generation": {"frechet_distance": distance}})
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "compare.html")]) == 0
    assert "other features" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys):
    good = made(tmp_path / "good", 1.0)
    val = made(tmp_path / "val", 1.0, notebook="02_validate_magvit")
    old = made(tmp_path / "old", 1.0)
    (old / "manifest.json").write_text("{}")
    for other, says in ((val, "has figures of val clips"), (old, "holds a run of format 1"), (tmp_path / "no", "is no run")):
        assert main(["compare", str(good), str(other), "--out", str(tmp_path / "page.html")]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1 and not (tmp_path / "page.html").exists()
    assert main(["run", "notebooks/params/smoke.yaml", "--out", str(old)]) == 2
    assert "holds a run of format 1" in capsys.readouterr().err


def test_what_runs_say_of_themselves_is_never_part_of_a_page(tmp_path, monkeypatch):
    """A manifest may come from a bucket; whatever is written in it, it is text."""
    folder = made(tmp_path / "run", 1.0, (0.9, 1.1))
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("run_id", "parameters_file", "state", "started", "host", "machine"):
        manifest[name] = HOSTILE
    manifest["git"] = {"commit": HOSTILE, "dirty": False}
    manifest["versions"] = {HOSTILE: HOSTILE}
    manifest["notebooks"] = [{"name": HOSTILE, "state": HOSTILE, "seconds": 1.0, "error": HOSTILE}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "params.yaml").write_text(yaml.safe_dump(dict.fromkeys(("samples", "format", "variety", HOSTILE), HOSTILE)))
    metrics = {"04_evaluate": {HOSTILE: {HOSTILE: Metric(value=1, unit=HOSTILE, ci95=(0, 1)).model_dump(mode="json")}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    other = made(tmp_path / HOSTILE.replace("/", "∕"), 1.0)
    (other / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(comparison, "RUNS", tmp_path / "runs")
    assert main(["index", str(tmp_path)]) == 0 and main(["compare", str(folder), str(other)]) == 0
    (page,) = (tmp_path / "runs").iterdir()
    for text in (page.read_text(), (tmp_path / "index.html").read_text()):
        assert "&lt;script&gt;" in text and "<img" not in text
        assert re.findall(r"<script[^>]*>", text) == ["<script>"], "our own"


def test_figures_of_two_runs_stand_side_by_side_for_a_readme(tmp_path, capsys):
    a, b = made(tmp_path / "a", 3.0, (2.8, 3.2)), made(tmp_path / "b", 2.0, variety="varied")
    error = Metric(value=1.5, unit="px", ci95=(1.4, 1.6), baselines={"copy_last": 6.0, "simvp": 2.25}, limit=0.5)
    lawful = Metric(value=0.9687, unit="share", ci95=(0.957, 0.979), baselines={"blank": 0.0}, limit=1.0, more_is_better=True)
    tasks = {"FP": error, "FI": error}
    record(b, "04_evaluate", {"prediction": {"centre_error_px": error}, "generation": {"lawful": lawful}, "tasks": tasks})
    assert main(["figures", str(a), str(b)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| what | textbook: MAGVIT (95 % interval) | best baseline | limit | varied: MAGVIT (95 % interval) | best baseline | limit |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| predict (FP): ball centre | 3 px (2.8 to 3.2) |  |  | 1.5 px (1.4 to 1.6) | simvp 2.25 | 0.5 (3 x) |",
        "| generate: lawful |  |  |  | 96.9 % (95.7 to 97.9) | blank 0 % | 100.0 % |",
        "| fill in (FI): ball centre where hidden |  |  |  | 1.5 px (1.4 to 1.6) | simvp 2.25 | 0.5 (3 x) |",
        "",
        "| predicts the ball | textbook: px | varied: px |",
        "| --- | --- | --- |",
        "| copy last |  | 6 |",
        "| MAGVIT | 3 | 1.5 |",
        "| simvp |  | 2.25 |",
        "| oracle |  | 0.5 |",
    ]
    c = made(tmp_path / "c", 1.0)
    assert main(["figures", str(a), str(c)]) == 0
    assert capsys.readouterr().out.startswith(f"| what | {a}: MAGVIT (95 % interval) | best baseline | limit | {c}: MAGVIT")
    assert main(["figures", str(tmp_path / "nowhere")]) == 2 and "is no run" in capsys.readouterr().err
