"""Training on a machine that may be taken away, beside a metadata server that is one or goes wrong."""

import hashlib
import json
import threading
import time

import pytest
import trajvit
from trajvit.training import spot
from trajvit.training.recipe import Recipe, train

TINY = {"tokenizer_steps": 30, "tokenizer_batch": 4, "transformer_steps": 4, "transformer_batch": 4, "checkpoint_every": 100}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody is; the machine's own address needs no proxy
    monkeypatch.setattr(spot, "POLL_S", 0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=16)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train(Recipe(**TINY), data, out)
    return weights(out)


def weights(root):
    return hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest()


def test_a_spot_notice_ends_training_in_a_checkpoint_and_the_same_call_continues(data, whole, tmp_path, metadata):
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match=r"Amazon takes the spot machine back .terminate at 2026"):
        train(Recipe(**TINY), data, tmp_path)
    assert time.monotonic() - begun < 10
    told = json.loads((tmp_path / "tokenizer" / "PROGRESS.json").read_text())
    assert told["state"] == "interrupted" and "spot machine" in told["note"] and 0 < told["done"] < 30
    assert len(list((tmp_path / "tokenizer" / "checkpoints").iterdir())) == 1
    metadata.vanish()
    train(Recipe(**TINY), data, tmp_path)
    assert weights(tmp_path) == whole


@pytest.mark.parametrize(
    "said",
    [
        {"status": 404, "body": b""},
        {"body": b"<html>Welcome to our Wi-Fi</html>"},
        {"body": b"\xff\x00" * 10_000},
        {"body": b'["action"]'},
        {"body": b'{"action": ["stop"]}'},
        {"token": b"two\r\nlines"},
    ],
    ids=["no notice", "a page", "bytes", "a list", "a strange action", "a strange token"],
)
def test_a_server_that_answers_nonsense_gives_no_notice(metadata, said):
    for name, value in said.items():
        setattr(metadata, name, value)
    assert spot.spot_notice() == ""


def test_training_goes_on_beside_a_server_that_answers_nonsense_and_vanishes(data, whole, tmp_path, metadata):
    metadata.body = b"nonsense"
    train(Recipe(**TINY), data, tmp_path, on_progress=lambda told: metadata.vanish() if told.done == 20 else None)
    assert metadata.asked > 2 and weights(tmp_path) == whole


def test_a_silent_server_is_not_waited_for(monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        begun = time.monotonic()
        with spot.spot_watched(lambda why: None):
            pass
        assert time.monotonic() - begun < 0.5
        assert spot.spot_notice() == "" and time.monotonic() - begun < 3


@pytest.mark.parametrize(("vendor", "asks"), [("Amazon EC2\n", True), ("Apple Inc.\n", False), (None, False)])
def test_only_a_machine_of_ec2_asks(monkeypatch, tmp_path, vendor, asks):
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", raising=False)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    if vendor:
        (tmp_path / "vendor").write_text(vendor)
    monkeypatch.setattr(spot, "MARKS", ((tmp_path / "vendor", "amazon ec2"),))
    told = threading.Event()
    monkeypatch.setattr(spot, "spot_notice", lambda: told.set() or "now")
    with spot.spot_watched(lambda why: None):
        assert told.wait(10 if asks else 0.3) == asks


def test_the_usual_switch_turns_asking_off(metadata, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "True")
    with spot.spot_watched(lambda why: pytest.fail("asked")):
        time.sleep(0.1)
    assert spot.spot_notice() == "" and metadata.asked == 0
