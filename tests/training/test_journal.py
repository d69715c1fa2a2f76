import hashlib
import io
import json

import numpy as np
import pytest
import torch
import trajvit
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trajvit.datasets.loading import batch_rows
from trajvit.datasets.progress import Progress
from trajvit.magvit.generation import SAMPLING
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.quantizers import KINDS, FSQConfig
from trajvit.reporting.live import Gauge
from trajvit.training.health import ailments
from trajvit.training.recipe import Recipe, train

TINY = {"tokenizer_steps": 6, "tokenizer_batch": 4, "transformer_steps": 6, "transformer_batch": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=16)


@pytest.fixture
def looked_at_often(monkeypatch):
    monkeypatch.setattr("trajvit.training.loop.LOG_EVERY", 2)
    monkeypatch.setattr("trajvit.training.journal.LOOKING_SHARE", 1e9)
    generate, once = MAGVIT.generate, SAMPLING.model_copy(update={"tries": 1})  # an untrained one would draw all its tries
    monkeypatch.setattr(MAGVIT, "generate", lambda model, labels: generate(model, labels, decoding=once))


def weights(root):
    return hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest()


def told(folder):
    return json.loads((folder / "PROGRESS.json").read_text())


def test_looking_changes_no_bit_of_the_weights_and_is_told_in_figures_and_pictures(data, tmp_path, request):
    train(Recipe(**TINY), data, tmp_path / "unseen")
    assert "validation_loss" not in told(tmp_path / "unseen" / "tokenizer")["figures"]  # such short work leaves no time to look
    request.getfixturevalue("looked_at_often")
    heard = []
    train(Recipe(**TINY), data, tmp_path / "seen", on_progress=heard.append)
    assert weights(tmp_path / "seen") == weights(tmp_path / "unseen")

    for stage, named, pictures in (
        ("tokenizer", {"reconstruction", "foreground_psnr_db", "blank_psnr_db", "code_usage"}, {"reconstruction": (256, 256)}),
        ("transformer", {"mask", "prediction_centre_error_px", "accuracy"}, {"prediction": (256, 256), "generation": (256, 128)}),
    ):
        folder = tmp_path / "seen" / stage
        record = told(folder)
        always = {"step", "loss", "learning_rate", "samples_per_s", "share_of_peak", "validation_loss", "training_loss"}
        assert always | named <= set(record["figures"]) and record["figures"]["step"] == 6
        assert 0 < record["figures"]["share_of_peak"] < 2 and record["eta_s"] is not None
        assert {name: Image.open(folder / file).size for name, file in record["pictures"].items()} == pictures
        assert Image.open(folder / "PROGRESS.gif").n_frames > 1
        assert "validation loss" in (folder / "PROGRESS.txt").read_text()
        events = EventAccumulator(str(folder / "tensorboard")).Reload()
        shown = {tag for name in pictures for tag in (name, f"{name}, moving")}
        assert set(events.Tags()["images"]) == shown and "look/validation_loss" in events.Tags()["scalars"]
        (moving, *_) = events.Images(f"{next(iter(pictures))}, moving")
        assert Image.open(io.BytesIO(moving.encoded_image_string)).format == "GIF"
    assert any(one.picture for one in heard) and heard[-1].figures


