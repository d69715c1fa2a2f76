import pytest
import torch
from trajvit.magvit.commit import commit_mask, interior, masked_positions, masked_share
from trajvit.magvit.tasks import TASKS, condition, task_number
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.settings import InputError

CLIP, STRIDE, MASK = (8, 32, 32), (2, 8, 8), 1000


def shown(name):
    """What each task may show of an 8x32x32 clip, written down once more."""
    t, h, w = torch.meshgrid(torch.arange(8), torch.arange(32), torch.arange(32), indexing="ij")
    left = torch.tensor([0, 2, 5, 7, 9, 11, 14, 16])[:, None, None]  # a strip of 16 columns, moving over the 16 others
    middle_rows, middle_columns = (h >= 8) & (h < 24), (w >= 8) & (w < 24)
    strip = (w >= left) & (w < left + 16)
    return {
        "FP": t < 4,
        "FI": (t < 2) | (t >= 6),
        "OPC": middle_rows & middle_columns,
        "OPV": middle_columns,
        "OPH": middle_rows,
        "OPD": strip,
        "IPC": ~(middle_rows & middle_columns),
        "IPD": ~(middle_rows & strip),
        "CG": t < 0,
        "CFP": t < 4,
        "CLS": t >= 0,
    }[name]


def test_there_are_the_papers_ten_tasks_and_classification():
    assert [task.name for task in TASKS] == ["FP", "FI", "OPC", "OPV", "OPH", "OPD", "IPC", "IPD", "CG", "CFP", "CLS"]
    assert sum(task.share for task in TASKS) == pytest.approx(1)
    assert [task.name for task in TASKS if task.label == "given"] == ["CG", "CFP"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_condition_shows_exactly_the_allowed_pixels(task):
    video = torch.rand(2, 1, *CLIP)
    allowed = shown(task.name)
    assert torch.equal(task.visible(CLIP), allowed)
    assert torch.equal(condition(task, video)[:, :, allowed], video[:, :, allowed])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_hidden_pixels_play_no_part_in_a_condition(task):
    video = torch.rand(2, 1, *CLIP)
    other = torch.where(task.visible(CLIP), video, torch.rand_like(video))
    assert torch.equal(condition(task, video), condition(task, other))


@pytest.mark.parametrize("frames", [2, 5, 16])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_has_a_condition_for_clips_of_any_length(task, frames):
    video = torch.rand(1, 3, frames, 20, 24)
    assert condition(task, video).shape == video.shape


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


def test_interpolation_blends_evenly_between_the_given_ends():
    video = torch.rand(1, 1, *CLIP)
    shown = condition(TASKS[task_number("FI")], video)
    for k, share in zip(range(2, 6), (0.2, 0.4, 0.6, 0.8), strict=True):
        assert torch.allclose(shown[:, :, k], (1 - share) * video[:, :, 1] + share * video[:, :, 6])


def test_outpainting_repeats_the_border_and_inpainting_is_black():
    video = torch.rand(1, 1, *CLIP)
    around = condition(TASKS[task_number("OPC")], video)
    assert torch.equal(around[..., 0, 0], video[..., 8, 8]) and torch.equal(around[..., 31, 12], video[..., 23, 12])
    beside = condition(TASKS[task_number("OPV")], video)
    assert torch.equal(beside[..., :, 0], video[..., :, 8]) and torch.equal(beside[..., :, 31], video[..., :, 23])
    inside = condition(TASKS[task_number("IPC")], video)
    assert not inside[..., 8:24, 8:24].any()


def test_interior_tokens_see_a_given_pixel():
    inside = {task.name: interior(task, CLIP, STRIDE).unflatten(0, (4, 4, 4)) for task in TASKS}
    assert inside["FP"][:2].all() and not inside["FP"][2:].any()
    assert not inside["CG"].any() and inside["CLS"].all()
    assert inside["FI"][[0, 3]].all() and not inside["FI"][1:3].any()
    assert inside["OPC"][:, 1:3, 1:3].all() and inside["OPC"].sum() == 16


def test_the_three_parts_of_the_loss_share_out_all_positions_that_are_not_known():
    torch.manual_seed(0)
    tokens, shown = torch.randint(0, 1000, (500, 64)), torch.randint(0, 1000, (500, 64))
    inside = torch.rand(500, 64) < 0.5
    known = inside & (torch.rand(500, 64) < 0.5)
    never, from_the_end = torch.zeros(500, dtype=torch.bool), torch.arange(500) % 2 == 0
    positions = masked_positions(torch.rand(500, 65), never, from_the_end, never, 0.5, 16, "cpu")
    masked = commit_mask(tokens, torch.where(inside, shown, MASK), known, MASK, positions)
    parts = torch.stack([masked.refine, masked.mask, masked.reconstruct])
    assert torch.equal(parts.sum(0), (~known).long())
    assert torch.equal(masked.tokens[masked.refine], shown[masked.refine]) and inside[masked.refine].all()
    assert (masked.tokens[masked.mask] == MASK).all() and not inside[masked.mask].any()
    assert torch.equal(masked.tokens[masked.reconstruct], tokens[masked.reconstruct])


def test_every_sample_draws_its_own_mask_ratio():
    torch.manual_seed(0)
    whole, never = torch.arange(2000) < 500, torch.zeros(2000, dtype=torch.bool)
    masked = masked_positions(torch.rand(2000, 65), whole, never, never, 0.5, 16, "cpu")
    ratio = masked.float().mean(1)
    assert (ratio[:500] == 1).all()
    assert len(ratio[500:].unique()) > 50 and ratio.min() < 0.1
    assert ratio[500:].mean() == pytest.approx(2 / torch.pi, abs=0.02)


@pytest.mark.parametrize("schedule", ["cosine", "uniform", "pow", "log", "exp"])
def test_every_schedule_runs_from_all_to_none(schedule):
    shares = masked_share(torch.linspace(0, 1, 13), 64, schedule)
    assert shares[0] == pytest.approx(1) and shares[-1] == pytest.approx(0, abs=1e-9) and (shares.diff() < 1e-12).all()


def test_schedules_take_their_published_values():
    half = {name: float(masked_share(0.5, 64, name)) for name in ("cosine", "uniform", "pow", "log")}
    assert half == pytest.approx({"cosine": 0.7071, "uniform": 0.5, "pow": 0.75, "log": 1 / 6}, abs=1e-4)


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="there are FP"):
        task_number("XX")


