import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trajvit
from harness import contents, end, progress, quick_folder, records, run, start, wait_until
from trajvit.datasets.folders import Disk
from trajvit.datasets.generator import WORTH_A_WORKER, _default_workers, film_shard, make_shard, plan
from trajvit.datasets.labour import SHARING, at_once, cores
from trajvit.datasets.store import write_group
from trajvit.datasets.verification import verify
from trajvit.settings import InputError

SAMPLES, SHARD = 230, 16
SHARDS = 15
ARGUMENTS = ("--samples", SAMPLES, "--shard-size", SHARD)


@pytest.fixture(scope="module")
def whole():
    with quick_folder() as root:
        return contents(trajvit.generate(out=root, samples=SAMPLES, shard_size=SHARD).root)


@pytest.fixture
def quick_path():
    with quick_folder() as path:
        yield path


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(quick_path, whole, workers):
    assert contents(trajvit.generate(out=quick_path, samples=SAMPLES, shard_size=SHARD, workers=workers).root) == whole


def test_shards_made_in_any_order_are_the_same_bytes(quick_path, whole):
    folder = Disk(quick_path)
    config = plan(quick_path, SAMPLES, "compact", "textbook", "train", 0, SHARD)
    folder.prepare(["_done", *config.arrays])
    for shard in (14, 3, 7, 0, 1, 13, 2, 4, 12, 6, 5, 11, 9, 8, 10):
        make_shard(folder, config, film_shard, shard)
    write_group(folder, config)
    assert contents(quick_path) == whole and trajvit.open_dataset(quick_path).config.shards == SHARDS


def test_threads_of_one_process_do_not_draw_into_one_another(quick_path, whole):
    """As in a Dask worker, which films in as many threads as its machine has cores."""
    folder = Disk(quick_path)
    config = plan(quick_path, SAMPLES, "compact", "textbook", "train", 0, SHARD)
    folder.prepare(["_done", *config.arrays])
    write_group(folder, config)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(partial(make_shard, folder, config, film_shard), range(SHARDS)))
    finally:
        sys.setswitchinterval(switching)
    assert contents(quick_path) == whole


def test_three_machines_at_once_fill_one_folder_with_the_same_bytes(quick_path, whole):
    root = quick_path / "data"
    machines = [start("generate", "--out", root, *ARGUMENTS, "--rank", rank, "--machines", 3) for rank in range(3)]
    ended = [end(machine) for machine in machines]
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    assert any(f"{root}: {SAMPLES} clips" in out for _, out, _ in ended)
    assert contents(root) == whole


def test_machines_one_after_another_each_make_their_part_and_the_last_has_the_dataset(quick_path, whole):
    made = partial(trajvit.generate, out=quick_path, samples=SAMPLES, shard_size=SHARD)
    assert made(part=(1, 3)) is None
    assert sorted(int(path.stem) for path in quick_path.glob("_done/0*")) == list(range(1, SHARDS, 3))
    assert made(part=(0, 3)) is None
    with pytest.raises(InputError, match="incomplete: 5 of 15"):
        trajvit.open_dataset(quick_path)
    assert len(made(part=(2, 3))) == SAMPLES
    assert contents(quick_path) == whole


def test_more_machines_than_shards_leave_the_last_without_work(quick_path):
    made = partial(trajvit.generate, out=quick_path, samples=20, shard_size=10)
    assert [made(part=(rank, 4)) is None for rank in (3, 2, 1, 0)] == [True, True, True, False]


def test_the_same_part_twice_at_once_is_refused_and_other_parts_are_not(quick_path):
    made = partial(trajvit.generate, out=quick_path, samples=SAMPLES, shard_size=SHARD)
    Disk(quick_path).prepare([])
    with Disk(quick_path).lock("1-of-3"):
        with pytest.raises(InputError, match=f"is being written by process {os.getpid()} on"):
            made(part=(1, 3))
        made(part=(0, 3))


def test_what_the_parts_left_is_finished_by_one_machine(quick_path, whole):
    made = partial(trajvit.generate, out=quick_path, samples=SAMPLES, shard_size=SHARD)
    made(part=(1, 3))
    assert len(made()) == SAMPLES
    assert contents(quick_path) == whole and not list((quick_path / "_progress").iterdir())


def test_starting_workers_is_left_for_large_work(monkeypatch):
    small = plan("nowhere", 30_000, "compact", "textbook", "train", 0)
    large = plan("nowhere", 1_000_000, "compact", "textbook", "train", 0)
    assert small.samples * small.world.bytes < WORTH_A_WORKER < large.samples * large.world.bytes
    assert _default_workers(small, small.shards) == 1
    assert _default_workers(large, large.shards) == cores()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert _default_workers(large, large.shards) == 1
    assert _default_workers(large, 1) == 1  # where almost all is there already


# Dask


