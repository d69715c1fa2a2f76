"""A dataset in a bucket: moto's S3 behind a real HTTP server, and real processes that write there, die and read."""

import hashlib
import os
import signal
import socket
import threading
import time
from datetime import timedelta
from functools import partial

import boto3
import numpy as np
import pytest
import trajvit
from bucket_server import Server
from harness import contents, end, last_line, quick_folder, run, start, wait_until
from trajvit.datasets import bucket as buckets
from trajvit.datasets.bucket import Bucket
from trajvit.datasets.store import record_key
from trajvit.datasets.verification import verify
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film

SAMPLES, SHARD, SHARDS = 140, 12, 12
ARGUMENTS = ("--samples", SAMPLES, "--shard-size", SHARD)
MADE = {"samples": SAMPLES, "shard_size": SHARD}


@pytest.fixture(scope="module")
def server():
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
    server.close()


@pytest.fixture
def place(server, request):
    """An empty prefix in a bucket of the test's own."""
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/some/data"


@pytest.fixture(scope="module")
def whole():
    with quick_folder() as root:
        return contents(trajvit.generate(out=root, **MADE).root)


def in_bucket(place: str) -> dict[str, str]:
    """As `contents` of a folder."""
    folder = Bucket(place)
    keys = [key for key in folder.sizes() if not key.startswith(("PROGRESS", "_lock", "_tmp", "_progress"))]
    return {key: hashlib.sha256(folder.read(key)).hexdigest() for key in keys}


def records(place: str) -> int:
    return sum(key.startswith("_done/0") for key in Bucket(place).sizes("_done"))


def test_a_dataset_in_a_bucket_is_the_same_files_as_on_a_disk(place, whole):
    code, out, err = run("generate", "--out", place, *ARGUMENTS)
    assert code == 0 and f"{place}: {SAMPLES} clips" in out, err
    assert in_bucket(place) == whole
    assert {"PROGRESS.json", "PROGRESS.txt"} <= Bucket(place).sizes().keys() and not Bucket(place).sizes("_lock")


def test_what_is_read_from_a_bucket_is_what_was_filmed(place):
    trajvit.generate(out=place, **MADE)
    read, filmed = trajvit.open_dataset(place).read(), film(WorldConfig(), 0, "train", 0, SAMPLES)
    for name in vars(read):
        assert np.array_equal(getattr(read, name), getattr(filmed, name)), name
    assert verify(place).sound


@pytest.mark.parametrize("workers", [1, 2])
def test_resume_after_kill_gives_the_same_bytes_at_once(server, place, whole, workers):
    command = ("generate", "--out", place, *ARGUMENTS, "--workers", workers)
    with server.making(slow=1, slow_s=0.03):
        process = start(*command)
        wait_until(lambda: records(place) > 2, what="a few shards")
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie with its number
    assert 2 < records(place) < SHARDS and Bucket(place).sizes("_lock")
    with pytest.raises(InputError, match="incomplete"):
        trajvit.open_dataset(place)
    begun = time.monotonic()
    code, _, err = run(*command)
    assert code == 0, err
    assert time.monotonic() - begun < buckets.STALE_S / 2  # the dead owner's lock is not waited for
    process.communicate()
    assert in_bucket(place) == whole


def test_an_interrupted_run_says_so_and_gives_the_bucket_up(server, place, whole):
    command = ("generate", "--out", place, *ARGUMENTS)
    with server.making(slow=1, slow_s=0.05):
        process = start(*command)
        wait_until(lambda: records(place), what="a first shard")
        os.killpg(process.pid, signal.SIGINT)
        code, _, err = end(process)
    assert code == 75 and "Traceback" not in err, err
    assert b'"interrupted"' in Bucket(place).read("PROGRESS.json") and not Bucket(place).sizes("_lock")
    assert run(*command)[0] == 0 and in_bucket(place) == whole


def test_a_run_can_be_interrupted_while_the_bucket_is_down(server, place):
    with server.making(slow=1, slow_s=0.05):
        process = start("generate", "--out", place, *ARGUMENTS)
        wait_until(lambda: records(place), what="a first shard")
    with server.making(fails=1):
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        code, _, err = end(process, 40)
    assert code == 75 and "Traceback" not in err, err


