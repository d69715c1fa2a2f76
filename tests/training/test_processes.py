"""One training in two processes, which torchrun starts and gloo connects."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trajvit
from one_of_many import in_float32
from trajvit.running.launching import _explain
from trajvit.running.parameters import read_parameters
from trajvit.running.stations import make_data, train_magvit
from trajvit.settings import InputError
from trajvit.training import loop, processes
from trajvit.training.recipe import Recipe, train

SMOKE = Path(__file__).parents[2] / "notebooks" / "params" / "smoke.yaml"
LAUNCHED = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
SCRIPT = Path(__file__).with_name("one_of_many.py")


def launched(*arguments: object) -> tuple[int, str]:
    ended = subprocess.run(
        [*LAUNCHED, SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return ended.returncode, ended.stdout


def newest(root: Path, stage: str) -> dict:
    file = sorted((root / stage / "checkpoints").iterdir())[-1]
    return torch.load(io.BytesIO(file.read_bytes().partition(b"\n")[2]), weights_only=True)


def curves(root: Path, stage: str) -> dict[str, list[float]]:
    return newest(root, stage)["history"]


def remembered(root: Path) -> list[float]:
    """What LeCam's restraint remembers of the discriminator's logits."""
    told = newest(root, "tokenizer")["players"][1]["objective"]
    return [float(told[f"model.restraint.{kind}"]) for kind in ("real", "fake")]


def assert_alike(some: dict[str, list[float]], others: dict[str, list[float]], tolerance: float) -> None:
    assert some.keys() == others.keys()
    for name, values in others.items():
        assert some[name] == pytest.approx(values, rel=tolerance, abs=1e-6), name


def small(root: Path) -> list[str]:
    return [
        f"data_dir={root / 'data'}", "samples=16", "ladder=[4]", "tokenizer_steps=5", "transformer_steps=5",
        "tokenizer_batch=4", "transformer_batch=4",
    ]  # fmt: skip


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
def test_two_processes_interrupted_and_continued_learn_as_one_does(shard, tmp_path, monkeypatch):
    changes = small(tmp_path) + ([] if shard else ["gan_weight=0.1", "gan_restraint=lecam"])
    two, one = tmp_path / "two", tmp_path / "one"
    command = ("train", SMOKE, "--out", two, *(part for change in (*changes, f"shard={shard}") for part in ("--set", change)))
    code, out = launched(*command)
    assert code == 0 and out.count("trajvit: interrupted; the same command continues") == out.count(": trained") == 1, out
    assert out.count(f"holds {0.5 if shard else 1.0} of the weights") == 2
    kept = sorted(path.name for path in (two / "tokenizer" / "checkpoints").iterdir())
    assert kept == ["step_00000003.ckpt", "step_00000005.ckpt"]  # the first of them when one process was told to end
    assert len({(tmp_path / f"two-weights-{number}").read_text() for number in (0, 1)}) == 1
    assert len(list((two / "transformer" / "tensorboard").iterdir())) == 1  # the first process alone writes

    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "precision_on", loop.precision_on)
    in_float32()
    settings = read_parameters(SMOKE, changes)
    train_magvit(settings, make_data(settings, "train"), one)
    assert_alike(curves(two, "tokenizer"), curves(one, "tokenizer"), 1e-3)
    assert shard or remembered(two) == pytest.approx(remembered(one), rel=1e-3)
    # A code that rounding has put to its other side weighs more than all other differences: on the same tokens.
    for stage in ("tokenizer", "transformer"):
        shutil.rmtree(one / stage)
    shutil.copytree(two / "tokenizer", one / "tokenizer")
    train_magvit(settings, make_data(settings, "train"), one)
    assert_alike(curves(two, "transformer"), curves(one, "transformer"), 1e-2)


def test_a_batch_that_does_not_divide_is_refused_before_any_work(tmp_path, monkeypatch):
    data = trajvit.generate(out=tmp_path / "data", samples=4)
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(InputError, match="transformer_batch = 64 does not divide among 3 processes: use a multiple of 3"):
        train(Recipe(tokenizer_batch=12), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_shares_of_all_processes_are_the_batch(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    shares = []
    for number in (0, 1):
        monkeypatch.setattr(processes, "number", lambda number=number: number)
        shares.append(processes.mine(torch.arange(6)))
    assert torch.cat(shares).tolist() == list(range(6)) and len(shares[0]) == 3


def test_a_notebook_starts_two_processes_and_follows_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    steps = 120  # more than are taken before the processes hear that they are to stop
    settings = read_parameters(SMOKE, [*small(tmp_path), f"tokenizer_steps={steps}", "processes=2"])
    data, out, told = make_data(settings, "train"), tmp_path / "magvit", []

    def stopping(progress):
        told.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_magvit(settings, data, out, on_progress=stopping)
    assert told[0].work == "train tokenizer"
    told.clear()
    trained = train_magvit(settings, data, out, on_progress=told.append)  # goes on
    assert [(one.work, one.done) for one in told if one.state == "done"] == [("train tokenizer", steps), ("train transformer", 5)]
    assert trained.history["transformer"]["step"] == [5.0]


def test_what_started_processes_refuse_is_said_here(tmp_path):
    settings = read_parameters(SMOKE, [*small(tmp_path), "processes=2"]).model_copy(
        update={"tokenizer_batch": 3}
    )  # past its own check
    with pytest.raises(InputError, match="tokenizer_batch = 3 does not divide among 2 processes: use a multiple of 2"):
        train_magvit(settings, make_data(settings, "train"), tmp_path / "magvit")


def test_of_processes_that_fail_the_first_one_is_heard():
    end = "; what is finished is kept, the same command continues\n"
    with pytest.raises(RuntimeError, match=r"^no space left"):
        _explain(f"trajvit: no space left{end}trajvit: process 1 of 2 lost the others (x){end}")
    with pytest.raises(RuntimeError, match=r"^the gradient is not finite"):
        _explain("trajvit: the gradient is not finite; what is finished is kept\n")
    with pytest.raises(InputError, match=r"^seed = x"):
        _explain("trajvit: seed = x: not a number\n")


def test_started_processes_start_no_others(tmp_path, monkeypatch):
    settings = read_parameters(SMOKE, [*small(tmp_path), "processes=2"])
    data = make_data(settings, "train")
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(InputError, match="processes = 2 was asked of one of 2 that are started: set processes=1"):
        train_magvit(settings, data, tmp_path / "magvit")
