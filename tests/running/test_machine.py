"""What a rented machine does: its script is run for real, against moto's S3, in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from cloud_server import REGION, amazon, clone, git, machines, script, tags
from harness import wait_until
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trajvit.datasets import bucket as buckets
from trajvit.datasets.bucket import Bucket
from trajvit.datasets.progress import watch
from trajvit.running import ec2, machine
from trajvit.running.archive import pack
from trajvit.running.mirror import INDEX, Mirror
from trajvit.running.places import NOTEBOOKS
from trajvit.running.user_data import FIRST, user_data


@pytest.fixture
def boot(cloud, tmp_path):
    """Starts a machine with nothing on it but Python: the script as Amazon would run it, and what it told shutdown(8)."""
    told, programs = tmp_path / "shutdowns", tmp_path / "programs"
    programs.mkdir()
    told.touch()

    def program(name: str, text: str) -> Path:
        path = programs / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path

    settings = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TRAJVIT_PYTHON": sys.executable,
        "TRAJVIT_SHUTDOWN": str(program("shutdown-here", f'echo "$@" >> {told}')),
        "TRAJVIT_BOOTS": str(tmp_path / "per-boot"),
        "TRAJVIT_HOME": str(tmp_path / "machine"),
    }
    kept = ("AWS_", "OMP_", "NUMBA_")

    def booted(text: str, **changed: str) -> subprocess.Popen:
        shutil.rmtree(tmp_path / "machine", ignore_errors=True)
        environment = {name: value for name, value in os.environ.items() if name.startswith(kept)} | settings | changed
        return subprocess.Popen(
            ["bash", "-s"], stdin=_file(tmp_path, text), env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )

    booted.program, booted.home = program, tmp_path / "machine"
    booted.shutdowns = lambda: told.read_text().splitlines()
    return booted


def _file(folder: Path, text: str):
    (folder / "user-data").write_text(text)
    return open(folder / "user-data")


def ended(process: subprocess.Popen, limit_s: float = 400) -> tuple[int, str]:
    out, _ = process.communicate(timeout=limit_s)
    return process.returncode, out


def upload(place: str, repository: Path, parameters: str = "{}") -> None:
    Bucket(place).write("source.tar.gz", pack(repository).content)
    Bucket(place).write("parameters.yaml", parameters.encode())


TINY = """samples: 32
eval_samples: 16
data_dir: data/tiny
ladder: [32]
generated: 8
futures: 4
pixel_steps: 0
autoregressive_steps: 0
"""


def test_a_run_whose_spot_machine_is_taken_away_is_finished_by_another(launch, bucket, boot, metadata, repository, tmp_path):
    """From `ec2 launch` to the reports of all notebooks."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert launch("--spot", "--yes", params=str(tmp_path / "tiny.yaml"))[0] == 0
    (rented,) = machines()
    place = tags(rented)["trajvit:place"]
    run = place.rpartition("/")[2]
    metadata.status = 404  # nobody takes it back yet
    process = boot(script(rented))
    manifest = boot.home / "source" / "reports" / "runs" / run / "manifest.json"
    wait_until(lambda: manifest.exists() and '"done"' in manifest.read_text(), 200, "the first notebook")
    metadata.status = 200
    code, out = ended(process)
    assert code == 75 and boot.shutdowns() == ["-h +480", "-h now"], out
    (told,) = next(watch(Bucket(place)))
    assert told.progress.state == "interrupted" and "takes the spot machine back" in told.progress.note
    assert {"source.tar.gz", "parameters.yaml", "machine.log", "PROGRESS.txt", INDEX} <= Bucket(place).names()
    assert json.loads(Bucket(place).read("results/manifest.json"))["notebooks"][0]["state"] == "done"
    amazon("ec2").terminate_instances(InstanceIds=[rented["InstanceId"]])

    metadata.status = 404
    assert launch("--spot", "--yes", params=None, resume=run)[0] == 0
    code, out = ended(boot(script(machines()[0])))
    assert code == 0 and boot.shutdowns() == ["-h +480", "-h now"] * 2, out
    assert "0 files brought back" not in out and "files brought back" in out
    (told,) = next(watch(Bucket(place)))
    assert (told.progress.state, told.progress.done) == ("done", 4)
    results = {key.removeprefix("results/") for key in Bucket(place).sizes("results")}
    assert {"index.html", "metrics.json", *(f"{path.stem}.html" for path in NOTEBOOKS.glob("0[1-9]*.ipynb"))} <= results
    assert results == set(json.loads(Bucket(place).read(INDEX)))
    made = json.loads(Bucket(place).read("results/manifest.json"))
    assert made["state"] == "done" and made["git"] == {"commit": pack(repository).commit, "dirty": False}
    assert b"04_evaluate: done" in Bucket(place).read("machine.log")
    assert not Bucket(place).sizes("_lock")