def test_damage_in_a_bucket_is_found_and_repaired(place, whole):
    trajvit.generate(out=place, **MADE)
    folder = Bucket(place)
    content = bytearray(folder.read("frames/c.3.0.0.0.0"))
    content[len(content) // 2] ^= 1
    folder.write("frames/c.3.0.0.0.0", bytes(content))
    folder.write("points/zarr.json", b"{}")
    for array in ("frames", "points"):
        with pytest.raises(InputError, match=f"verify {place} --repair"):
            trajvit.open_dataset(place).array(array)
    folder.delete("label/c.7")
    folder.write(record_key(9), folder.read(record_key(8)))
    with pytest.raises(InputError, match="incomplete: 2 of 12"):
        trajvit.open_dataset(place)
    code, out, err = run("verify", place)
    assert code == 1 and "damaged" in out and f"python -m trajvit verify {place} --repair" in last_line(err)
    code, out, err = run("verify", place, "--repair")
    assert code == 0 and "sound" in out, err
    assert in_bucket(place) == whole


def test_three_unconnected_machines_fill_one_prefix_with_the_same_bytes(place, whole):
    machines = [start("generate", "--out", place, *ARGUMENTS, "--rank", rank, "--machines", 3) for rank in range(3)]
    ended = [end(machine) for machine in machines]
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    assert any(f"{place}: {SAMPLES} clips" in out for _, out, _ in ended)
    assert in_bucket(place) == whole


def test_a_run_is_watched_from_another_process(server, place):
    with server.making(slow=1, slow_s=0.05):
        process = start("generate", "--out", place, *ARGUMENTS)
        wait_until(lambda: Bucket(place).read("PROGRESS.json"), what="a report")
        code, out, err = run("watch", place)
    assert end(process)[0] == 0 and code == 0, err
    assert "generate: running" in out and f"generate: done, {SAMPLES}/{SAMPLES} samples" in last_line(out)


def test_server_errors_and_slow_answers_are_tried_again(server, place, whole):
    with server.making(fails=0.1, fails_after=0.1, slow=0.1) as trouble:
        code, _, err = run("generate", "--out", place, *ARGUMENTS, "--workers", 2, limit_s=100)
        assert code == 0 and "Traceback" not in err, err
        assert trajvit.open_dataset(place).read().label.size == SAMPLES
    assert trouble.made > 20 and in_bucket(place) == whole


def test_an_answer_that_does_not_come_is_asked_for_again(server, place, whole, monkeypatch):
    monkeypatch.setattr(buckets, "ANSWER_WITHIN_S", 0.5)
    with server.making(slow=0.05, slow_s=2) as trouble:
        trajvit.generate(out=Bucket(place, timedelta(seconds=60)), **MADE)
    assert trouble.made and in_bucket(place) == whole


def test_a_bucket_that_stays_down_is_named_and_what_is_finished_is_kept(server, place, whole):
    impatient = Bucket(place, timedelta(seconds=1))
    trajvit.generate(out=impatient, part=(0, 3), **MADE)
    with server.making(fails=1), pytest.raises(OSError, match=f"{place}/.* cannot be (read|written|listed)"):
        trajvit.generate(out=impatient, **MADE)
    assert records(place) == SHARDS / 3
    dataset = trajvit.generate(out=impatient, **MADE)
    assert in_bucket(place) == whole
    with server.making(fails=1), pytest.raises(OSError, match=f"{place}/label cannot be read"):
        dataset.array("label")


# Who may write


def test_a_second_writer_is_refused_and_told_who_the_first_is(server, place):
    with server.making(slow=1, slow_s=0.05):
        first = start("generate", "--out", place, *ARGUMENTS)
        wait_until(lambda: records(place), what="a first shard")
        code, _, err = run("generate", "--out", place, *ARGUMENTS)
    assert code == 2 and err.count("\n") == 1, err
    assert f"{place} is being written by process {first.pid} on {socket.gethostname()}" in err
    assert end(first)[0] == 0


@pytest.fixture
def quick_clock(monkeypatch):
    monkeypatch.setattr(buckets, "BEAT_S", 0.2)
    monkeypatch.setattr(buckets, "STALE_S", 4.0)


def elsewhere(monkeypatch) -> None:
    monkeypatch.setattr(buckets, "here", lambda: {"host": "elsewhere", "pid": 7})


def test_a_lock_of_another_machine_is_taken_over_once_it_is_silent(place, quick_clock, monkeypatch):
    with monkeypatch.context() as patch:
        elsewhere(patch)
        lost = Bucket(place).lock("0-of-1")
        lost.__enter__()
        lost._released.set()  # its machine is switched off
        lost._heart.join()
    with pytest.raises(InputError, match="is being written by process 7 on elsewhere"):
        trajvit.generate(out=place, **MADE)
    time.sleep(6)  # moto tells times in whole seconds
    assert len(trajvit.generate(out=place, **MADE)) == SAMPLES


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_lock_that_is_renewed_holds_however_wrong_the_clocks_are(place, quick_clock, monkeypatch, ahead_s):
    with monkeypatch.context() as patch:
        elsewhere(patch)
        with Bucket(place).lock("0-of-1"):
            patch.setattr(buckets.time, "time", lambda real=time.time: real() + ahead_s)
            with pytest.raises(InputError, match="is being written by"), Bucket(place).lock("0-of-1"):
                pass


def test_a_lock_that_was_taken_over_is_not_fought_for(place, quick_clock):
    """A machine that slept wakes up and finds another at its work."""
    with Bucket(place).lock("0-of-1"):
        Bucket(place).write("_lock/0-of-1", b'{"host": "elsewhere", "pid": 7, "token": "another"}')
        time.sleep(1)
        assert b"elsewhere" in Bucket(place).read("_lock/0-of-1")
    assert b"elsewhere" in Bucket(place).read("_lock/0-of-1")


def test_of_many_that_find_a_silent_lock_one_gets_it(place, quick_clock, monkeypatch):
    with monkeypatch.context() as patch:
        elsewhere(patch)
        lost = Bucket(place).lock("0-of-1")
        lost.__enter__()
        lost._released.set()
        lost._heart.join()
    time.sleep(6)
    won, refused, over = [], [], threading.Event()

    def take(number: int) -> None:
        try:
            with Bucket(place).lock("0-of-1"):
                won.append(number)
                over.wait(20)
        except InputError:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(won) + len(refused) == 6, what="an answer to each")
    over.set()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(refused) == 5