class Cluster:
    """A real scheduler and real workers of two threads each, at home in a folder that is not ours."""

    def __init__(self, home: Path, workers: int):
        self.home, port_file = home, home / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--no-show", "--scheduler-file", port_file)
        self.scheduler = self.dask("scheduler", *options)
        wait_until(lambda: port_file.exists() and port_file.read_text().strip().endswith("}"), 60, "a scheduler")
        self.address = json.loads(port_file.read_text())["address"]
        options = ("--nthreads", 2, "--no-nanny", "--no-dashboard", "--local-directory", home)
        self.workers = [self.dask("worker", self.address, *options) for _ in range(workers)]

    def dask(self, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *map(str, arguments)]
        return subprocess.Popen(command, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), workers=2)
    yield cluster.address
    cluster.close()


@pytest.fixture
def own_cluster(tmp_path):
    """A function that gives a cluster to break."""
    made = []

    def make(workers: int) -> Cluster:
        made.append(Cluster(tmp_path, workers))
        return made[0]

    yield make
    made[0].close()


LARGE = ("--samples", 3200, "--shard-size", 8)


def test_a_dask_cluster_gives_the_same_bytes(quick_path, whole, cluster):
    root = quick_path / "data"
    code, out, err = run("generate", "--out", root, *ARGUMENTS, "--backend", "dask", "--scheduler", cluster)
    assert code == 0 and f"{root}: {SAMPLES} clips" in out and "Traceback" not in err, err
    assert contents(root) == whole


def test_a_relative_folder_means_the_same_to_the_cluster(quick_path, whole, cluster, monkeypatch):
    monkeypatch.chdir(quick_path)
    trajvit.generate(out="data", samples=SAMPLES, shard_size=SHARD, backend="dask", scheduler=cluster)
    assert contents(quick_path / "data") == whole


def test_a_run_on_a_cluster_is_interrupted_and_finished_without_it(quick_path, cluster):
    root = quick_path / "data"
    process = start("generate", "--out", root, *LARGE, "--backend", "dask", "--scheduler", cluster)
    wait_until(lambda: records(root), what="a first shard")
    process.send_signal(signal.SIGTERM)
    code, _, err = end(process, 20)
    assert code == 75 and "Traceback" not in err and progress(root)["state"] == "interrupted", err
    assert 0 < records(root) < 400
    assert run("generate", "--out", root, *LARGE)[0] == 0 and verify(root).sound


def test_a_cluster_that_loses_a_worker_finishes_and_one_that_loses_its_scheduler_says_so(quick_path, own_cluster):
    root, cluster = quick_path / "data", own_cluster(workers=2)
    process = start("generate", "--out", root, *LARGE, "--backend", "dask", "--scheduler", cluster.address)
    wait_until(lambda: records(root), what="a first shard")
    cluster.workers[0].kill()
    there = records(root)
    wait_until(lambda: records(root) > there + 20, what="more shards from the other worker")
    cluster.scheduler.kill()
    code, _, err = end(process, 60)
    assert code == 1 and "Traceback" not in err and "the Dask scheduler is gone" in err.splitlines()[-1], err
    assert run("generate", "--out", root, *LARGE)[0] == 0 and verify(root).sound


def test_a_wrong_scheduler_or_one_without_workers_is_refused_in_one_line_before_any_work(quick_path, own_cluster):
    idle = own_cluster(workers=0).address
    wrong = ["tcp://127.0.0.1:9", "nonsense", "xyz://127.0.0.1:9", idle]
    begun = time.monotonic()
    runs = [start("generate", "--out", quick_path / "data", "--backend", "dask", "--scheduler", address) for address in wrong]
    for address, process in zip(wrong, runs, strict=True):
        code, _, err = end(process)
        assert code == 2 and err.count("\n") == 1 and address in err, err
        assert ("has no workers" if address == idle else "no Dask scheduler answers at") in err
    assert time.monotonic() - begun < 20 and not list(quick_path.iterdir())


def test_calls_about_many_clips_are_made_at_once_in_fresh_processes_of_one_thread():
    import torch

    told = []
    calls = {name: lambda _: (os.getpid(), torch.get_num_threads(), os.environ.get(SHARING)) for name in ("one", "two", "three")}
    found = at_once("calls", calls, 1000, lambda progress: told.append((progress.work, progress.done, progress.total)))
    assert list(found) == list(calls) and len({pid for pid, *_ in found.values()} | {os.getpid()}) >= 2
    assert {(threads, sharing) for _, threads, sharing in found.values()} == {(1, str(min(cores(), 3)))}
    assert ("calls", 0, 3) in told and told[-1] == ("calls", 3, 3)
    assert {pid for pid, *_ in at_once("calls", calls, 999).values()} == {os.getpid()}


@pytest.mark.parametrize("clips", [999, 1000])
def test_what_one_of_several_calls_raises_is_raised(clips):
    def refuse(_):
        raise InputError("no such thing")

    with pytest.raises(InputError, match="no such thing"):
        at_once("calls", {"good": lambda _: 1, "bad": refuse}, clips)
