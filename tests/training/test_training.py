import hashlib
import math

import pytest
import torch
import trajvit
from trajvit.datasets.loading import batch_rows, load_clips, to_frames, to_video
from trajvit.settings import InputError
from trajvit.training.checkpoints import load_newest, save_checkpoint
from trajvit.training.loop import FitConfig, TrainingDiverged, learning_rate_at
from trajvit.training.recipe import Recipe, train

TINY = {"tokenizer_steps": 6, "tokenizer_batch": 4, "transformer_steps": 6, "transformer_batch": 4, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=16)


def weights(root):
    return hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest()


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [3, 9])
def test_resume_after_interruption_gives_the_same_weights(data, tmp_path, monkeypatch, after):
    import trajvit.training.loop as loop

    train(Recipe(**TINY), data, tmp_path / "whole")
    drawn = iter(range(100))

    def rows_until_killed(*arguments):
        if next(drawn) == after:
            raise Killed
        return batch_rows(*arguments)

    monkeypatch.setattr(loop, "batch_rows", rows_until_killed)
    with pytest.raises(Killed):
        train(Recipe(**TINY), data, tmp_path / "resumed")
    monkeypatch.undo()
    train(Recipe(**TINY), data, tmp_path / "resumed")
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_finished_training_is_loaded_not_repeated(data, tmp_path, monkeypatch):
    first = train(Recipe(**TINY), data, tmp_path)
    monkeypatch.setattr("trajvit.training.loop.batch_rows", None)
    again = train(Recipe(**TINY), data, tmp_path)
    assert again.history == first.history and first.history["tokenizer"]["step"] == [6]
    video = torch.rand(1, 1, 8, 32, 32)
    assert torch.equal(again.model.encode(video), first.model.encode(video))


def test_training_lowers_the_loss(data, tmp_path):
    history = train(
        Recipe(**TINY | {"tokenizer_steps": 120, "transformer_steps": 40, "checkpoint_every": 200}), data, tmp_path
    ).history
    for stage in ("tokenizer", "transformer"):
        assert history[stage]["loss"][-1] < 0.8 * history[stage]["loss"][0]


def test_learning_rate_zero_changes_no_weight(data, tmp_path):
    trained = train(Recipe(**TINY, learning_rate=0.0), data, tmp_path).model
    torch.manual_seed(0)
    from trajvit.magvit.tokenizer import Tokenizer

    fresh = Tokenizer(trained.config.tokenizer)
    assert all(torch.allclose(a, b) for a, b in zip(fresh.parameters(), trained.tokenizer.parameters(), strict=True))


def test_another_training_in_the_same_folder_is_refused(data, tmp_path):
    train(Recipe(**TINY), data, tmp_path)
    before = weights(tmp_path)
    with pytest.raises(InputError, match="learning_rate"):
        train(Recipe(**TINY, learning_rate=0.01), data, tmp_path)
    with pytest.raises(InputError, match="samples = 16 there, 8 asked for"):
        train(Recipe(**TINY), data, tmp_path, samples=8)
    assert weights(tmp_path) == before


def test_a_damaged_checkpoint_is_refused_by_name(data, tmp_path):
    train(Recipe(**TINY), data, tmp_path)
    state = tmp_path / "tokenizer" / "checkpoints" / "step_00000006" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match="step_00000006 cannot be read"):
        train(Recipe(**TINY), data, tmp_path)


def test_a_diverging_training_stops_and_says_what_to_do(data, tmp_path, monkeypatch):
    monkeypatch.setattr("trajvit.training.objectives.reconstruction_loss", lambda output, video, weight: output.mean() * math.inf)
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        train(Recipe(**TINY), data, tmp_path)


def test_checkpoints_are_whole_and_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, {"step": step, "model": {"w": torch.ones(2) * step}}, {"name": "a"})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000003", "step_00000004"]
    assert load_newest(tmp_path, {"name": "a"})["model"]["w"].tolist() == [4, 4]
    assert load_newest(tmp_path / "none", {}) is None


def test_a_checkpoint_runs_no_code(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1}, {})
    torch.save({"step": print}, tmp_path / "step_00000001" / "state.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_newest(tmp_path, {})


def test_every_epoch_is_a_permutation_and_batches_need_no_state():
    rows = torch.cat([batch_rows(10, 4, 3, step) for step in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert torch.equal(batch_rows(10, 4, 3, 3), rows[12:16])
    assert len(batch_rows(3, 8, 0, 0)) == 8


def test_the_learning_rate_climbs_then_falls_to_nothing():
    config = FitConfig(steps=100, batch_size=1, learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate_at(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 == rates[10] and rates[-1] < 0.001


def test_frames_and_videos_are_two_ways_to_say_the_same(data):
    frames = data.read().frames
    assert (to_frames(to_video(frames)) == frames).all()
    assert torch.equal(load_clips(data).videos(), to_video(frames))
    assert (to_frames(torch.full((1, 1, 2, 2, 2), math.nan)) == 0).all()


def test_more_samples_than_there_are_is_refused(data):
    with pytest.raises(InputError, match="holds 16"):
        load_clips(data, 17)
