import pytest
import torch
from trajvit.magvit.commit import commit_mask, cosine_schedule, interior
from trajvit.magvit.tasks import TASKS, condition, task_number
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.settings import InputError

CLIP, STRIDE, MASK = (8, 32, 32), (2, 8, 8), 1000
SHOWN = {"FP": slice(0, 4), "CFP": slice(0, 4), "CG": slice(0, 0), "CLS": slice(0, 8)}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_condition_shows_exactly_the_allowed_pixels(task):
    video = torch.rand(2, 1, *CLIP)
    shown = condition(task, video)
    frames = SHOWN[task.name]
    assert torch.equal(shown[:, :, frames], video[:, :, frames])
    assert task.visible(CLIP).sum() == len(range(*frames.indices(8))) * 32 * 32


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_nothing_hidden_reaches_the_condition_tokens(task):
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(base_channels=16)).eval()
    video = torch.rand(2, 1, *CLIP)
    other = torch.where(task.visible(CLIP), video, torch.rand_like(video))
    assert torch.equal(tokenizer.encode(condition(task, video)), tokenizer.encode(condition(task, other)))


def test_prediction_repeats_the_last_given_frame():
    video = torch.rand(1, 1, *CLIP)
    shown = condition(TASKS[task_number("FP")], video)
    assert torch.equal(shown[:, :, 4:], video[:, :, 3:4].expand(-1, -1, 4, -1, -1))


def test_interior_tokens_see_a_given_pixel():
    inside = {task.name: interior(task, CLIP, STRIDE).unflatten(0, (4, 4, 4)) for task in TASKS}
    assert inside["FP"][:2].all() and not inside["FP"][2:].any()
    assert not inside["CG"].any() and inside["CLS"].all()


def test_the_three_parts_of_the_loss_share_out_all_positions():
    torch.manual_seed(0)
    tokens, shown = torch.randint(0, 1000, (500, 64)), torch.randint(0, 1000, (500, 64))
    inside = torch.rand(500, 64) < 0.5
    masked = commit_mask(tokens, shown, inside, MASK, torch.zeros(500, dtype=torch.bool))
    parts = torch.stack([masked.refine, masked.mask, masked.reconstruct])
    assert (parts.sum(0) == 1).all()
    assert torch.equal(masked.tokens[masked.refine], shown[masked.refine]) and inside[masked.refine].all()
    assert (masked.tokens[masked.mask] == MASK).all() and not inside[masked.mask].any()
    assert torch.equal(masked.tokens[masked.reconstruct], tokens[masked.reconstruct])


def test_every_sample_draws_its_own_mask_ratio():
    torch.manual_seed(0)
    tokens = torch.zeros(2000, 64, dtype=torch.long)
    outside, whole = torch.zeros_like(tokens).bool(), torch.arange(2000) < 500
    ratio = (commit_mask(tokens, tokens, outside, MASK, whole).tokens == MASK).float().mean(1)
    assert (ratio[:500] == 1).all()
    assert len(ratio[500:].unique()) > 50 and ratio.min() < 0.1
    assert ratio[500:].mean() == pytest.approx(2 / torch.pi, abs=0.02)


def test_the_cosine_schedule_runs_from_all_to_none():
    shares = cosine_schedule(torch.linspace(0, 1, 13))
    assert shares[0] == 1 and shares[-1].abs() < 1e-6 and (shares.diff() < 0).all()


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="there are FP"):
        task_number("XX")
