import pytest
import torch
from trajvit.magvit.decoding import DRAWING, DecodingConfig
from trajvit.magvit.ensemble import MOVES, self_ensemble, with_mirror_image
from trajvit.magvit.model import MAGVIT
from trajvit.settings import InputError


def lit(row, column, size=8):
    video = torch.zeros(1, 1, 2, size, size)
    video[..., row, column] = 1
    return video


def places(videos):
    return [tuple(video[0, 0].nonzero()[0].tolist()) for video in videos]


@pytest.fixture
def mirrored(little_magvit):
    """The same weights, of a model that learnt from mirror images."""
    return MAGVIT(little_magvit.tokenizer, little_magvit.transformer, little_magvit.config.classes, mirrored=True)


@pytest.fixture
def video(little_magvit):
    return torch.rand(3, 1, *little_magvit.config.tokenizer.clip, generator=torch.Generator().manual_seed(0)).round()


def test_what_is_made_of_every_view_is_moved_back_and_averaged():
    seen = []

    def complete(video):
        """Shows what is given, and beside it light whose strength tells which view this is."""
        seen.append(video)
        return video + 0.1 * len(seen) * (video == 0) * torch.roll(video, 1, dims=4)

    made = self_ensemble(complete, lit(3, 3))
    assert places(torch.cat(seen)) == [(3, 3)] + [(3 + down, 3 + across) for down, across in MOVES]
    assert torch.allclose(made, lit(3, 3) + 0.3 * lit(3, 4)), "0.1 to 0.5"


@pytest.mark.parametrize(("row", "column", "moved"), [(0, 3, [(1, 4), (0, 2), (1, 2), (0, 4)]), (7, 7, [(6, 6), (7, 6), (6, 7)])])
def test_no_view_takes_light_out_of_the_frame(row, column, moved):
    seen = []
    made = self_ensemble(lambda video: seen.append(video) or video, lit(row, column))
    assert places(torch.cat(seen[1:])) == moved and torch.allclose(made, lit(row, column))


def test_where_prediction_comes_to_the_border_the_clip_stays_too():
    seen = []

    def complete(video):
        seen.append(video)
        return torch.cat([video[:, :, :1], lit(5, 7)[:, :, :1]], dim=2)

    self_ensemble(complete, lit(3, 3))
    assert {column for _, column in places(torch.cat(seen))} == {3, 2}


def test_light_that_a_copy_alone_makes_at_the_border_does_not_enter_at_the_other():
    """Where it is moved back, a copy's light leaves the view, and is gone."""

    def complete(video):
        moved = video[:, :, :, 4, 4].amax() > 0  # the first copy, a pixel down and across
        return torch.cat([video[:, :, :1], lit(5, 0)[:, :, :1]], dim=2) if moved else video

    made = self_ensemble(complete, lit(3, 3))
    assert torch.allclose(made[:, :, 0], lit(3, 3)[:, :, 0]) and torch.allclose(made[:, :, 1], 0.8 * lit(3, 3)[:, :, 1])


def test_what_fills_the_frame_is_completed_once():
    seen = []
    made = self_ensemble(lambda video: seen.append(video) or video, torch.ones(2, 1, 2, 8, 8))
    assert len(seen) == 1 and torch.allclose(made, torch.ones(2, 1, 2, 8, 8))


def test_what_is_made_of_the_mirror_image_is_mirrored_back_and_averaged():
    made = with_mirror_image(lambda video: video + torch.roll(video, 2, dims=4))(lit(3, 3))
    assert torch.allclose(made, lit(3, 3) + 0.5 * lit(3, 5) + 0.5 * lit(3, 1))


@pytest.mark.parametrize("task", ["FP", "FI", "IPC", "OPC", "OPV", "OPH"])
def test_a_model_that_learnt_from_mirror_images_completes_both_alike(task, little_magvit, mirrored, video):
    for model, alike in ((mirrored, True), (little_magvit, False)):
        made, image = model.complete(video, task), model.complete(video.flip(4), task).flip(4)
        assert torch.allclose(made, image, atol=1e-5) == alike


@pytest.mark.parametrize("task", ["OPD", "IPD"])
def test_what_looks_otherwise_in_a_mirror_is_completed_as_it_is(task, little_magvit, mirrored, video):
    assert torch.equal(mirrored.complete(video, task), little_magvit.complete(video, task))


def test_what_is_drawn_is_drawn_once_by_a_model_that_learnt_from_mirror_images(little_magvit, mirrored, tmp_path):
    mirrored.save_pretrained(tmp_path)
    assert MAGVIT.from_pretrained(tmp_path).config.mirrored
    context = torch.zeros(2, 1, 4, 32, 32)
    for make in (
        lambda model: model.generate([0, 1], decoding=DecodingConfig()),
        lambda model: model.predict(context, decoding=DRAWING),
    ):
        assert torch.equal(make(mirrored), make(little_magvit))
    with pytest.raises(InputError, match="self_ensemble is the mean over views"):
        DecodingConfig(self_ensemble=True)