def test_a_lock_whose_first_answer_was_lost_is_ours(server, place):
    with server.making(fails_after=0.5) as trouble:
        for _ in range(6):
            with Bucket(place).lock("0-of-1"):
                pass
    assert trouble.made


# What is refused before any work


def refusal(place: str, **environment: str) -> str:
    begun = time.monotonic()
    code, _, err = run("generate", "--out", place, *ARGUMENTS, **environment)
    assert code == 2 and err.count("\n") == 1 and place in err, err
    assert time.monotonic() - begun < 15
    return err


def test_a_bucket_that_is_not_there_is_refused(server):
    assert "there is no such bucket" in refusal("s3://no-such-bucket/data")


def test_credentials_that_are_missing_are_asked_for(server, tmp_path):
    nobody = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "") | {"HOME": str(tmp_path)}
    assert "no AWS credentials" in refusal("s3://some-bucket/data", **nobody)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidAccessKeyId", "the access key is unknown"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("AccessDenied", "access denied"),
    ],
)
def test_credentials_that_are_wrong_are_said_to_be(server, place, code, said):
    with server.making(refuses=code):
        assert said in refusal(place)
    assert not Bucket(place).sizes()


def test_a_server_that_does_not_answer_is_named(server, place):
    nobody, begun = "http://127.0.0.1:9", time.monotonic()
    with server.making(slow=1, slow_s=20):
        silent = start("generate", "--out", place, *ARGUMENTS)
        assert f"no answer from {nobody}" in refusal(place, AWS_ENDPOINT_URL=nobody)
        code, _, err = end(silent)
    assert code == 2 and err.count("\n") == 1 and f"no answer from {server.url}" in err, err
    assert time.monotonic() - begun < 15


def test_a_server_that_does_not_answer_is_not_one_that_denies(server, place, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="no answer from"):
        Bucket(place, timedelta(seconds=1)).read("frames/c.403.0.0.0.0")


@pytest.mark.parametrize("place", ["s3://", "s3://A_b/x", "s3:/bucket/x", "s4://bucket/x", "gs://bucket/x"])
def test_what_is_no_place_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        trajvit.generate(out=place, **MADE)
    assert not list(tmp_path.iterdir())


def test_a_prefix_with_other_things_in_it_is_refused_and_left_alone(place):
    Bucket(place).write("thesis/chapter1.tex", b"years of work")
    with pytest.raises(InputError, match="holds other things"):
        trajvit.generate(out=place, **MADE)
    assert Bucket(place).sizes().keys() == {"thesis/chapter1.tex"}


def test_another_config_under_the_same_prefix_is_refused(place):
    made = partial(trajvit.generate, out=place, samples=20)
    made()
    before = in_bucket(place)
    with pytest.raises(InputError, match="seed"):
        made(seed=1)
    assert in_bucket(place) == before
    assert run("verify", f"{place}/deeper")[0] == 2
