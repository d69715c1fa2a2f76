"""Models that come with the repository: by name, from its own folder, with what is said of them."""

import json

import pytest
import torch
from safetensors import safe_open
from trajvit import MAGVIT
from trajvit.evaluation.pixel_predictors import KINDS, PixelPredictorConfig
from trajvit.magvit import published
from trajvit.settings import InputError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_a_published_model_is_found_by_its_name_wherever_one_stands(shelf, little_magvit, tmp_path, monkeypatch):
    little_magvit.save_pretrained(shelf / "own-30k")
    monkeypatch.chdir(tmp_path)
    loaded = MAGVIT.from_pretrained("own-30k")
    assert torch.equal(loaded.generate([1], seed=3), little_magvit.generate([1], seed=3))


def test_a_folder_of_the_users_own_is_not_taken_for_a_published_model(shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (shelf / "empty").mkdir(parents=True)
    for name in ("mine", "empty", "weights/own-30k", "../weights"):
        assert published.located(name) == name


def test_who_asks_for_an_unknown_model_is_told_which_there_are(shelf, little_magvit):
    little_magvit.save_pretrained(shelf / "own-30k")
    with pytest.raises(InputError, match=r"there is no model at .*own-31k.* own-30k"):
        MAGVIT.from_pretrained("own-31k")


@pytest.mark.parametrize("name", published.published())
def test_each_model_that_comes_along_is_whole_small_and_described(name):
    folder = published.WEIGHTS / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20e6
    rivals = {f"{kind}.safetensors" for kind in KINDS}
    assert {file.name for file in folder.iterdir()} - rivals == {"README.md", "config.json", "model.safetensors", "training.json"}
    trained_on = json.loads((folder / "training.json").read_text())["data"]
    card = (folder / "README.md").read_text()
    assert f"{trained_on['samples']:,}" in card and trained_on["world"]["variety"] in card
    clips = MAGVIT.from_pretrained(name).generate([0, 1, 2, 3])
    assert clips.shape[0] == 4 and clips.max() > 0.5


@pytest.mark.parametrize(
    ("name", "kind"), [(file.parent.name, kind) for kind in KINDS for file in published.rivals(kind)], ids=lambda of: of
)
def test_a_rival_that_comes_along_learnt_what_its_model_learnt(name, kind):
    folder = published.WEIGHTS / name
    with safe_open(folder / f"{kind}.safetensors", "pt") as stored:
        learnt = json.loads(stored.metadata()["learnt"])
    made = json.loads((folder / "training.json").read_text())
    assert learnt["data"] == made["data"] and learnt["recipe"].items() <= made["recipe"].items()
    steps, seed = learnt["predictor"]["steps"], made["recipe"]["seed"]
    assert learnt["predictor"] == PixelPredictorConfig(kind=kind, steps=steps, seed=seed).model_dump()
    assert f"{kind}.safetensors" in (card := (folder / "README.md").read_text()) and f"{steps:,} steps" in card
