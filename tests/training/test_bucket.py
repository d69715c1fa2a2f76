"""A training whose place is a bucket: moto's S3 behind a real HTTP server."""

import boto3
import pytest
import torch
import trajvit
from bucket_server import Server
from trajvit import MAGVIT
from trajvit.datasets import bucket as buckets
from trajvit.datasets.bucket import Bucket, open_bucket
from trajvit.datasets.loading import batch_rows
from trajvit.running.parameters import Parameters
from trajvit.running.stations import described, evaluated
from trajvit.settings import InputError
from trajvit.training.recipe import Recipe, train

TINY = {"tokenizer_steps": 6, "tokenizer_batch": 4, "transformer_steps": 6, "transformer_batch": 4, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def server():
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="trainings")
        yield server
    server.close()


class Killed(Exception):
    pass


def test_a_training_in_a_bucket_goes_on_on_another_machine_and_ends_with_the_same_weights(server, tmp_path, monkeypatch):
    import trajvit.training.loop as loop

    data, place = trajvit.generate(out=tmp_path / "data", samples=16), "s3://trainings/some/model"
    whole = train(Recipe(**TINY), data, tmp_path / "whole").model
    drawn = iter(range(100))

    def rows_until_killed(*arguments):
        if next(drawn) == 9:
            raise Killed
        return batch_rows(*arguments)

    monkeypatch.setattr(loop, "batch_rows", rows_until_killed)
    with pytest.raises(Killed):
        train(Recipe(**TINY), data, place)
    monkeypatch.setattr(loop, "batch_rows", batch_rows)
    there = Bucket(place).sizes()
    assert {f"transformer/checkpoints/step_0000000{step}.ckpt" for step in (2,)} <= there.keys() and "config.json" not in there
    newest = Bucket(f"{place}/transformer")
    newest.write("checkpoints/step_00000002.ckpt", newest.read("checkpoints/step_00000002.ckpt")[:-9])
    with pytest.warns(UserWarning, match=r"s3://.*step_00000002.ckpt is damaged"), pytest.raises(InputError, match="delete"):
        train(Recipe(**TINY), data, place)
    newest.delete("checkpoints/step_00000002.ckpt")

    train(Recipe(**TINY), data, place)  # nothing of it is on this machine's disk
    model = MAGVIT.from_pretrained(place)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values(), strict=True))
    assert Bucket(place).read("model.safetensors") == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert Bucket(place).read("training.json") == (tmp_path / "whole" / "training.json").read_bytes()
    assert {f'checkpoint="{place}"', 'variety="textbook"', "samples=16"} <= set(described(place))
    name, evaluated_model, *_ = evaluated(Parameters(checkpoint=place, samples=16, data_dir=str(tmp_path / "own")))
    assert name == place and evaluated_model.config == model.config
    there = Bucket(place).sizes()
    assert sorted(key for key in there if "tokenizer/checkpoints" in key)[-1].endswith("step_00000006.ckpt")
    assert any(key.startswith("transformer/tensorboard/events") for key in there) and "transformer/PROGRESS.json" in there
    assert not any("/_lock/" in key or "/_tmp/" in key for key in there)


def test_a_training_whose_lock_another_took_over_writes_no_checkpoint(server, tmp_path, monkeypatch):
    """This machine slept, and another went on."""
    data, place = trajvit.generate(out=tmp_path / "data", samples=16), "s3://trainings/taken"

    def taken_over(*arguments):
        Bucket(f"{place}/tokenizer").write("_lock/train", b'{"host": "elsewhere", "pid": 7, "token": "another"}')
        return batch_rows(*arguments)

    monkeypatch.setattr("trajvit.training.loop.batch_rows", taken_over)
    with pytest.raises(OSError, match="was taken over by another process"):
        train(Recipe(**TINY), data, place)
    assert not any("checkpoints" in key for key in Bucket(place).sizes())
    assert b"elsewhere" in Bucket(f"{place}/tokenizer").read("_lock/train")


def test_a_bucket_that_does_not_answer_is_no_damaged_checkpoint(server):
    from trajvit.training.checkpoints import load_newest, save_checkpoint

    place = open_bucket("s3://trainings/other")
    save_checkpoint(place, 1, {"step": 1}, {})
    with server.making(refuses="AccessDenied"), pytest.raises(OSError, match="access denied"):
        load_newest(place, {})
    assert load_newest(place, {}) == {"step": 1}


def test_what_is_too_large_for_one_request_goes_and_comes_in_parts(server, monkeypatch):
    monkeypatch.setattr(buckets, "PART", 20 * 2**20)
    content = bytes(range(256)) * 90_000  # 22 MiB
    Bucket("s3://trainings/large").write("a/b", content)
    assert Bucket("s3://trainings/large").read("a/b") == content


def test_where_there_is_no_model_it_says_so(server):
    with pytest.raises(InputError, match="there is no model at s3://trainings/none"):
        MAGVIT.from_pretrained("s3://trainings/none")