def test_looking_changes_no_codebook(data, tmp_path, request):
    """VQ makes its codebook of the first clips that it encodes, and must not of those that it is looked at with."""
    train(Recipe(**TINY, quantizer="vq"), data, tmp_path / "unseen")
    request.getfixturevalue("looked_at_often")
    model = train(Recipe(**TINY, quantizer="vq"), data, tmp_path / "seen").model
    assert weights(tmp_path / "seen") == weights(tmp_path / "unseen")
    before = {name: value.clone() for name, value in model.tokenizer.state_dict().items()}
    model.encode(torch.rand(8, 1, 8, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.tokenizer.state_dict().items())


def test_a_resumed_training_is_judged_by_the_losses_before_it_too(data, tmp_path, monkeypatch):
    monkeypatch.setattr("trajvit.training.loop.LOG_EVERY", 1)
    judged, recipe, rows = [], Recipe(**TINY, checkpoint_every=2), [batch_rows(16, 4, 0, step) for step in range(5)]
    with monkeypatch.context() as interrupted, pytest.raises(IndexError):  # in the sixth step
        interrupted.setattr("trajvit.training.loop.batch_rows", lambda *_: rows.pop())
        train(recipe, data, tmp_path)
    monkeypatch.setattr("trajvit.training.journal.ailments", lambda losses, *_: judged.append(list(losses)) or [])
    history = train(recipe, data, tmp_path).history["tokenizer"]
    assert [len(losses) for losses in judged[:2]] == [5, 6] and judged[1] == history["loss"]


def test_a_training_that_ends_in_black_is_named_in_the_record_the_widget_and_once_in_the_log(
    data, tmp_path, looked_at_often, monkeypatch
):
    monkeypatch.setattr("trajvit.training.loop.LOG_EVERY", 10)
    monkeypatch.setattr("trajvit.training.objectives.reconstruction_loss", lambda output, *_: output.square().mean())
    # After so few steps black takes too many codes of finer digits to be called a collapse.
    monkeypatch.setitem(KINDS, "fsq", lambda: FSQConfig(levels=(16, 16, 16)))
    recipe = Recipe(**TINY | {"tokenizer_steps": 30, "transformer_steps": 1}, learning_rate=0.04, tokenizer_light=0.0)
    with pytest.warns(UserWarning, match="blank output") as warned:
        train(recipe, data, tmp_path)
    assert sum("blank output" in str(one.message) for one in warned) == 1
    assert any("code collapse: " in str(one.message) for one in warned)  # black takes few codes
    record = told(tmp_path / "tokenizer")
    assert "WARNING blank output: foreground PSNR" in record["note"] and "try " in record["note"]
    gauge = Gauge()
    gauge.show(Progress(**{name: value for name, value in record.items() if name not in ("heartbeat", "host", "pid")}))
    assert "WARNING blank output" in gauge.text.value


def looks(held_out, learnt):
    return [{"validation_loss": float(a), "training_loss": float(b)} for a, b in zip(held_out, learnt, strict=True)]


SOUND = {"foreground_psnr_db": 20.0, "blank_psnr_db": 6.0, "code_usage": 0.4}
FALLING = list(np.geomspace(1, 0.1, 30))


@pytest.mark.parametrize(
    ("losses", "seen", "progress", "name"),
    [
        (FALLING, [SOUND], 0.5, None),
        (FALLING, [SOUND | {"foreground_psnr_db": 6.2}], 0.5, "blank output"),
        (FALLING, [SOUND | {"foreground_psnr_db": 6.2}], 0.01, None),  # it has hardly begun
        (FALLING, [SOUND | {"code_usage": 0.001}], 0.5, "code collapse"),
        ([*FALLING, *np.geomspace(0.1, 0.5, 10)], [], 0.5, "diverging"),
        ([*FALLING, 9.0], [], 0.5, None),  # one bad batch
        ([*FALLING, 0.3, 0.02, 0.4, 0.3, 0.02], [], 0.5, None),  # some of a few clips each, as a classifier sees them
        ([*FALLING, np.nan], [], 0.5, "diverging"),
        ([1.2, 0.5, 0.2, 0.1, 0.03, *[0.01] * 6, *[0.03] * 5], [], 0.5, None),  # near nothing
        (FALLING, looks([1, 0.5, 0.52, 0.55, 0.6], [1, 0.5, 0.4, 0.3, 0.2]), 0.5, "overfitting"),
        (FALLING, looks([1, 0.5, 0.52, 0.55, 0.6], [1, 0.5, 0.52, 0.6, 0.7]), 0.5, None),  # both rise
        (FALLING, looks([1, 0.9, 0.8, 0.7, 0.6], [1, 0.5, 0.4, 0.3, 0.2]), 0.5, None),
    ],
)
def test_each_failure_is_named_and_nothing_else(losses, seen, progress, name):
    found = ailments(losses, seen, progress)
    assert [one.name for one in found] == ([name] if name else [])
    assert all(one.advice and one.shown for one in found)
