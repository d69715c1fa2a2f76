import subprocess

import pytest
import yaml
from trajvit.running import machine
from trajvit.running.parameters import read_parameters
from trajvit.running.places import ROOT

FILE = ROOT / "lib" / "trajvit" / "running" / "skypilot.yaml"
PLACE = "s3://bucket/prefix/run"


@pytest.fixture
def task():
    return yaml.safe_load(FILE.read_text())


def test_the_task_asks_for_spot_machines_and_is_recovered_where_it_was_interrupted(task):
    assert task.keys() == {"name", "workdir", "resources", "envs", "setup", "run"}
    assert task["resources"]["use_spot"] is True and task["resources"]["job_recovery"] == {"recover_on_exit_codes": 75}
    assert task["envs"]["PLACE"] is None  # SkyPilot asks for it
    read_parameters(ROOT / task["envs"]["PARAMS"], [])


def test_the_task_runs_the_command_that_ec2_runs(task, monkeypatch):
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0
    interpreter, *words = task["run"].split()
    assert interpreter.endswith("/bin/python") and words == ["-m", "trajvit.running.machine", '"$PLACE"', '"$PARAMS"']
    asked = []
    monkeypatch.setattr(machine.signal, "signal", lambda *_: None)
    monkeypatch.setattr(machine, "open_bucket", lambda place: place)
    monkeypatch.setattr(machine, "work", lambda *given: asked.extend(given))
    assert machine.main([PLACE, str(ROOT / task["envs"]["PARAMS"])], standalone_mode=False) == 0
    assert asked[0] == PLACE and asked[3][0][2:4] == ["trajvit", "run"]


def test_skypilot_itself_accepts_the_task(task, monkeypatch):
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed: pip install -e '.[sky]'")
    monkeypatch.chdir(ROOT)
    task["envs"]["PLACE"] = PLACE
    accepted = sky.Task.from_yaml_config(task)
    assert accepted.name == "trajvit" and all(resources.use_spot for resources in accepted.resources)
