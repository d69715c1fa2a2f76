import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from trajvit.datasets.importing import import_npz
from trajvit.datasets.store import digest_frames, open_dataset, record_key
from trajvit.datasets.verification import verify
from trajvit.running.cli import main
from trajvit.running.parameters import Parameters
from trajvit.running.stations import check_data, make_data
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import Clips, film

SAMPLES, TIMES = 200, 4
EQUATIONS = np.array([f"p(t) = {i} α t²" for i in range(SAMPLES)])


@pytest.fixture(scope="module")
def filmed() -> Clips:
    return film(WorldConfig.named(f"{TIMES}x16x24x3", ball_radius_m=0.35), 0, "train", 0, SAMPLES)


@pytest.fixture(scope="module")
def old(filmed) -> dict[str, np.ndarray]:
    """What a file of the earlier attempt holds."""
    return {
        "videos": filmed.frames.transpose(0, 1, 4, 2, 3).astype(np.float32) / 255,
        "labels": filmed.label.astype(np.int64),
        "trajectory_3d": filmed.points.astype(np.float64),
        "equations": EQUATIONS,
        "descriptions": np.array([b"", b"It flies."] * (SAMPLES // 2)),
    }


@pytest.fixture
def save(tmp_path):
    def write(arrays: dict[str, np.ndarray], name: str = "old.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def content(root) -> dict[str, bytes]:
    """Every file but progress and locks."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("PROGRESS") and path.parent.name != "_lock"
    }


def test_what_was_in_the_file_is_in_the_dataset(filmed, old, save, tmp_path):
    dataset = import_npz(save(old), tmp_path / "data")
    read = open_dataset(tmp_path / "data").read()
    assert np.array_equal(read.frames, filmed.frames)
    assert np.array_equal(read.label, filmed.label)
    assert np.array_equal(read.points, filmed.points)
    assert dataset.texts("equations") == EQUATIONS.tolist()
    assert dataset.texts("descriptions", 2, 4) == ["", "It flies."]


def test_the_image_of_the_ball_is_measured(filmed, old, save, tmp_path):
    read = import_npz(save(old), tmp_path / "data").read()
    assert np.abs(read.pixels - filmed.pixels).max() < 0.06
    assert np.abs(read.radius - filmed.radius).max() < 0.1


def test_a_dark_frame_has_its_centre_in_the_middle_and_no_radius(old, save, tmp_path):
    videos = old["videos"].copy()
    videos[7, 2] = 0
    read = import_npz(save(old | {"videos": videos}), tmp_path / "data").read()
    assert read.radius[7, 2] == 0 and read.pixels[7, 2].tolist() == [11.5, 7.5]
    assert verify(tmp_path / "data").sound


@pytest.mark.parametrize("axes", [(0, 1, 4, 2, 3), (0, 1, 2, 3, 4), (0, 4, 1, 2, 3)], ids=["NTCHW", "NTHWC", "NCTHW"])
@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "levels", "uint8", "int64"])
def test_every_channel_order_and_range_gives_the_same_frames(filmed, old, save, tmp_path, axes, dtype):
    levels = filmed.frames.transpose(*axes)
    videos = levels.astype(np.float32) if dtype == "levels" else levels.astype(dtype)
    if videos.dtype.kind == "f" and dtype != "levels":
        videos = videos / np.array(255, videos.dtype)
    assert np.array_equal(import_npz(save(old | {"videos": videos}), tmp_path / "data").read().frames, filmed.frames)


@pytest.mark.parametrize("channels", [(), (1,)])
def test_gray_videos_may_lack_the_channel_axis(filmed, old, save, tmp_path, channels):
    gray = filmed.frames.max(axis=-1)
    dataset = import_npz(save(old | {"videos": gray.reshape(*gray.shape, *channels)}), tmp_path / "data")
    assert np.array_equal(dataset.read().frames, gray[..., None])


def test_rounding_just_outside_the_range_is_mended(filmed, old, save, tmp_path):
    videos = np.where(old["videos"] == 0, -1e-6, old["videos"] * (1 + 1e-6))
    assert np.array_equal(import_npz(save(old | {"videos": videos}), tmp_path / "data").read().frames, filmed.frames)


def test_a_file_without_texts_is_imported_too(old, save, tmp_path):
    dataset = import_npz(save({name: old[name] for name in ("videos", "labels", "trajectory_3d")}), tmp_path / "data")
    with pytest.raises(InputError, match="has no texts 'equations'; it has none"):
        dataset.texts("equations")


class Trap:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["videos", "labels", "trajectory_3d", "equations", "descriptions"])
def test_a_pickle_is_refused_and_never_executed(old, save, tmp_path, name):
    pickled = np.array([Trap(tmp_path / "sprung")] * SAMPLES)
    with pytest.raises(InputError, match=rf"old\.npz: {name} is pickled .* python -c "):
        import_npz(save(old | {name: pickled}), tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["old.npz"]


def test_a_pickle_that_is_not_used_does_no_harm(old, save, tmp_path):
    import_npz(save(old | {"notes": np.array(Trap(tmp_path / "sprung"))}), tmp_path / "data")
    assert not (tmp_path / "sprung").exists()


def test_the_command_that_is_offered_turns_pickled_strings_into_plain_ones(old, save, tmp_path):
    file = save(old | {name: old[name].astype(object) for name in ("equations", "labels")}, "of the old attempt.npz")
    with pytest.raises(InputError) as refused:
        import_npz(file, tmp_path / "data")
    command = str(refused.value).partition("arrays with: python ")[2]
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    dataset = import_npz(tmp_path / "of the old attempt_plain.npz", tmp_path / "data")
    assert dataset.texts("equations") == EQUATIONS.tolist()


def changed(values: np.ndarray, place, value) -> np.ndarray:
    values = values.copy()
    values[place] = value
    return values


BAD = {
    "no labels": (
        lambda old: {"labels": None},
        r"has no labels; it has videos, trajectory_3d, equations, descriptions, and needs",
    ),
    "too few labels": (lambda old: {"labels": old["labels"][1:]}, r"labels is int64 \(199,\); for 200 trajectories"),
    "a strange label": (lambda old: {"labels": changed(old["labels"], 5, 4)}, r"label of sample 5 is 4; there are 0 linear, 1 "),
    "half a label": (lambda old: {"labels": old["labels"] + 0.5}, r"label of sample 0 is 0\.5"),
    "labels in words": (lambda old: {"labels": EQUATIONS}, r"labels is <U\d+ \(200,\)"),
    "flat paths": (lambda old: {"trajectory_3d": old["trajectory_3d"][..., :2]}, r"trajectory_3d is float64 \(200, 4, 2\)"),
    "no samples": (lambda old: {name: values[:0] for name, values in old.items()}, r"trajectory_3d is float64 \(0, 4, 3\)"),
    "a path to nowhere": (
        lambda old: {"trajectory_3d": changed(old["trajectory_3d"], (9, 1, 0), np.nan)},
        r"trajectory_3d of sample 9 is not finite",
    ),
    "a path too far": (lambda old: {"trajectory_3d": old["trajectory_3d"] + 1e300}, r"trajectory_3d of sample 0 is not finite"),
    "too few equations": (lambda old: {"equations": EQUATIONS[1:]}, r"equations is <U\d+ \(199,\)"),
    "equations in numbers": (lambda old: {"equations": old["labels"]}, r"equations is int64 \(200,\).*must be strings"),
    "descriptions in Latin 1": (lambda old: {"descriptions": np.array([b"\xe9"] * SAMPLES)}, r"descriptions is not UTF-8"),
    "half a character": (lambda old: {"equations": np.array(["\ud800"] * SAMPLES)}, r"equations is not UTF-8"),
    "too few videos": (lambda old: {"videos": old["videos"][1:]}, r"videos is float32 \(199, 4, 3, 16, 24\); for 200"),
    "videos of truth": (lambda old: {"videos": old["videos"] > 0}, r"videos is bool"),
    "videos of complex light": (lambda old: {"videos": old["videos"] * 1j}, r"videos is complex64"),
    "videos of other frames": (lambda old: {"videos": old["videos"][:, 1:]}, r"can be read as none of \(N,T,C,H,W\), "),
    "two channels": (lambda old: {"videos": old["videos"][:, :, 1:]}, r"can be read as none"),
    "two readings": (
        lambda old: {"videos": old["videos"][:, :3], "trajectory_3d": old["trajectory_3d"][:, :3]},
        r"can be read as \(N,T,C,H,W\) and as \(N,C,T,H,W\): save it as",
    ),
    "tiny videos": (lambda old: {"videos": old["videos"][..., :6]}, r"read as \(N,T,C,H,W\): width = 6"),
    "a NaN": (lambda old: {"videos": changed(old["videos"], (3, 0, 0, 0, 0), np.nan)}, r"NaN or infinity in sample 3, as in 1 "),
    "an infinity": (lambda old: {"videos": changed(old["videos"], (3, 0, 0, 0, 0), np.inf)}, r"NaN or infinity in sample 3"),
    "-1 to 1": (lambda old: {"videos": old["videos"] * 2 - 1}, r"videos goes from -1 to 1"),
    "overshot": (lambda old: {"videos": old["videos"] * 1.2}, r"videos goes from 0 to 1\.2"),
    "16 bits": (lambda old: {"videos": (old["videos"] * 65535).astype(np.uint16)}, r"videos goes from 0 to 65535"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_before_anything_is_written(old, save, tmp_path, bad):
    change, says = BAD[bad]
    arrays = {name: values for name, values in (old | change(old)).items() if values is not None}
    with pytest.raises(InputError, match=says) as refused:
        import_npz(save(arrays), tmp_path / "data")
    assert "old.npz" in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "data").exists()


def test_three_frames_are_no_riddle_once_the_channels_come_last(old, save, tmp_path):
    three = {"videos": old["videos"][:, :3].transpose(0, 1, 3, 4, 2), "trajectory_3d": old["trajectory_3d"][:, :3]}
    assert import_npz(save(old | three), tmp_path / "data").config.world.shape == (3, 16, 24, 3)


def test_what_is_not_an_npz_file_is_refused(old, save, tmp_path):
    whole = save(old).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 4
    cases = {
        "cut.npz": (whole[: len(whole) // 2], "is not an .npz file, or is cut short"),
        "flipped.npz": (bytes(flipped), "videos is damaged"),
        "empty.npz": (b"", "is not an .npz file"),
        "words.npz": (b"years of work", "is not an .npz file"),
        "pickle.npz": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07thesis!\x94.", "is not an .npz file"),
    }
    for name, (stored, says) in cases.items():
        (tmp_path / name).write_bytes(stored)
        with pytest.raises(InputError, match=says):
            import_npz(tmp_path / name, tmp_path / "data")
    np.save(tmp_path / "single.npy", old["labels"])
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as foreign:
        for name in old:
            foreign.writestr(f"{name}.npy", "not an array")
    for name, says in {
        "single.npy": "single array",
        "foreign.npz": "not an array",
        "none.npz": "No such file",
        ".": "Is a directory",
    }.items():
        with pytest.raises(InputError, match=says):
            import_npz(tmp_path / name, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_shares_are_disjoint_cover_the_file_and_never_part_duplicates(old, save, tmp_path):
    twice = {name: np.concatenate([values, values[:40]]) for name, values in old.items()}
    file = save(twice)
    shares = {share: import_npz(file, tmp_path / share, share) for share in ("train", "val", "test")}
    digests = {share: set(digest_frames(dataset.read().frames).tolist()) for share, dataset in shares.items()}
    assert sum(map(len, shares.values())) == SAMPLES + 40
    assert sum(map(len, digests.values())) == len(set.union(*digests.values())) == SAMPLES
    assert 0.7 * SAMPLES < len(digests["train"]) < 0.9 * SAMPLES
    assert sum(verify(dataset.root).duplicates for dataset in shares.values()) == 40
    equations = [text for dataset in shares.values() for text in dataset.texts("equations")]
    assert sorted(equations) == sorted(twice["equations"].tolist())


def test_a_share_takes_turns_of_class_where_the_file_has_blocks(old, save, tmp_path):
    blocks = np.argsort(old["labels"], kind="stable")
    file = save({name: values[blocks] for name, values in old.items()})
    share = import_npz(file, tmp_path / "train", "train").read()
    rarest = np.bincount(share.label).min()
    assert np.array_equal(share.label[: 4 * rarest], np.arange(4 * rarest) % 4)
    assert np.array_equal(import_npz(file, tmp_path / "all").read().label, old["labels"][blocks])


def test_a_share_without_samples_is_refused(old, save, tmp_path):
    one = {name: values[:1] for name, values in old.items()}
    refused = 0
    for share in ("train", "val", "test"):
        try:
            import_npz(save(one), tmp_path / share, share)
        except InputError as error:
            refused += "none of the 1 samples" in str(error) and not (tmp_path / share).exists()
    assert refused == 2
    with pytest.raises(InputError, match="share 'dev' is unknown"):
        import_npz(save(one), tmp_path / "data", "dev")


@pytest.fixture
def in_shards(monkeypatch):
    """Small shards, so that there are several."""
    monkeypatch.setattr("trajvit.datasets.importing.default_shard_size", lambda shape: 64)


@pytest.mark.parametrize("lost", ["record", "data", "metadata"])
def test_what_was_interrupted_is_finished_to_the_same_bytes(old, save, tmp_path, in_shards, lost):
    file, root = save(old), tmp_path / "data"
    import_npz(file, root)
    whole = content(root)
    (root / {"record": record_key(1), "data": "equations/c.2.0", "metadata": "zarr.json"}[lost]).unlink()
    with pytest.raises(InputError, match="no dataset" if lost == "metadata" else r"1 of 4 shards.*import-npz"):
        open_dataset(root)
    import_npz(file, root)
    assert content(root) == whole


def test_running_again_makes_nothing_anew(old, save, tmp_path):
    file, root = save(old), tmp_path / "data"
    import_npz(file, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    import_npz(file, root)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_another_file_or_share_in_the_same_folder_is_refused(old, save, tmp_path):
    file, root = save(old), tmp_path / "data"
    import_npz(file, root)
    whole = content(root)
    with pytest.raises(InputError, match=r"holds another dataset.*sha256"):
        import_npz(save(old | {"labels": old["labels"][::-1]}, "other.npz"), root)
    with pytest.raises(InputError, match=r"holds another dataset.*share"):
        import_npz(file, root, "train")
    assert content(root) == whole
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        import_npz(file, tmp_path / "thesis")


def test_a_flipped_bit_is_found_and_mended_by_importing_again(old, save, tmp_path, in_shards, capsys):
    file, root = save(old), tmp_path / "data"
    import_npz(file, root)
    whole = content(root)
    path = root / "frames" / "c.2.0.0.0.0"
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 3] ^= 4
    path.write_bytes(flipped)
    assert list(verify(root).damaged) == [2]
    assert main(["verify", str(root)]) == 1
    assert re.search(r"verify \S+ --repair', then 'python -m trajvit import-npz FILE", capsys.readouterr().err)
    assert main(["verify", str(root), "--repair"]) == 1
    assert "run 'python -m trajvit import-npz FILE" in capsys.readouterr().err
    assert sorted(path.name for path in (root / "_done").glob("0*")) == ["00000.json", "00001.json", "00003.json"]
    assert main(["import-npz", str(file), "--out", str(root)]) == 0
    assert content(root) == whole


def test_damaged_metadata_is_repaired_without_the_file(old, save, tmp_path):
    root = tmp_path / "data"
    import_npz(save(old), root)
    whole = content(root)
    (root / "zarr.json").write_text("{}")
    (root / "points" / "zarr.json").unlink()
    assert verify(root).damaged
    assert verify(root, repair=True).sound
    assert content(root) == whole


def test_the_command_says_where_how_many_and_how_many_twice(old, save, tmp_path, capsys):
    file = save({name: np.concatenate([values, values[:7]]) for name, values in old.items()})
    assert main(["import-npz", str(file), "--out", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "data") in said and "207 clips" in said and "7 duplicates" in said
    assert main(["import-npz", str(tmp_path / "none.npz"), "--out", str(tmp_path / "none")]) == 2
    assert main(["import-npz", str(file), "--out", str(tmp_path / "none"), "--share", "dev"]) == 2
    said = capsys.readouterr().err
    assert "No such file" in said and not (tmp_path / "none").exists()
    assert all(line.startswith(("trajvit: ", "import: ", "verify: ")) for line in said.splitlines())


@pytest.fixture
def classic(tmp_path, save):
    """A file in the earlier attempt's format."""
    clips = film(WorldConfig.named("classic"), 0, "train", 0, 80)
    videos = clips.frames.transpose(0, 1, 4, 2, 3).astype(np.float32) / 255
    return save({"videos": videos, "labels": clips.label, "trajectory_3d": clips.points})


def test_a_run_uses_what_was_imported(classic, tmp_path):
    sizes = {split: len(import_npz(classic, tmp_path / "data" / split, split)) for split in ("train", "val", "test")}
    eval_samples = min(sizes["val"], sizes["test"])
    fitting = {
        "samples": sizes["train"],
        "eval_samples": eval_samples,
        "format": "16x64x64x3",
        "data_dir": str(tmp_path / "data"),
    }
    parameters = Parameters(**fitting)
    check_data(parameters)
    for split, size in sizes.items():
        dataset = make_data(parameters, split)
        assert dataset.config.kind == "imported" and len(dataset) == size
    (tmp_path / "data" / "test" / "label" / "c.0").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"incomplete.*import-npz"):
        check_data(parameters)
    (tmp_path / "away").rename(tmp_path / "data" / "test" / "label" / "c.0")
    for other, says in {
        "samples": "set samples=" + str(sizes["train"]),
        "eval_samples": r"set eval_samples=",
        "format": r"set format=16x64x64x3",
    }.items():
        wrong = Parameters(**fitting | {"samples": 60, "eval_samples": 60, "format": "compact"} | {other: fitting[other]})
        with pytest.raises(InputError, match=r"imported clips of 16x64x64x3: set "):
            check_data(wrong)
        wrong = Parameters(**fitting | {other: {"samples": 64, "eval_samples": 60, "format": "compact"}[other]})
        with pytest.raises(InputError, match=says):
            check_data(wrong)


def test_a_run_refuses_to_be_tested_on_what_it_was_trained_on(classic, tmp_path):
    for split, share in (("train", "all"), ("test", "test")):
        size = len(import_npz(classic, tmp_path / "data" / split, share))
    parameters = Parameters(samples=80, eval_samples=max(4, size), format="classic", data_dir=str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"train and test .* same imported samples: .* --share train and --share test"):
        check_data(parameters)
