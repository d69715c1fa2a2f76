import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import trajvit
from trajvit.datasets.store import record_key
from trajvit.datasets.verification import verify
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film


def digest(root: Path) -> str:
    """sha256 over everything but progress and locks."""
    content = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        if path.name.startswith("PROGRESS") or path.parent.name in ("_lock", "_progress"):
            continue
        content.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return content.hexdigest()


@pytest.fixture
def made(tmp_path):
    return trajvit.generate(out=tmp_path / "data", samples=50, shard_size=16)


def test_what_is_read_is_what_was_filmed(made):
    read, filmed = made.read(), film(WorldConfig(), 0, "train", 0, 50)
    for name in ("frames", "label", "points", "pixels", "radius"):
        assert np.array_equal(getattr(read, name), getattr(filmed, name)), name
    assert np.array_equal(made.read(13, 35).pixels, filmed.pixels[13:35])


def test_two_runs_of_one_config_are_equal_byte_for_byte(made, tmp_path):
    again = trajvit.generate(out=tmp_path / "again", samples=50, shard_size=16)
    assert digest(again.root) == digest(made.root)


def test_running_again_makes_nothing_anew(made):
    before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
    trajvit.generate(out=made.root, samples=50, shard_size=16)
    assert before == {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", ["record", "data", "metadata"])
def test_what_was_interrupted_is_finished_to_the_same_bytes(made, lost):
    whole = digest(made.root)
    if lost == "record":
        (made.root / record_key(1)).unlink()
    elif lost == "data":
        (made.root / "frames" / "c.2.0.0.0.0").unlink()
    else:
        (made.root / "zarr.json").unlink()
    trajvit.generate(out=made.root, samples=50, shard_size=16)
    assert digest(made.root) == whole


def test_interruption_leaves_only_whole_shards_and_says_so(tmp_path, monkeypatch):
    import trajvit.datasets.generator as generator

    def stop_at_the_third(config, seed, split, start, stop, canvas=None):
        if start >= 32:
            raise KeyboardInterrupt
        return film(config, seed, split, start, stop, canvas)

    root = tmp_path / "data"
    monkeypatch.setattr(generator, "film", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        trajvit.generate(out=root, samples=50, shard_size=16)
    progress = json.loads((root / "PROGRESS.json").read_text())
    assert (progress["state"], progress["done"], progress["total"]) == ("interrupted", 32, 50)
    with pytest.raises(InputError, match="incomplete: 2 of 4 shards"):
        trajvit.open_dataset(root)
    monkeypatch.undo()
    trajvit.generate(out=root, samples=50, shard_size=16)
    assert digest(root) == digest(trajvit.generate(out=tmp_path / "other", samples=50, shard_size=16).root)
    assert json.loads((root / "PROGRESS.json").read_text())["state"] == "done"


def test_a_shard_cut_short_is_missed_on_opening(made):
    path = made.root / "frames" / "c.1.0.0.0.0"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="incomplete: 1 of 4"):
        trajvit.open_dataset(made.root)


@pytest.mark.parametrize("array", ["frames", "label", "points", "pixels", "radius"])
def test_a_flipped_bit_is_noticed_on_reading_and_repaired(made, array):
    whole = digest(made.root)
    path = min((made.root / array).glob("c.0*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*verify.*--repair"):
        trajvit.open_dataset(made.root).read()
    assert list(verify(made.root).damaged) == [0]
    assert verify(made.root, repair=True).sound
    assert digest(made.root) == whole


def test_where_datasets_lie_within_a_folder_they_are_named(made):
    made.root.rename(made.root.with_name("val"))
    with pytest.raises(InputError, match="itself: name one of val in it"):
        trajvit.open_dataset(made.root.parent)
    with pytest.raises(InputError, match="in a folder of its own, with 'python -m trajvit generate"):
        trajvit.open_dataset(made.root)


@pytest.mark.parametrize("array", ["frames", "label"])
def test_a_file_that_is_gone_after_opening_is_no_black_clip(made, array):
    opened = trajvit.open_dataset(made.root)
    min((made.root / array).glob("c.1*")).unlink()
    with pytest.raises(InputError, match=rf"damaged \({array}/c\.1.* is gone\): run .*verify.*--repair"):
        opened.read()
    assert len(opened.read(0, opened.config.shard_size).label) == opened.config.shard_size  # what is there is read


def test_edited_records_and_metadata_are_found_and_repaired(made):
    whole = digest(made.root)
    record = json.loads((made.root / record_key(2)).read_text())
    record["files"]["label/c.2"]["sha256"] = "0" * 64
    (made.root / record_key(2)).write_text(json.dumps(record))
    (made.root / "points" / "zarr.json").write_text("{}")
    found = verify(made.root)
    assert 2 in found.damaged and not found.sound
    assert verify(made.root, repair=True).sound
    assert digest(made.root) == whole


@pytest.mark.parametrize(
    "other", [{"samples": 60}, {"seed": 1}, {"variety": "varied"}, {"split": "val"}, {"shard_size": 8}, {"noise_m": 0.0}]
)
def test_another_config_in_the_same_folder_is_refused_and_nothing_changes(made, other):
    whole = digest(made.root)
    with pytest.raises(InputError, match=next(iter(other))):
        trajvit.generate(out=made.root, **{"samples": 50, "shard_size": 16} | other)
    assert digest(made.root) == whole


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        trajvit.generate(out=tmp_path, samples=4)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "bad", [{"samples": 0}, {"seed": -1}, {"shard_size": 0}, {"format": "x"}, {"split": "dev"}, {"wobble": 1}]
)
def test_impossible_arguments_leave_no_trace(tmp_path, bad):
    with pytest.raises(InputError):
        trajvit.generate(**{"out": tmp_path / "data", "samples": 4} | bad)
    assert not list(tmp_path.iterdir())


def test_opening_what_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="generate --out"):
        trajvit.open_dataset(tmp_path)


def test_a_dataset_of_a_newer_format_is_refused(made):
    text = (made.root / "zarr.json").read_text()
    (made.root / "zarr.json").write_text(text.replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(InputError, match="format version 3"):
        trajvit.open_dataset(made.root)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("name", ["smoke", "validate"])
def test_the_committed_data_are_made_again_byte_for_byte(tmp_path, name, split):
    committed = trajvit.open_dataset(Path(__file__).parents[2] / "data" / name / split)
    again = trajvit.generate(out=tmp_path / split, samples=len(committed), split=split)
    assert digest(again.root) == digest(committed.root)
