import re

import pytest
from trajvit.magvit.model import MAGVIT
from trajvit.reporting import explorer as module
from trajvit.reporting.explorer import FORESEEN, SHOWN, Choice, Explorer, explorer, picture
from trajvit.worlds.config import WorldConfig

WORLD = WorldConfig()


@pytest.fixture(scope="module")
def model():
    return MAGVIT.from_pretrained("compact-30k")


@pytest.mark.parametrize("task", SHOWN)
def test_every_task_is_shown_and_the_oracle_where_it_knows(model, task):
    shown = picture(model, WORLD, Choice(task=task, steps=2))
    assert len(re.findall("<figure", shown)) == (5 if task in FORESEEN else 4)
    assert ("oracle" in shown) == (task in FORESEEN)
    # each drawn path has a place for each frame
    assert {len(line.split()) for line in re.findall(r'polyline points="([^"]*)"', shown)} == {WORLD.frames}


def test_each_change_of_a_control_changes_the_picture(model):
    shown = Explorer(model, WORLD)
    shown.controls["task"].value = "CFP"  # which every control has a say in: guidance is by the class
    changes = {"family": 1, "clip": 7, "given": 2, "sampler": "halton", "steps": 3, "temperature": 2.0, "guidance": 2.0}
    for name, value in changes.items():
        before = re.sub(r"\(\d+\.\d+ s\)", "", shown.shown.value)
        shown.controls[name].value = value
        assert re.sub(r"\(\d+\.\d+ s\)", "", shown.shown.value) != before, name
        assert getattr(shown.choice(), name) == value


def test_how_many_frames_are_given_is_asked_only_for_predictions(model):
    shown = Explorer(model, WORLD)
    shown.controls["task"].value = "IPC"
    assert shown.controls["given"].disabled
    shown.controls["task"].value = "CFP"
    assert not shown.controls["given"].disabled


def test_where_nobody_looks_one_example_stands_in_its_place(model, monkeypatch):
    found = []
    monkeypatch.setattr(module, "display", lambda shown: found.append(shown.data))
    explorer(model, WORLD)
    assert len(found) == 1 and "ten draws of the oracle" in found[0]
