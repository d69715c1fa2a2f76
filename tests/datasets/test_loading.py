import pytest
import torch
import trajvit
from trajvit.datasets.loading import MIXED, ClipSet, ClipStream, WithMirrored, WithShifted, batch_rows, load_clips, to_video


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


def box(video):
    """The rows and the columns, from first to last, that have light in some frame."""
    lit = video.amax((0, 1)) > 0
    (rows,), (columns,) = lit.any(1).nonzero(as_tuple=True), lit.any(0).nonzero(as_tuple=True)
    return tuple(slice(int(lit[0]), int(lit[-1]) + 1) for lit in (rows, columns))


def test_beside_each_clip_stand_its_shifted_copies(data):
    clips = load_clips(data, 60)
    shifted = WithShifted(clips, 4, seed=0, movable=torch.tensor([0, 1, 3]))
    assert len(shifted) == 300 and shifted.labels[:10].tolist() == [0] * 5 + [1] * 5
    assert torch.equal(shifted.videos(slice(0, None, 5)), clips.videos())
    copies = shifted.videos().unflatten(0, (60, 5))
    for video, of_it, label in zip(clips.videos(), copies, clips.labels, strict=True):
        for copy in of_it:  # the same picture elsewhere, and not wrapped round the edge
            assert torch.equal(copy[..., *box(copy)], video[..., *box(video)])
        assert (label == 2) == all(torch.equal(copy, video) for copy in of_it)


def test_a_clip_is_shifted_to_all_places_in_view():
    frames = torch.zeros(1, 1, 8, 8, 1, dtype=torch.uint8)
    frames[0, 0, 2:7, 3:5] = 255  # room for four places down and seven across
    shifted = WithShifted(ClipSet(frames, torch.zeros(1, dtype=torch.long)), 2000, 0, torch.arange(1))
    places = [(down.start, across.start) for down, across in map(box, shifted.videos())]
    counts = {place: places[1:].count(place) for place in places}
    assert sorted(counts) == [(down, across) for down in range(4) for across in range(7)]
    assert min(counts.values()) > 2000 / 28 / 2 and max(counts.values()) < 2000 / 28 * 2


def test_shifted_copies_are_the_same_from_a_stream_and_another_time(data):
    whole, stream = (WithShifted(load_clips(data, **memory), 2, 5, torch.arange(4)) for memory in ({}, {"memory_bytes": 10**6}))
    for step in range(80):
        rows = batch_rows(len(stream), 16, 1, step, stream.block)
        stream.expect(batch_rows(len(stream), 16, 1, step + 8, stream.block))
        assert torch.equal(stream.videos(rows), whole.videos(rows))


def test_a_clip_without_room_or_light_stays_where_it_is():
    frames = torch.full((2, 2, 8, 8, 1), 9, dtype=torch.uint8)
    frames[1] = 0
    shifted = WithShifted(ClipSet(frames, torch.zeros(2, dtype=torch.long)), 3, 0, torch.arange(1))
    assert torch.equal(shifted.videos(), shifted.videos(slice(0, None, 4)).repeat_interleave(4, dim=0))


def test_training_from_a_stream_gives_a_model(data, tmp_path, monkeypatch):
    from trajvit.training.recipe import Recipe, train

    monkeypatch.setattr("trajvit.datasets.loading.MEMORY_SHARE", 0.0)
    recipe = Recipe(tokenizer_steps=3, tokenizer_batch=4, transformer_steps=2, transformer_batch=4)
    trained = train(recipe, data, tmp_path, 96)
    assert trained.history["transformer"]["step"] == [2] and trained.model.generate([0]).shape == (1, 1, 8, 32, 32)