def test_masks_from_the_end_leave_what_decoding_by_slices_leaves():
    torch.manual_seed(0)
    never = torch.zeros(4000, dtype=torch.bool)
    masked = masked_positions(torch.rand(4000, 65), never, ~never, never, 0.5, 16, "cpu")
    open_ = masked.unflatten(1, (4, 16))
    count = open_.sum(2)  # (B, slices)
    assert (count.diff(dim=1) >= 0).all() and ((count > 0) & (count < 16)).sum(1).max() == 1  # one slice at a time
    assert torch.bincount(count.sum(1), minlength=65)[1:].min() > 0
    shares = torch.bincount(count.sum(1).sub(1) // 16) / 4000  # that leave 1 to 4 slices open
    assert shares.tolist() == pytest.approx([0.125, 0.229, 0.296, 0.350], abs=0.03)
    begun = open_[:, 1][(count[:, 1] == 8)].float().mean(0)  # half filled: any half of it
    assert begun.min() > 0.3 and begun.max() < 0.7


def test_samples_that_generate_leave_what_drawing_the_first_half_leaves():
    torch.manual_seed(0)
    never = torch.zeros(4000, dtype=torch.bool)
    masked = masked_positions(torch.rand(4000, 65), never, ~never, ~never, 0.5, 16, "cpu")
    count = masked.unflatten(1, (4, 16)).sum(2)  # (B, slices)
    assert (count[:, 2:] == 16).all() and (count.diff(dim=1) >= 0).all()
    assert (count[count[:, 0] > 0, 1] == 16).all()  # one slice at a time
    assert (count[:, 0] > 0).float().mean() == pytest.approx(0.63, abs=0.03)
    assert torch.bincount(count.sum(1), minlength=65)[33:].min() > 0


def test_a_slice_of_both_halves_is_drawn_whole_and_learnt_so():
    never = torch.zeros(4000, dtype=torch.bool)
    masked = masked_positions(torch.rand(4000, 49), never, ~never, ~never, 2 / 3, 16, "cpu")  # 6 frames in 3 slices
    left = torch.bincount(masked.unflatten(1, (3, 16))[:, :2].flatten(1).sum(1), minlength=33)
    assert left[1:].min() > 0 and masked[:, 32:].all()