def test_a_run_that_fails_says_why_on_s3_and_still_ends_its_machine(cloud, bucket, boot, tmp_path):
    repository = clone(tmp_path / "repository")
    first = repository / "notebooks" / "01_generate_data.ipynb"
    notebook = json.loads(first.read_text())
    imports = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][1]
    imports["source"] = "raise RuntimeError('the lens broke')"
    first.write_text(json.dumps(notebook))
    git(repository, "commit", "-qam", "breaks")
    place = f"{bucket}/broken"
    upload(place, repository)
    code, out = ended(boot(user_data(place, REGION, 1.0)))
    assert code == 1 and boot.shutdowns() == ["-h +60", "-h now"], out
    (told,) = next(watch(Bucket(place)))
    assert told.progress.state == "failed" and "RuntimeError: the lens broke" in told.progress.note
    assert json.loads(Bucket(place).read("results/manifest.json"))["state"] == "failed"
    assert b"the lens broke" in Bucket(place).read("results/index.html")
    assert b"trajvit run ended with 1" in Bucket(place).read("machine.log") or "trajvit run ended with 1" in out


def test_a_machine_that_cannot_be_set_up_ends_all_the_same(cloud, bucket, boot):
    for name in ("dnf", "sleep"):
        boot.program(name, "true")
    boot.program("pip-calls", f'echo "$@" >> {boot.home}/pip-calls; exit 1')
    boot.program("python3.11", f"mkdir -p venv/bin && ln -s {boot.home.parent}/programs/pip-calls venv/bin/python")
    code, out = ended(boot(user_data(f"{bucket}/r", REGION, 0.5), TRAJVIT_PYTHON=""))
    assert code == 1 and boot.shutdowns() == ["-h +30", "-h now"], out
    calls = (boot.home / "pip-calls").read_text().splitlines()
    assert len(calls) == 3 and calls[0].startswith("-m pip install") and all(f" {name}==" in calls[0] for name in FIRST)


def test_a_machine_that_boots_once_more_ends(cloud, bucket, boot, tmp_path):
    """Its planned end would be forgotten, and its script does not run again."""
    ended(boot(user_data(f"{bucket}/nothing-there", REGION, 0.5)))
    subprocess.run([tmp_path / "per-boot" / "trajvit"], check=True)
    assert boot.shutdowns() == ["-h +30", "-h now", "-h now"]


def test_a_machine_whose_source_is_not_there_ends_all_the_same(cloud, bucket, boot):
    code, out = ended(boot(user_data(f"{bucket}/nothing-there", REGION, 0.5)))
    assert code == 1 and boot.shutdowns() == ["-h +30", "-h now"], out


def test_a_second_machine_leaves_a_run_alone_that_another_is_at(bucket, tmp_path):
    place = f"{bucket}/r"
    (tmp_path / "p.yaml").write_text("{}")
    with Bucket(place).lock("machine"):
        command = [sys.executable, "-m", "trajvit.running.machine", place, str(tmp_path / "p.yaml")]
        ending = subprocess.run(command, capture_output=True, text=True)
    assert ending.returncode == 2 and "is being written by process" in ending.stdout and ending.stdout.count("\n") == 1
    assert not Bucket(place).sizes()


