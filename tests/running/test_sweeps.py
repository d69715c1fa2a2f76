"""A run for each value, one page of them all; what fails loses nothing of the others."""

import sys

import pytest
from small_runs import manifest_of
from trajvit.running import sweeps
from trajvit.running.cli import main
from trajvit.running.sweeps import make_sweep
from trajvit.settings import InputError

CELL = """from pathlib import Path
from trajvit.evaluation.measure import Metric, record
with open(Path(run_dir) / "count", "a") as file: file.write("x")
if seed == 1 and not (Path(run_dir).parent / "mended").exists(): raise ValueError("<b>seed one</b>")
record(Path(run_dir), "04_evaluate", {"prediction": {"centre_error_px": Metric(value=3.5 - seed, unit="px")}})
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Members run the tests' notebooks too, though in processes of their own."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom trajvit.running import planning, cli\n"
        f"planning.NOTEBOOKS = Path({str(tmp_path / 'notebooks')!r})\nsys.exit(cli.main(sys.argv[1:]))"
    )
    monkeypatch.setattr(sweeps, "COMMAND", (sys.executable, "-c", code))


def test_a_member_that_fails_loses_nothing_of_the_others_and_is_made_again_alone(
    notebooks, commands, yaml_file, tmp_path, capsys
):
    notebooks(**{"04_a": CELL})
    out = tmp_path / "sweep"
    arguments = ["run", str(yaml_file(data_dir=str(tmp_path / "d"))), "--sweep", "seed=0,1", "--jobs", "2", "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0 and not out.exists()
    assert "2 runs over seed" in capsys.readouterr().out

    assert main(arguments) == 1
    first, second = sorted(out.glob("seed=*"))
    assert (manifest_of(first)["state"], manifest_of(second)["state"]) == ("done", "failed")
    page = (out / "index.html").read_text()
    assert "1 of 2 runs are done" in page and 'class="verdict bad">FAILED' in page and "3.5" in page
    assert "ValueError: &lt;b&gt;seed one" in (second / "index.html").read_text()

    (out / "mended").touch()
    assert main(arguments) == 0
    assert manifest_of(second)["state"] == "done"
    assert ((first / "count").read_text(), (second / "count").read_text()) == ("x", "xx")
    assert "2 of 2 runs are done" in (out / "index.html").read_text()


def test_repeated_axes_make_a_grid_of_runs_whose_clips_do_not_meet(notebooks, yaml_file, tmp_path):
    notebooks(**{"01_a": "1"})
    path, out = str(yaml_file()), str(tmp_path / "out")
    swept = make_sweep(path, ["samples=100"], ["learning_rate=1e-3,0.01", "seed=0,1,2"], [], out)
    got = [(m.plan.parameters.learning_rate, m.plan.parameters.seed, m.plan.parameters.samples) for m in swept.members]
    assert got == [(rate, seed, 100) for rate in (1e-3, 0.01) for seed in (0, 1, 2)]
    assert len({member.plan.run_dir for member in swept.members}) == 6
    assert len({member.plan.parameters.data_dir for member in swept.members}) == 3, "one for each seed"
    (one,) = {m.plan.parameters.data_dir for m in make_sweep(path, [], ["size=nano,small"], [], out).members}
    assert one == "data/smoke"
    wider = make_sweep(path, ["samples=100"], ["learning_rate=1e-3,0.01,0.1", "seed=0,1,2"], [], out)
    assert {m.name for m in swept.members} < {m.name for m in wider.members}, "what a sweep has, a wider one keeps"
    odd = make_sweep(path, [], ["seed=0,1"], [], str(tmp_path / "run #3: b"))
    assert all(m.plan.parameters.data_dir.startswith(str(tmp_path / "run #3: b" / "data")) for m in odd.members)
    ladders = make_sweep(path, [], ["ladder=[16],[16,32]"], [], out)
    assert [m.plan.parameters.ladder for m in ladders.members] == [(16,), (16, 32)]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (["seed"], "is not name=a,b,c"),
        (["seed="], "is not name=a,b,c"),
        (["seed=[1"], "is not name=a,b,c"),
        (["=1,2"], "is not name=a,b,c"),
        (["seed=1,1"], "names a value twice"),
        (["seed=1", "seed=2"], "names a parameter twice"),
        (["sede=1,2"], "'sede' is not a parameter"),
        (["seed=1,many"], "seed = 'many'"),
        (["seed=" + ",".join(map(str, range(101)))], "asks for 101 runs"),
        (["../../x=1,2"], "is not a parameter"),
    ],
)
def test_wrong_sweeps_are_refused_in_one_line_before_any_run(notebooks, yaml_file, tmp_path, capsys, axes, says):
    notebooks(**{"01_a": "1"})
    words = [word for axis in axes for word in ("--sweep", axis)]
    assert main(["run", str(yaml_file()), *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("codes", "code"), [([0, 0], 0), ([0, 3], 3), ([75, 0], 75), ([0, 2], 1), ([3, 75], 1), ([1, 3, 0], 1)])
def test_one_exit_code_stands_for_all(codes, code):
    assert sweeps._summed(codes) == code


def test_a_sweep_does_not_prepare(yaml_file):
    with pytest.raises(InputError, match="is not name"):
        make_sweep(str(yaml_file()), [], ["seed"], [], None)
    assert main(["run", str(yaml_file()), "--sweep", "seed=1,2", "--prepare-only"]) == 2
