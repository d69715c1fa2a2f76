"""Disks that fill up, vanish or cannot be written. They are real ones, in memory, which takes root to mount."""

import shutil
import subprocess
from pathlib import Path

import pytest
import trajvit
from harness import contents, end, litter, mount, progress, quick_folder, records, run, start, wait_until
from trajvit.settings import InputError

SAMPLES, SHARD = 8000, 50
ARGUMENTS = ("--samples", SAMPLES, "--shard-size", SHARD)
MIB, DISK_MIB = 2**20, 20


@pytest.fixture(scope="module")
def whole():
    with quick_folder() as root:
        return contents(trajvit.generate(out=root, samples=SAMPLES, shard_size=SHARD, workers=1).root)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up_ends_the_run_with_one_line_and_nothing_is_lost(disk, whole, workers):
    root, ballast = disk / "data", disk / "ballast"
    command = ("generate", "--out", root, *ARGUMENTS, "--workers", workers)
    ballast.write_bytes(bytes(18 * MIB))
    code, _, err = run(*command)
    assert code == 1 and "Traceback" not in err, err
    *_, reported, said = err.splitlines()
    assert reported.startswith("generate: failed") and said.startswith(f"trajvit: {root}/"), err
    assert "No space left on device" in said and "the same command continues" in said
    assert 0 < records(root) < SAMPLES // SHARD and not litter(root)
    assert {key: sha for key, sha in contents(root).items() if key in whole}.items() <= whole.items()
    with pytest.raises(InputError, match="incomplete"):
        trajvit.open_dataset(root)
    there = records(root)
    code, _, err = run(*command)  # while it is still full
    assert code == 1 and "No space left on device" in err and records(root) >= there
    ballast.unlink()
    code, _, err = run(*command)
    assert code == 0, err
    assert contents(root) == whole and progress(root)["state"] == "done"


def test_a_disk_that_is_full_from_the_start_is_said_to_be(disk):
    (disk / "ballast").write_bytes(bytes(20 * MIB))
    code, _, err = run("generate", "--out", disk / "data", *ARGUMENTS)
    assert code == 1 and f"{disk}/data cannot be written (No space left on device)" in err.splitlines()[-1], err
    assert "Traceback" not in err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_vanishes_ends_the_run_and_nothing_is_written_beside_it(disk, whole, workers):
    process = start("generate", "--out", disk, *ARGUMENTS, "--workers", workers)
    wait_until(lambda: records(disk) > 2, what="a few shards")
    subprocess.run(["umount", "-l", str(disk)], check=True)
    code, _, err = end(process)
    ours = [line for line in err.splitlines() if "resource_tracker" not in line and "warnings.warn" not in line]  # not joblib's
    assert code == 1 and "is the disk still there?" in ours[-1] and "Traceback" not in err, err
    assert not list(disk.iterdir())


@pytest.mark.parametrize("folder", ["data", "other/data"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(disk, folder):
    mount("-o", "remount,ro", disk)
    code, _, err = run("generate", "--out", disk / folder, *ARGUMENTS)
    assert code == 2 and err.count("\n") == 1, err
    assert err == f"trajvit: {disk}/{folder} cannot be written (Read-only file system): name another folder\n"


def test_a_disk_that_became_read_only_loses_nothing_and_is_still_read(disk, whole):
    root = disk / "data"
    shutil.copytree(trajvit.generate(out=disk / "whole", samples=SAMPLES, shard_size=SHARD).root, root)
    (root / "_done" / "00003.json").unlink()
    mount("-o", "remount,ro", disk)
    command = ("generate", "--out", root, *ARGUMENTS)
    code, _, err = run(*command)
    assert code == 2 and err == f"trajvit: {root} cannot be written (Read-only file system): name another folder\n"
    assert run("generate", "--out", disk / "whole", *ARGUMENTS)[0] == run("verify", disk / "whole")[0] == 0
    mount("-o", "remount,rw", disk)
    assert run(*command)[0] == 0 and contents(root) == whole


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/data"), tmp_path / ("long" * 100)):
        code, _, err = run("generate", "--out", place, *ARGUMENTS)
        assert code == 2 and err.count("\n") == 1 and str(place) in err, err
    assert (tmp_path / "file").read_text() == "mine"