def required(names) -> set[str]:
    """Packages and all that they require."""
    found, new = set(), {canonicalize_name(name) for name in names}
    while new:
        found |= new
        needs = [Requirement(line) for name in new for line in requires(name) or []]
        new = {canonicalize_name(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})} - found
    return found


def test_what_a_machine_imports_is_what_is_installed_first():
    code = "import sys, trajvit.running.machine; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = packages_distributions()
    used = {canonicalize_name(package) for name in loaded for package in packages.get(name, [])} - {"trajvit", "setuptools"}
    assert {"pydantic"} <= used <= required(FIRST), used - required(FIRST)


# The machine's own supervision, with short commands


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(machine, "BEAT_S", 0.1)
    monkeypatch.setattr(machine, "SEND_S", 0.1)


def shell(text: str) -> list[str]:
    return ["bash", "-c", text, "run"]


def supervise(place: str, out: Path, *commands: list[str], why_leave: Callable[[], str] = lambda: "") -> None:
    out.mkdir(parents=True, exist_ok=True)
    machine.work(Bucket(place), out, None, list(commands), why_leave)


def state(place: str) -> tuple[str, str]:
    (told,) = next(watch(Bucket(place)))
    return told.progress.state, told.progress.note


def test_results_are_on_s3_while_the_run_goes_on(bucket, tmp_path, quick):
    out, place = tmp_path / "r", f"{bucket}/r"
    done = tmp_path / "go"
    command = shell(f"echo one > {out}/one; until [ -e {done} ]; do sleep 0.05; done; echo two > {out}/two")
    thread = threading.Thread(target=supervise, args=(place, out, command))
    thread.start()
    wait_until(lambda: "results/one" in Bucket(place).sizes("results"), what="the first result")
    assert state(place)[0] == "running" and "results/two" not in Bucket(place).sizes("results")
    done.touch()
    thread.join()
    assert Bucket(place).read("results/two") == b"two\n" and state(place)[0] == "done"


def test_hours_that_are_over_stop_the_run_in_time_and_send_what_it_has(bucket, tmp_path, quick):
    out, place, over = tmp_path / "r", f"{bucket}/r", time.monotonic() + 1
    stopped = shell(f"trap 'echo stopped > {out}/last; exit 75' TERM; while true; do sleep 0.05; done")
    with pytest.raises(machine.Leaving):
        supervise(place, out, stopped, why_leave=lambda: machine._why_leave(over, []))
    assert Bucket(place).read("results/last") == b"stopped\n"
    assert state(place) == ("interrupted", "Leaving: its hours are over")


def test_a_run_that_does_not_stop_is_stopped(bucket, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(machine, "STOPPING_S", 0.5)
    begun = time.monotonic()
    with pytest.raises(machine.Leaving, match="told to stop"):
        deaf = shell("trap '' TERM; while true; do sleep 0.05; done")
        supervise(f"{bucket}/r", tmp_path / "r", deaf, why_leave=lambda: machine._why_leave(float("inf"), [15]))
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("code", "state_", "note"),
    [
        (3, "failed", "NO-GO"),
        (2, "failed", "refused its parameters"),
        (75, "interrupted", "was interrupted"),
        (137, "failed", "137"),
    ],
)
def test_how_the_run_ended_is_told(bucket, tmp_path, quick, code, state_, note):
    with pytest.raises((machine.Failed, machine.Leaving)):
        supervise(f"{bucket}/r", tmp_path / "r", shell(f"exit {code}"), shell("touch never"))
    told = state(f"{bucket}/r")
    assert told[0] == state_ and note in told[1] and not Path("never").exists()


def test_a_bucket_that_is_away_for_a_while_does_not_stop_the_run(cloud, bucket, tmp_path, quick):
    out, place = tmp_path / "r", f"{bucket}/r"
    patient = Bucket(place, buckets.LITTLE_PATIENCE)
    out.mkdir()
    thread = threading.Thread(target=machine.work, args=(patient, out, None, [shell(f"echo 1 > {out}/one; sleep 6")], lambda: ""))
    thread.start()
    wait_until(lambda: (out / "one").exists(), what="the run")
    with cloud.making(fails=1):
        time.sleep(4)
    thread.join()
    assert Bucket(place).read("results/one") == b"1\n" and state(place)[0] == "done"


