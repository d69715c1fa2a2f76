import json

import pytest
import torch
import yaml
from PIL import Image
from trajvit.running.cli import main
from trajvit.running.manifest import NotebookState
from trajvit.running.parameters import Parameters, read_parameters
from trajvit.running.places import NOTEBOOKS
from trajvit.running.planning import make_plan
from trajvit.running.runner import run
from trajvit.settings import InputError

PARAMS = sorted((NOTEBOOKS / "params").glob("*.yaml"))


@pytest.mark.parametrize("path", PARAMS, ids=lambda path: path.stem)
def test_the_shipped_parameters_are_valid_and_say_what_they_give(path):
    read_parameters(path, [])
    head = path.read_text()
    assert head.startswith("#") and "What it gives" in head and "How long" in head


def test_changes_win_over_the_file_and_the_file_over_defaults(yaml_file):
    path = yaml_file(samples=100, seed=3)
    parameters = read_parameters(path, ["samples=200", "ladder=[50, 100]"])
    assert (parameters.samples, parameters.seed, parameters.ladder) == (200, 3, (50, 100))
    assert parameters.size == Parameters().size


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["sampels=3"], "'sampels' is not a parameter"),
        (["samples=many"], "samples = 'many'"),
        (["samples"], "has no '='"),
        (["samples=["], "not YAML"),
        (["format=7x32x32x1"], "frames = 7 does not divide"),
        (["format=8x8x8x1"], "ball_radius_m"),
        (["patch=[3, 4, 4]"], "frames = 8 does not divide"),
        (["patch=[0, 4, 4]"], "patch"),
        (["format=tiny"], "format 'tiny' is unknown"),
        (["ladder=[16, 8]"], "must rise"),
        (["ladder=[16, 6400]"], "climbs above samples"),
        (["data_dir=s3://bucket/data"], "it is in a bucket, and a run keeps its clips on the disk"),
        (["mirrored=true"], "mirrored = True was asked for the textbook world"),
        (["format=6x32x32x1"], "of which 3 are given to be continued"),
        (["format=4x32x32x1"], "take at least 6 frames"),
        (["transformer_batch=65"], "transformer_batch = 65 is larger than samples = 64"),
        (["transformer_batch=20"], "transformer_batch = 20 is larger than the lowest rung of ladder = [16, 32]"),
        (["processes=3"], "tokenizer_batch = 8 does not divide among 3 processes"),
        (["quantizer=lfq", "processes=2"], "quantizer = lfq was asked for in 2 processes"),
        (["learning_rate=-1"], "learning_rate"),
        (["size=huge"], "size"),
        (["seed=2147483647"], "seed"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line_before_any_work(yaml_file, tmp_path, capsys, changes, says):
    arguments = [argument for change in changes for argument in ("--set", change)]
    assert main(["run", str(yaml_file()), "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_what_a_killed_run_left_running_is_interrupted(yaml_file, tmp_path):
    plan = make_plan(str(yaml_file()), [], ["01"], str(tmp_path))
    manifest = plan.manifest()
    manifest.notebooks.append(NotebookState("02_validate_magvit", "running"))
    manifest.write(tmp_path)
    again = make_plan(str(yaml_file()), [], ["01"], str(tmp_path))
    told = again.manifest()
    assert {state.name: state.state for state in told.notebooks} == {
        "01_generate_data": "waiting",
        "02_validate_magvit": "interrupted",
    }
    assert (told.state, again.earlier.state) == ("running", "interrupted")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_device_that_is_not_there_is_refused_before_any_work(yaml_file, tmp_path, capsys, more):
    lacks = "mps" if not torch.backends.mps.is_available() else "cuda"
    out = tmp_path / "out"
    assert main(["run", str(yaml_file()), "--out", str(out), "--set", f"device={lacks}", *more]) == 2
    assert f"device = '{lacks}' is not there" in capsys.readouterr().err and not out.exists()


def test_a_missing_or_senseless_file_is_refused(tmp_path, capsys):
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert main(["run", str(tmp_path / "list.yaml")]) == 2
    for content, says in ((b"seed: \xff", "is not YAML"), (b"on: 3", "names a parameter True")):
        capsys.readouterr()
        (tmp_path / "odd.yaml").write_bytes(content)
        assert main(["run", str(tmp_path / "odd.yaml")]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert main(["run", str(PARAMS[0]), "--only", "07"]) == 2
    assert "there are 01_generate_data" in capsys.readouterr().err


def test_a_ladder_that_nobody_climbs_is_in_nobodys_way(yaml_file, tmp_path):
    assert main(["run", str(yaml_file(data_dir=str(tmp_path / "data"))), "--set", "samples=20", "--only", "02", "--dry-run"]) == 0


def test_data_of_another_config_stops_a_run_before_it_starts(yaml_file, tmp_path, capsys):
    assert main(["generate", "--out", str(tmp_path / "data" / "val"), "--samples", "5"]) == 0
    assert main(["run", str(yaml_file(data_dir=str(tmp_path / "data"))), "--out", str(tmp_path / "out")]) == 2
    assert "holds another dataset" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_command_line_makes_verifies_and_refuses(tmp_path, capsys):
    out = str(tmp_path / "data")
    assert main(["generate", "--out", out, "--samples", "20", "--noise-m", "0"]) == 0
    assert main(["verify", out]) == 0
    assert main(["generate", "--out", out, "--samples", "21"]) == 2
    (tmp_path / "data" / "label" / "c.0").write_bytes(b"no")
    assert main(["verify", out]) == 1
    assert main(["verify", out, "--repair"]) == 0
    assert main(["generate", "--out", out, "--samples", "some"]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert main(["fly"]) == 2
    assert all(line.startswith("trajvit: ") for line in capsys.readouterr().err.splitlines() if ": done, " not in line)


def test_training_from_the_command_line_ends_with_a_model(yaml_file, tmp_path):
    from trajvit.magvit.model import MAGVIT

    path = yaml_file(tokenizer_steps=2, transformer_steps=2)
    assert main(["train", str(path), "--out", str(tmp_path / "model")]) == 0
    assert MAGVIT.from_pretrained(tmp_path / "model").config.classes == ("linear", "circular", "helical", "parabolic")
    assert main(["train", str(path), "--out", str(tmp_path / "model"), "--set", "size=small"]) == 2


def test_a_moving_picture_of_what_a_model_makes(little_magvit, tmp_path, capsys):
    little_magvit.save_pretrained(tmp_path / "model")
    assert main(["gif", str(tmp_path / "model"), "--to", str(tmp_path / "it.gif")]) == 0
    with Image.open(tmp_path / "it.gif") as picture:
        assert picture.n_frames == 8 and picture.size[0] > 8 * 96
    assert main(["gif", str(tmp_path / "none"), "--to", str(tmp_path / "it.gif")]) == 2
    assert "there is no model at" in capsys.readouterr().err


def test_a_run_leaves_a_folder_that_explains_itself(smoke_run):
    names = [path.stem for path in sorted(NOTEBOOKS.glob("0[1-9]*.ipynb"))]
    assert len(names) == 4
    for name in names:
        assert (smoke_run / f"{name}.ipynb").exists() and (smoke_run / f"{name}.html").exists()
    index = (smoke_run / "index.html").read_text()
    assert "DONE" in index and all(f'href="{name}.html"' in index for name in names)
    manifest = json.loads((smoke_run / "manifest.json").read_text())
    assert manifest["state"] == "done" and [notebook["state"] for notebook in manifest["notebooks"]] == ["done"] * 4
    assert manifest["versions"]["torch"].startswith("2.13.0") and manifest["seed"] == 0 and manifest["host"]
    assert yaml.safe_load((smoke_run / "params.yaml").read_text())["samples"] == 64


def test_a_run_records_every_metric_under_its_stable_name(smoke_run):
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    assert sorted(metrics) == ["01_generate_data", "02_validate_magvit", "03_scale_up", "04_evaluate"]
    for group, names in {
        "reconstruction": ["centre_error_px", "psnr_db", "foreground_psnr_db", "code_usage"],
        "classification": ["accuracy"],
        "prediction": ["centre_error_px", "foreground_psnr_db"],
        "generation": ["class_agreement"],
    }.items():
        for name in names:
            metric = metrics["04_evaluate"][group][name]
            assert set(metric) == {"value", "unit", "ci95", "baselines", "differences", "limit", "more_is_better"}
            assert metric["baselines"]
    assert {"copy_last", "constant_velocity"} <= set(metrics["04_evaluate"]["prediction"]["centre_error_px"]["baselines"])
    assert metrics["02_validate_magvit"]["gate"]["enforced"] is False


def test_the_executed_notebooks_carry_no_widget_into_the_pages(smoke_run):
    for page in smoke_run.glob("*.html"):
        text = page.read_text()
        assert "jupyter.widget" not in text and 'src="http' not in text and "Traceback (most" not in text


def test_evaluate_takes_any_checkpoint(smoke_run, tmp_path):
    small = ["--set", "eval_samples=16", "--set", "judge_steps=2", "--set", "rival_steps=2", "--set", "generated=8"]
    small += ["--set", "pixel_steps=2", "--set", "futures=4"]
    out = tmp_path / "evaluation"
    assert main(["evaluate", str(smoke_run / "magvit"), "--data", str(tmp_path / "data"), *small, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())["04_evaluate"]
    assert metrics.pop("pixel_steps") == {"simvp": 2, "convlstm": 2}
    assert set(metrics) == {"reconstruction", "classification", "prediction", "futures", "generation", "tasks"}
    assert set(metrics["tasks"]) == {"FP", "FI", "OPC", "OPV", "OPH", "OPD", "IPC", "IPD", "CFP"}
    assert metrics["prediction"]["centre_error_px"]["limit"] < 2 < metrics["prediction"]["centre_error_px"]["value"]
    assert yaml.safe_load((out / "params.yaml").read_text())["samples"] == 64
    assert (out / "04_evaluate.html").exists() and not (out / "magvit").exists()


@pytest.mark.parametrize(("checkpoint", "why"), [("nowhere", "there is no model"), ("{run}/magvit", "takes clips of 8x32x32x1")])
def test_evaluate_refuses_what_it_cannot_evaluate(smoke_run, tmp_path, capfd, checkpoint, why):
    more = ["--set", "format=8x64x64x1", "--set", f"data_dir={tmp_path}/data", "--out", str(tmp_path / "out")]
    assert main(["evaluate", checkpoint.format(run=smoke_run), *more]) == 2
    assert why in "".join(capfd.readouterr()) or why in (tmp_path / "out" / "index.html").read_text()


def test_a_notebook_takes_also_what_its_cell_does_not_declare_from_its_run(tmp_path):
    (tmp_path / "params.yaml").write_text("quantizer: vq\nseed: 3\nsamples: 99\n")
    told = Parameters.of_cell({"run_dir": str(tmp_path), "samples": 64, "unrelated": 1})
    assert (told.quantizer, told.seed, told.samples) == ("vq", 3, 64)
    assert Parameters.of_cell({"samples": 32}).quantizer == "fsq"


def test_learning_rate_zero_is_a_no_go_that_says_why(yaml_file, tmp_path):
    said = []
    path = yaml_file(learning_rate=0, enforce_gate=True)
    assert run(str(path), [], ["01", "02", "03"], str(tmp_path / "broken"), said.append) == 3
    manifest = json.loads((tmp_path / "broken" / "manifest.json").read_text())
    assert [notebook["state"] for notebook in manifest["notebooks"]] == ["done", "no-go", "waiting"]
    index = (tmp_path / "broken" / "index.html").read_text()
    assert "NO-GO" in index and "reconstruction.centre_error_px" in index
    assert "NO-GO" in (tmp_path / "broken" / "02_validate_magvit.html").read_text()
    assert not (tmp_path / "broken" / "03_scale_up.html").exists()
    with pytest.raises(InputError, match="holds another run"):
        run(str(yaml_file(learning_rate=0.1)), [], [], str(tmp_path / "broken"), said.append)
    past = yaml_file(learning_rate=0, enforce_gate=False)  # what was trained for the gate is not trained again to get past it
    assert make_plan(str(past), [], [], str(tmp_path / "broken")).stations[0].state.state == "done"
    assert make_plan(str(past), [], [], None).run_id == make_plan(str(path), ["processes=2", "device=cpu"], [], None).run_id
