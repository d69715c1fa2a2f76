import pytest
import torch
from trajvit.magvit.ensemble import MOVES, self_ensemble


def lit(row, column, size=8):
    video = torch.zeros(1, 1, 2, size, size)
    video[..., row, column] = 1
    return video


def places(videos):
    return [tuple(video[0, 0].nonzero()[0].tolist()) for video in videos]


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


def test_what_fills_the_frame_is_completed_once():
    seen = []
    made = self_ensemble(lambda video: seen.append(video) or video, torch.ones(2, 1, 2, 8, 8))
    assert len(seen) == 1 and torch.allclose(made, torch.ones(2, 1, 2, 8, 8))
