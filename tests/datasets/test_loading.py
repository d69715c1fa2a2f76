import pytest
import torch
import trajvit
from trajvit.datasets.loading import MIXED, ClipSet, ClipStream, WithMirrored, batch_rows, load_clips, to_video


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "d", samples=1000, shard_size=32)


def epochs(samples, block, count=2, batch=7):
    rows = torch.cat([batch_rows(samples, batch, 3, step, block) for step in range(-(-count * samples // batch))])
    return [rows[epoch * samples : (epoch + 1) * samples] for epoch in range(count)]


@pytest.mark.parametrize("block", [None, 32, 1, 1000, 5000])
def test_every_epoch_is_another_permutation_of_all_samples(block):
    first, second = epochs(1000, block)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(1000))
    assert first.tolist() != second.tolist()


def test_few_blocks_are_in_use_at_a_time_and_they_are_mixed():
    rows = epochs(1000, 32, 1)[0]
    for start in range(0, 1000 - 32 * MIXED, 50):
        assert len({row // 32 for row in rows[start : start + 32 * MIXED].tolist()}) <= 2 * MIXED
    assert len({row // 32 for row in rows[:40].tolist()}) >= MIXED - 1


def test_batches_need_no_state():
    straight = [batch_rows(1000, 16, 0, step, 32) for step in range(200)]
    for step in (150, 3, 77):
        assert torch.equal(batch_rows(1000, 16, 0, step, 32), straight[step])


def test_a_stream_hands_out_what_a_set_in_memory_does(data):
    whole, stream = load_clips(data), load_clips(data, memory_bytes=10**6)
    assert isinstance(whole, ClipSet) and isinstance(stream, ClipStream)
    assert torch.equal(stream.labels, whole.labels) and torch.equal(whole.videos(), to_video(data.read().frames))
    for step in range(80):
        rows = batch_rows(len(stream), 16, 1, step, stream.block)
        stream.expect(batch_rows(len(stream), 16, 1, step + 8, stream.block))
        assert torch.equal(stream.videos(rows), whole.videos(rows))
    assert torch.equal(stream.videos(slice(5, 900, 7)), whole.videos(slice(5, 900, 7)))


def test_a_stream_of_the_first_samples_knows_only_those(data):
    stream = load_clips(data, 700, memory_bytes=1)
    assert len(stream) == len(stream.labels) == 700 == stream.videos().shape[0]


def test_beside_each_clip_stands_its_mirror_image(data):
    whole, stream = load_clips(data), load_clips(data, memory_bytes=10**6)
    both, streamed = WithMirrored(whole), WithMirrored(stream)
    assert len(both) == 2000 and both.labels[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(both.videos(slice(0, None, 2)), whole.videos())
    assert torch.equal(both.videos(slice(1, None, 2))[..., 0], whole.videos()[..., -1])
    for step in range(80):
        rows = batch_rows(len(streamed), 16, 1, step, streamed.block)
        streamed.expect(batch_rows(len(streamed), 16, 1, step + 8, streamed.block))
        assert torch.equal(streamed.videos(rows), both.videos(rows))


def test_training_from_a_stream_gives_a_model(data, tmp_path, monkeypatch):
    from trajvit.training.recipe import Recipe, train

    monkeypatch.setattr("trajvit.datasets.loading.MEMORY_SHARE", 0.0)
    recipe = Recipe(tokenizer_steps=3, tokenizer_batch=4, transformer_steps=2, transformer_batch=4)
    trained = train(recipe, data, tmp_path, 96)
    assert trained.history["transformer"]["step"] == [2] and trained.model.generate([0]).shape == (1, 1, 8, 32, 32)
