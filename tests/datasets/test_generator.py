"""Everything that can be asked of the generator is either made right or refused in one line before anything is there."""

import numpy as np
import pytest
import trajvit
from harness import quick_folder
from hypothesis import given, settings
from hypothesis import strategies as some
from trajvit.datasets.folders import Disk
from trajvit.datasets.verification import verify
from trajvit.running.cli import main
from trajvit.settings import InputError
from trajvit.worlds.film import film

worlds = some.fixed_dictionaries(
    {
        "format": some.builds("{}x{}x{}x{}".format, some.integers(2, 9), *[some.integers(16, 48)] * 2, some.sampled_from((1, 3))),
        "variety": some.sampled_from(("textbook", "varied")),
        "size": some.sampled_from(("perspective", "constant")),
        "ball_radius_m": some.floats(0.15, 0.4),
        "noise_m": some.one_of(some.just(0.0), some.floats(0, 0.02)),
        "roll_degrees": some.floats(0, 180),
    }
)
datasets = some.fixed_dictionaries(
    {
        "samples": some.integers(1, 40),
        "shard_size": some.one_of(some.none(), some.integers(1, 48)),
        "split": some.sampled_from(("train", "val", "test")),
        "seed": some.integers(0, 2**32 - 1),
    }
)


@settings(max_examples=60, deadline=None)
@given(worlds, datasets)
def test_whatever_is_asked_is_made_as_it_is_filmed_or_refused_without_a_trace(world, dataset):
    with quick_folder() as root:
        try:
            made = trajvit.generate(out=root / "data", **dataset, **world)
        except InputError as error:
            assert "\n" not in str(error) and not list(root.iterdir())
            return
        filmed = film(made.config.world, dataset["seed"], dataset["split"], 0, dataset["samples"])
        read = made.read()
        for name in vars(filmed):
            assert np.array_equal(getattr(read, name), getattr(filmed, name)), name
        found = verify(root / "data")
        assert found.sound and sum(found.counts) == len(made) == dataset["samples"], found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--samples -5", "samples = -5"),
        ("--samples 0", "samples = 0"),
        ("--samples 1000000000000", "samples = 1000000000000"),
        ("--samples 10000000000 --shard-size 1", "raise shard_size"),
        ("--samples many", "many"),
        ("--samples 1e6", "1e6"),
        ("--workers 0", "workers = 0"),
        ("--workers -1", "workers = -1"),
        ("--workers 100000", "workers = 100000"),
        ("--rank 3 --machines 2", "part 3 of 2 does not exist"),
        ("--rank -1 --machines 2", "part -1 of 2 does not exist"),
        ("--machines 0", "part 0 of 0 does not exist"),
        ("--seed 1099511627776", "seed = 1099511627776"),
        ("--seed -1", "seed = -1"),
        ("--shard-size 0", "shard_size = 0"),
        ("--samples 200000 --shard-size 200000 --format 16x128x128x3", "lower shard_size"),
        ("--format cinema", "format 'cinema' is unknown; there are compact, classic"),
        ("--format 8x32x32x2", "channels = 2"),
        ("--format 8x99999x32x1", "height = 99999"),
        ("--format 1x32x32x1", "frames = 1"),
        ("--variety wild", "wild"),
        ("--split dev", "dev"),
        ("--backend slurm", "backend = 'slurm'"),
        ("--backend dask", "a scheduler's address"),
        ("--scheduler tcp://127.0.0.1:8786", "a scheduler's address"),
        ("--noise-m nan", "noise_m = nan"),
        ("--noise-m inf", "noise_m = inf"),
        ("--ball-radius-m 1.9", "change ball_radius_m"),
        ("--ball-radius-m 0", "ball_radius_m = 0.0"),
        ("--roll-degrees 500", "roll_degrees = 500.0"),
        ("--size huge", "huge"),
        ("--wobble 1", "wobble"),
        ("surplus", "surplus"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line_before_anything_is_there(tmp_path, capsys, options, said):
    assert main(["generate", "--out", str(tmp_path / "data"), *options.split()]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("trajvit: ") and err.count("\n") == 1 and said in err, err
    assert not list(tmp_path.iterdir())


def test_a_dataset_without_a_place_is_refused_in_one_line(capsys):
    assert main(["generate"]) == 2 and "--out" in capsys.readouterr().err


def test_what_finder_leaves_in_a_folder_is_no_other_thing(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    assert len(trajvit.generate(out=tmp_path, samples=4)) == 4


@pytest.mark.parametrize("stranger", ["thesis.tex", "frames.bak/old", "PROGRESSION", "labels.csv", ".git/config"])
def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path, capsys, stranger):
    path = tmp_path / "data" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    assert main(["generate", "--out", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'data'} holds other things ({stranger.partition('/')[0]})" in err and err.count("\n") == 1
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path] and path.read_text() == "years of work"


def test_another_programs_zarr_group_is_refused_and_left_alone(tmp_path, capsys):
    import zarr

    zarr.create_group(tmp_path / "data", attributes={"mine": True})
    before = (tmp_path / "data" / "zarr.json").read_bytes()
    for command in (["generate", "--out", str(tmp_path / "data")], ["verify", str(tmp_path / "data"), "--repair"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert f"{tmp_path / 'data'}/zarr.json" in err and err.count("\n") == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["zarr.json"]
    assert (tmp_path / "data" / "zarr.json").read_bytes() == before


def test_two_copies_of_the_config_that_disagree_are_not_repaired_by_guessing(tmp_path):
    root = trajvit.generate(out=tmp_path / "data", samples=20).root
    other = trajvit.generate(out=tmp_path / "other", samples=20, seed=1).root
    (root / "zarr.json").write_bytes((other / "zarr.json").read_bytes())
    with pytest.raises(InputError, match="are of different datasets: remove the wrong one"):
        verify(root, repair=True)
    (root / "zarr.json").unlink()
    assert verify(root, repair=True).sound and trajvit.open_dataset(root).config.seed == 0


def test_a_lost_config_is_not_replaced_by_another(tmp_path):
    root = trajvit.generate(out=tmp_path / "data", samples=20).root
    (root / "zarr.json").unlink()
    with pytest.raises(InputError, match="seed = 0 there, 1 asked for"):
        trajvit.generate(out=root, samples=20, seed=1)
    assert len(trajvit.generate(out=root, samples=20)) == 20


def test_temporary_files_of_dead_processes_are_cleared_and_those_of_others_are_not(tmp_path):
    import os
    import socket

    from harness import start

    ended = start("--help")
    ended.communicate()
    folder = Disk(tmp_path)
    folder.prepare([])
    names = {
        "dead": f"_{socket.gethostname()}-{ended.pid}-a1",
        "alive": f"_{socket.gethostname()}-{os.getpid()}-b2",
        "elsewhere": f"_far-away-host-{ended.pid}-c3",
        "forgotten": f"_far-away-host-{ended.pid}-d4",
        "strange": "x",
    }
    for name in names.values():
        (tmp_path / "_tmp" / name).write_text("half a file")
    os.utime(tmp_path / "_tmp" / names["forgotten"], (0, 0))
    with folder.lock("0-of-1"):
        left = {path.name for path in (tmp_path / "_tmp").iterdir()}
    assert left == {names[name] for name in ("alive", "elsewhere", "strange")}
