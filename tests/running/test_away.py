"""A run that is kept in a bucket, as `run --out s3://…` keeps it."""

import shutil
import time

import pytest
from cloud_server import amazon
from small_runs import states_of
from trajvit.datasets.bucket import Bucket, open_bucket
from trajvit.datasets.progress import watch
from trajvit.running import away
from trajvit.running.cli import main
from trajvit.running.runner import run

COUNT = "from pathlib import Path\nwith open(Path(data_dir) / 'count', 'a') as file: file.write('x')\n"


@pytest.fixture
def parameters(yaml_file, tmp_path):
    (tmp_path / "d").mkdir()
    return str(yaml_file(data_dir=str(tmp_path / "d")))


def test_a_run_grows_in_its_bucket_and_goes_on_from_there_on_an_empty_disk(bucket, notebooks, parameters, tmp_path, monkeypatch):
    monkeypatch.setattr(away, "SEND_S", 0.2)
    monkeypatch.setattr(away, "BEAT_S", 0.1)
    notebooks(**{"01_a": COUNT, "02_b": "import os, signal, time; time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"})
    place, sent = f"{bucket}/mine", []

    def say(line: str) -> None:
        if line.startswith("02_b: failed"):
            sent.extend(Bucket(place).sizes())

    assert run(parameters, [], [], place, say) == 1
    assert {"results/01_a.ipynb", "results/01_a.html", "results/manifest.json", "RESULTS.json", "PROGRESS.json"} <= {*sent}
    assert b"kernel died" in Bucket(place).read("results/02_b.html") and b"kernel died" in Bucket(place).read(
        "results/index.html"
    )
    (told,) = next(watch(Bucket(place)))
    assert told.progress.state == "failed" and (told.progress.done, told.progress.total) == (1, 2)

    (copy,) = (tmp_path / "runs").glob("mine-*")
    shutil.rmtree(tmp_path / "runs")
    notebooks(**{"02_b": COUNT})
    assert main(["run", parameters, "--out", place, "--dry-run"]) == 0 and not copy.exists()
    assert run(parameters, [], [], place, say) == 0
    assert states_of(copy) == ["done", "done"] and (tmp_path / "d" / "count").read_text() == "xx"
    assert (copy / "01_a.ipynb").read_bytes() == Bucket(place).read("results/01_a.ipynb")
    (told,) = next(watch(Bucket(place)))
    assert told.progress.state == "done"
    assert main(["run", parameters, "--out", place, "--set", "seed=1"]) == 2, "another run is not overwritten"


def test_what_could_not_be_sent_is_put_aside_not_deleted(cloud, bucket, notebooks, parameters, tmp_path, capsys):
    notebooks(**{"01_a": COUNT})
    place = f"{bucket}/mine"
    assert main(["run", parameters, "--out", place]) == 0
    (copy,) = (tmp_path / "runs").glob("mine-*")
    notebooks(**{"02_b": f"open({str(copy / 'hours_of_work')!r}, 'w').close()\n"})
    whole = cloud.app

    def cut_off(request, respond):
        if (copy / "hours_of_work").exists() and request["REQUEST_METHOD"] == "PUT" and "/results/" in request["PATH_INFO"]:
            respond("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>AccessDenied</Message></Error>"]
        return whole(request, respond)

    cloud.app = cut_off
    try:
        assert main(["run", parameters, "--out", place]) == 1
    finally:
        cloud.app = whole
    notebooks(**{"02_b": COUNT})
    assert main(["run", parameters, "--out", place]) == 0
    (aside,) = (tmp_path / "runs").glob("mine-*-unsent-*")
    assert (aside / "hours_of_work").exists() and not (copy / "hours_of_work").exists()
    assert f"{aside} holds what could not be sent" in "".join(capsys.readouterr())


def test_a_lock_that_another_took_over_meanwhile_is_no_leave_to_send(bucket, cloud):
    with Bucket(f"{bucket}/mine").lock("machine") as check_lock:
        check_lock()
        Bucket(f"{bucket}/mine").write("_lock/machine", b"another's")
        with pytest.raises(OSError, match="was taken over by another process"):
            check_lock()
    assert Bucket(f"{bucket}/mine").read("_lock/machine") == b"another's"


def test_a_lock_that_another_took_over_unnoticed_is_not_given_up_for_it(bucket):
    with Bucket(f"{bucket}/mine").lock("machine"):
        Bucket(f"{bucket}/mine").write("_lock/machine", b"another's")
    assert Bucket(f"{bucket}/mine").read("_lock/machine") == b"another's"


def test_a_run_whose_place_another_machine_takes_over_is_not_gone_on_with(bucket, notebooks, parameters, monkeypatch, capsys):
    monkeypatch.setattr(away, "SEND_S", 0.2)
    monkeypatch.setattr(away, "BEAT_S", 0.1)
    place = f"{bucket}/mine"
    taking = f"Bucket({place!r}).write('_lock/machine', b'another')"
    notebooks(**{"01_a": f"import time\nfrom trajvit.datasets.bucket import Bucket\n{taking}\ntime.sleep(300)"})
    began = time.monotonic()
    assert main(["run", parameters, "--out", place]) == 1
    assert time.monotonic() - began < 150 and Bucket(place).read("_lock/machine") == b"another"
    assert "was taken over by another process" in capsys.readouterr().err


def test_a_run_that_another_machine_is_at_is_left_alone(bucket, notebooks, parameters, capsys):
    notebooks(**{"01_a": COUNT})
    with Bucket(f"{bucket}/mine").lock("machine"):
        assert main(["run", parameters, "--out", f"{bucket}/mine"]) == 2
    assert "is being written by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("s3://there-is-no-such-bucket/x", "there is no such bucket"),
        ("s3://A_b/x", "is not a place for runs"),
        ("s3://bucket/../x", "is not a place for runs"),
        ("s3://bucket/$(touch x)", "is not a place for runs"),
        ("s3:/bucket/x", "is not a place for runs"),
    ],
)
def test_a_wrong_place_is_refused_in_one_line_before_any_work(cloud, notebooks, parameters, tmp_path, capsys, place, says):
    notebooks(**{"01_a": COUNT})
    assert main(["run", parameters, "--out", place]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_bucket_that_denies_access_is_refused_before_any_work(cloud, bucket, notebooks, parameters, tmp_path, capsys):
    notebooks(**{"01_a": COUNT})
    open_bucket.cache_clear()
    with cloud.making(refuses="AccessDenied"):
        assert main(["run", parameters, "--out", f"{bucket}/denied"]) == 2
    said = capsys.readouterr().err
    assert "access denied" in said and said.count("\n") == 1 and not (tmp_path / "runs").exists()
    assert amazon("s3").list_objects_v2(Bucket=bucket.split("/")[2]).get("KeyCount") == 0


def test_a_bucket_that_may_only_be_read_is_refused_before_any_work(cloud, bucket, notebooks, parameters, tmp_path, capsys):
    """The lock is the first that is written."""
    notebooks(**{"01_a": COUNT})
    name = bucket.split("/")[2]
    real = cloud.app

    def read_only(request, respond):
        if request["REQUEST_METHOD"] == "PUT":
            respond("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>AccessDenied</Message></Error>"]
        return real(request, respond)

    cloud.app = read_only
    try:
        assert main(["run", parameters, "--out", f"s3://{name}/read-only"]) != 0
    finally:
        cloud.app = real
    said = capsys.readouterr().err
    assert "access denied" in said and said.count("\n") == 1 and not (tmp_path / "runs").exists()
