"""What notebook 04 evaluates, and on which clips its rivals learn."""

import json

import pytest
from trajvit.evaluation.evaluation import evaluate
from trajvit.magvit.published import located
from trajvit.running import places
from trajvit.running.cli import main
from trajvit.running.parameters import Parameters, read_parameters
from trajvit.running.stations import (
    chosen_checkpoint,
    described,
    evaluated,
    evaluation_data,
    independent_judge,
    make_data,
    stand_beside,
)
from trajvit.training.recipe import Recipe


@pytest.fixture
def checkpoint(little_magvit, tmp_path, monkeypatch):
    """A model that says it was trained on twelve clips of seed 3; nothing is kept in the repository."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    little_magvit.save_pretrained(tmp_path / "model")
    data = {"kind": "filmed", "world": {"variety": "textbook"}, "split": "train", "seed": 3, "samples": 12}
    (tmp_path / "model" / "training.json").write_text(json.dumps({"data": data}))
    return str(tmp_path / "model")


def test_published_is_what_comes_with_the_repository_for_such_clips():
    chosen = {kind: chosen_checkpoint(Parameters(checkpoint="published", variety=kind)) for kind in ("textbook", "varied")}
    assert chosen == {"textbook": "compact-30k", "varied": "compact-30k-varied"}
    assert chosen_checkpoint(Parameters(checkpoint="published", format="8x32x64x1")) == "", "none of these: the run's own"
    assert chosen_checkpoint(Parameters()) == ""


def test_a_checkpoint_of_other_clips_is_refused_before_any_work(yaml_file, tmp_path, capsys):
    asked = ["run", str(yaml_file(format="classic", data_dir=str(tmp_path / "d"))), "--set", "checkpoint=compact-30k"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "compact-30k takes clips of 8x32x32x1, and the data's are 16x64x64x3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "d").exists()


def test_rivals_learn_from_the_clips_that_the_checkpoint_learnt_from(checkpoint):
    name, model, _, clips = evaluated(Parameters(checkpoint=checkpoint, samples=20, data_dir="own"))
    assert name == checkpoint and len(clips) == 12 and clips.config.seed == 3
    assert model.config.tokenizer.base_channels == 16
    *_, other = evaluated(Parameters(checkpoint=checkpoint, variety="varied", samples=20, data_dir="own"))
    assert len(other) == 20, "of another world they would be no rivals"


def test_an_evaluation_tells_how_the_checkpoint_was_trained():
    told = read_parameters(places.NOTEBOOKS / "params" / "evaluate.yaml", described("classic-5k"))
    assert (told.checkpoint, told.format, told.samples, told.seed) == ("classic-5k", "16x64x64x3", 5000, 0)
    made = json.loads((located("classic-5k") / "training.json").read_text())["recipe"]
    assert told.recipe() == Recipe(**made) and told.transformer_steps == 6000 and told.patch == (2, 8, 8)


def test_evaluations_of_other_clips_are_kept_elsewhere():
    file, own = places.NOTEBOOKS / "params" / "evaluate.yaml", described("classic-5k")
    changes = [[], ["seed=1"], ["eval_samples=100"], ["variety=varied"], ["samples=300"], ["format=16x48x48x3"]]
    assert len({evaluation_data(read_parameters(file, own + change)) for change in changes}) == len(changes)
    assert len({evaluation_data(read_parameters(file, own + change)) for change in ([], ["generated=9"])}) == 1


def test_rivals_on_a_checkpoints_clips_stand_beside_the_judge_of_the_run(checkpoint):
    steps = {"judge_steps": 1, "rival_steps": 1, "pixel_steps": 0, "autoregressive_steps": 0}
    p = Parameters(checkpoint=checkpoint, samples=20, eval_samples=8, data_dir="own", run_dir="run", **steps)
    independent_judge(p, make_data(p, "train"))  # as notebook 02 does
    _, model, recipe, clips = evaluated(p)
    assert stand_beside(p, model, recipe, clips, make_data(p, "test")).predictors["perceptron"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"split": "test"}, "split = 'test'"), ({"world": {"variety": "textbook", "roll_degrees": 0.0}}, "roll_degrees = 0.0")],
)
def test_a_checkpoint_of_clips_that_no_run_films_is_refused(checkpoint, tmp_path, capsys, changed, told):
    """It would be scored on what it learnt from, or beside rivals and limits of another world."""
    path = tmp_path / "model" / "training.json"
    path.write_text(json.dumps({"data": json.loads(path.read_text())["data"] | changed}))
    assert main(["evaluate", checkpoint, "--out", str(tmp_path / "out")]) == 2
    assert f"learnt from clips of {told};" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_damaged_manifest_of_a_checkpoint_is_told_in_one_line(checkpoint, tmp_path, capsys):
    for content in ("{", "[]", '{"data": null}', '{"recipe": []}', '{"data": {"kind": "filmed"}}'):
        (tmp_path / "model" / "training.json").write_text(content)
        assert main(["evaluate", checkpoint, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "training.json" in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_evaluation_in_several_processes_finds_what_one_finds(checkpoint, tmp_path, monkeypatch):
    p = Parameters(
        checkpoint=checkpoint,
        samples=20,
        eval_samples=8,
        data_dir="own",
        run_dir="run",
        judge_steps=2,
        rival_steps=2,
        pixel_steps=2,
        autoregressive_steps=2,
    )
    _, model, recipe, train = evaluated(p)
    test, metrics = make_data(p, "test"), []
    for run, worth in (("here", 1000), ("at once", 1)):
        monkeypatch.setattr("trajvit.datasets.labour.WORTH_PROCESSES", worth)
        beside = stand_beside(p.model_copy(update={"run_dir": str(tmp_path / run)}), model, recipe, train, test)
        metrics.append(evaluate(model, test.read(), beside, generated=4, futures=2).metrics)
    one, other = (
        {f"{group}.{name}": metric for group, found in every.items() for name, metric in found.items()} for every in metrics
    )
    assert list(one) == list(other) and {"prediction.centre_error_px", "tasks.FI", "generation.lawful"} < set(one)
    for name, metric in one.items():
        assert metric.value == pytest.approx(other[name].value, rel=1e-4, nan_ok=True), name
        assert metric.baselines == pytest.approx(other[name].baselines, rel=1e-4), name
        assert (metric.limit or 0) == pytest.approx(other[name].limit or 0, rel=1e-4), name