def test_the_installation_comes_before_the_run_and_ends_with_the_hours(bucket, tmp_path, monkeypatch):
    (tmp_path / "p.yaml").write_text("{}")
    seen = {}
    monkeypatch.setattr(
        machine, "work", lambda *given: seen.update(zip(("bucket", "out", "log", "commands", "why"), given, strict=True))
    )
    monkeypatch.setattr(machine.signal, "signal", lambda *_: None)
    machine.main([f"{bucket}/r", str(tmp_path / "p.yaml"), "--install", "--seconds", "0"], standalone_mode=False)
    install, run = seen["commands"]
    assert install[1:4] == ["-m", "pip", "install"] and install[-2:] == ["-r", "requirements.txt"]
    assert run[2:5] == ["trajvit", "run", str(tmp_path / "p.yaml")] and run[-1].endswith("reports/runs/r")
    assert seen["why"]() == "its hours are over"


# What is brought back


def fill(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_as_it_was_without_what_is_being_written(bucket, tmp_path):
    here = fill(
        tmp_path / "here", a="1", sub__b="22", empty="", sub___tmp__c="no", _lock__d="no", _host__e="yes", sub___part="no"
    )
    Mirror(Bucket(f"{bucket}/r"), here).send()
    there = tmp_path / "there"
    assert Mirror(Bucket(f"{bucket}/r"), there).bring() == 4
    assert texts(there) == {"a": "1", "sub/b": "22", "empty": "", "_host/e": "yes"}


def test_the_manifest_goes_after_what_it_says_is_done(bucket, tmp_path, monkeypatch):
    here = fill(tmp_path / "here", **{"manifest.json": "{}", "z": "1", "02.ipynb": "2", "sub__a": "3"})
    sent, real = [], Bucket.send
    monkeypatch.setattr(Bucket, "send", lambda self, key, path: (sent.append(path.name), real(self, key, path)))
    Mirror(Bucket(f"{bucket}/r"), here).send()
    assert len(sent) == 4 and sent[-1] == "manifest.json"


def test_what_lay_there_before_the_first_copy_is_sent_too(bucket, tmp_path):
    here, place = fill(tmp_path / "here", a="1"), Bucket(f"{bucket}/r")
    mirror = Mirror(place, here)
    assert mirror.bring() == 0
    mirror.send()
    assert Mirror(place, tmp_path / "there").bring() == 1 and texts(tmp_path / "there") == {"a": "1"}


def test_only_what_has_changed_is_sent_and_what_is_gone_is_deleted(cloud, bucket, tmp_path):
    here, place = fill(tmp_path / "here", a="1", b="2"), Bucket(f"{bucket}/r")
    mirror = Mirror(place, here)
    mirror.send()
    cloud.changes.clear()
    mirror.send()
    assert not cloud.changes
    fill(here, a="other", c="3")
    (here / "b").unlink()
    mirror.send()
    assert place.sizes("results").keys() == {"results/a", "results/c"} and place.read("results/a") == b"other"
    again = Mirror(place, tmp_path / "again")
    again.bring()
    cloud.changes.clear()
    again.send()
    assert not cloud.changes


def test_a_copy_cut_short_leaves_the_last_whole_checkpoint_and_never_half_of_one(cloud, bucket, tmp_path, monkeypatch):
    here, place = fill(tmp_path / "here", step_1__state="1", step_1__identity="1"), Bucket(f"{bucket}/r")
    mirror = Mirror(place, here)
    mirror.send()
    fill(here, step_2__state="2", step_2__identity="2")
    shutil.rmtree(here / "step_1")
    send = Bucket.send

    def cut(self, key, path):
        if key == "results/step_2/state":
            raise OSError("the machine is gone")
        send(self, key, path)

    monkeypatch.setattr(Bucket, "send", cut)
    with pytest.raises(OSError, match="gone"):
        mirror.send()
    Mirror(place, tmp_path / "there").bring()
    assert texts(tmp_path / "there") == {"step_1/state": "1", "step_1/identity": "1"}


def test_the_manifest_goes_after_the_list_of_what_it_vouches_for(bucket, tmp_path, monkeypatch):
    here, place = fill(tmp_path / "here", page="1"), Bucket(f"{bucket}/r")
    (here / "manifest.json").write_text("page 1 is done")
    mirror = Mirror(place, here)
    mirror.send()
    assert json.loads(place.read(INDEX)) == ["manifest.json", "page"]
    fill(here, other="2")
    (here / "manifest.json").write_text("both are done")
    write = Bucket.write

    def cut(self, key, content):
        if key == INDEX:
            raise OSError("the machine is gone")
        write(self, key, content)

    monkeypatch.setattr(Bucket, "write", cut)
    with pytest.raises(OSError, match="gone"):
        mirror.send()
    assert place.read("results/manifest.json") == b"page 1 is done"
    monkeypatch.undo()
    mirror.send()
    Mirror(place, tmp_path / "there").bring()
    assert texts(tmp_path / "there") == {"page": "1", "other": "2", "manifest.json": "both are done"}


def test_a_checkpoint_that_is_dropped_while_it_is_sent_is_not_listed(bucket, tmp_path, monkeypatch):
    here, place = fill(tmp_path / "here", a__state="1", b__state="2"), Bucket(f"{bucket}/r")
    send = Bucket.send

    def dropped(self, key, path):
        send(self, key, path)
        shutil.rmtree(here / ("b" if key == "results/a/state" else "a"), ignore_errors=True)

    monkeypatch.setattr(Bucket, "send", dropped)
    Mirror(place, here).send()
    (left,) = texts(here)
    assert json.loads(place.read(INDEX)) == [left]


def test_large_files_go_and_come_in_parts(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "PART", 21 * 2**20)
    content = os.urandom(22 * 2**20)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "big").write_bytes(content)
    Mirror(Bucket(f"{bucket}/r"), tmp_path / "here").send()
    Mirror(Bucket(f"{bucket}/r"), tmp_path / "there").bring()
    assert (tmp_path / "there" / "big").read_bytes() == content


