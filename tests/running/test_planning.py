"""A run is planned before it is made, continues where it stopped, and says why where it fails."""

import pytest
import yaml
from small_runs import manifest_of, states_of
from trajvit.running.cli import main
from trajvit.running.estimates import estimate
from trajvit.running.parameters import Parameters
from trajvit.running.places import ROOT
from trajvit.running.planning import make_plan
from trajvit.running.runner import run

COUNT = "from pathlib import Path\nwith open(Path(data_dir) / 'count', 'a') as file: file.write('x')\n"


def silent(_: str) -> None:
    pass


@pytest.fixture
def counted(yaml_file, tmp_path):
    """Parameters whose data_dir is where notebooks count how often they ran."""
    (tmp_path / "d").mkdir()
    return yaml_file(data_dir=str(tmp_path / "d"))


def count(tmp_path) -> int:
    return len((tmp_path / "d" / "count").read_text()) if (tmp_path / "d" / "count").exists() else 0


def test_a_run_is_told_then_prepared_then_made_then_told_to_be_done(notebooks, counted, tmp_path, capsys):
    notebooks(**{"01_a": COUNT})
    out = tmp_path / "runs" / "out"
    arguments = ["run", str(counted), "--set", "seed=7", "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "seed=7" in said and "computed from rates" in said and "takes seed, data_dir, run_dir" in said
    assert said.count("an estimate") == 2 and "cost" in said
    assert not out.exists() and count(tmp_path) == 0

    assert main([*arguments, "--prepare-only"]) == 0
    assert "seed = 7" in (out / "01_a.ipynb").read_text() and count(tmp_path) == 0
    assert states_of(out) == ["prepared"] and yaml.safe_load((out / "params.yaml").read_text())["seed"] == 7

    assert main(arguments) == 0 and main(arguments) == 0
    assert states_of(out) == ["done"] and count(tmp_path) == 1, "what is done is not done again"
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0 and "01_a: done already" in capsys.readouterr().out
    notebooks(**{"01_a": COUNT + "'changed'"})
    assert main([*arguments, "--dry-run"]) == 0 and "01_a: about" in capsys.readouterr().out, "another source is not done"

    told = estimate("01_a", Parameters(seed=5), tmp_path / "runs")
    assert told.seconds == manifest_of(out)["notebooks"][0]["seconds"] and "measured here in 1 run" in str(told)
    assert "computed" in str(estimate("01_a", Parameters(samples=65), tmp_path / "runs"))


def test_paths_in_the_repository_are_told_from_it_on(tmp_path):
    """So that a manifest and a page say nothing about the machine that they were made on."""
    file = ROOT / "notebooks" / "params" / "validate.yaml"
    plan = make_plan(str(file), [], ["02"], None)
    assert plan.parameters_file == "notebooks/params/validate.yaml"
    assert plan.parameters.run_dir.startswith("reports/runs/validate-") and plan.run_dir == ROOT / plan.parameters.run_dir
    assert make_plan(str(file), [], ["02"], str(tmp_path / "out")).parameters.run_dir == str(tmp_path / "out")


def test_computed_estimates_grow_with_the_work(tmp_path):
    def seconds(**values) -> float:
        return estimate("02_validate_magvit", Parameters(**values), tmp_path).seconds

    assert seconds() < seconds(transformer_steps=1000) < seconds(transformer_steps=1000, size="small")
    classic = seconds(tokenizer_steps=1000, format="classic")
    assert 3 < classic / seconds(tokenizer_steps=1000, format="classic", patch=[2, 8, 8]) < 4.5, "a patch is one position"
    of_ladder = Parameters(samples=32, ladder=[16, 32], transformer_steps=5000)  # the top rung is notebook 02's training
    assert estimate("03_scale_up", of_ladder, tmp_path).seconds > 0.9 * seconds(transformer_steps=5000)
    assert estimate("03_scale_up", of_ladder, tmp_path, ["02_validate_magvit"]).seconds < 0.5 * seconds(transformer_steps=5000)
    assert 200 < seconds(tokenizer_steps=2800, tokenizer_batch=16, transformer_steps=5600, transformer_batch=32) < 1000


def test_a_killed_kernel_fails_its_run_and_a_rerun_continues_at_the_first_notebook_that_is_not_done(notebooks, counted, tmp_path):
    notebooks(**{"01_a": COUNT, "02_b": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"})
    out = tmp_path / "out"
    assert run(str(counted), [], [], str(out), silent) == 1
    assert states_of(out) == ["done", "failed"] and manifest_of(out)["state"] == "failed" and count(tmp_path) == 1
    why = "the notebook&#x27;s kernel died (killed, or out of memory)"
    assert why in (out / "02_b.html").read_text() and why in (out / "index.html").read_text()
    notebooks(**{"02_b": COUNT})
    assert run(str(counted), [], ["01"], str(out), silent) == 0 and manifest_of(out)["state"] == "failed", "02 still is"
    assert run(str(counted), [], [], str(out), silent) == 0
    assert states_of(out) == ["done", "done"] and count(tmp_path) == 2
    assert why not in (out / "02_b.html").read_text() + (out / "index.html").read_text()


def test_a_failing_notebook_ends_the_run_and_is_rendered_with_the_reason_on_top(notebooks, counted, tmp_path):
    notebooks(**{"01_fails": "raise ValueError('no <b>')", "02_never": "1"})
    why = "cell 3: ValueError: no &lt;b&gt;"
    assert run(str(counted), [], [], str(tmp_path / "out"), silent) == 1
    assert states_of(tmp_path / "out") == ["failed", "waiting"]
    for page in ("index.html", "01_fails.html"):
        text = (tmp_path / "out" / page).read_text()
        assert why in text
        body = text[text.index("<body") :]
        assert body.index(why) < body.index('class="facts"'), "the reason is on top"