@pytest.mark.parametrize("key", ["../outside", "/etc/outside", "sub/../../outside"])
def test_a_list_that_points_elsewhere_is_refused(bucket, tmp_path, key):
    place = Bucket(f"{bucket}/r")
    place.write(INDEX, json.dumps([key]).encode())
    with pytest.raises(OSError, match="is not in"):
        Mirror(place, tmp_path / "there").bring()
    assert not list(tmp_path.rglob("outside"))


def test_the_policy_is_enough_for_a_machine_and_for_nothing_else(bucket, tmp_path, quick, monkeypatch):
    """moto enforces it, but knows no condition on listings, and takes a deletion by list for one of the bucket."""
    from moto.core.authorization import ActionAuthenticatorMixin

    iam = amazon("iam")
    allowed = ec2.policy(bucket)
    listing, inside = allowed["Statement"]
    del listing["Condition"]
    inside["Resource"] = [inside["Resource"], listing["Resource"]] if "s3:DeleteObject" in inside["Action"] else []
    iam.create_user(UserName="machine")
    iam.put_user_policy(UserName="machine", PolicyName="runs", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName="machine")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    out = fill(tmp_path / "r", gone="1")
    supervise(f"{bucket}/r", out, shell(f"rm {out}/gone; echo 1 > {out}/one"))
    Mirror(Bucket(f"{bucket}/r"), tmp_path / "there").bring()
    assert texts(tmp_path / "there") == {"one": "1\n"}
    for call in (lambda other: other.write("x", b""), lambda other: other.read("x")):
        with pytest.raises(OSError, match="access denied"):
            call(Bucket(bucket.replace("/lab/runs", "/elsewhere"), buckets.LITTLE_PATIENCE))
