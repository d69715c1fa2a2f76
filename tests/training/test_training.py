import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import trajvit
from torch import nn
from trajvit.datasets.folders import open_folder
from trajvit.datasets.loading import SingleFrames, WithShifted, batch_rows, load_clips, to_frames, to_video
from trajvit.magvit.classifier import VideoClassifier, perceptual_loss
from trajvit.magvit.commit import interior, own_tokens
from trajvit.magvit.discriminator import RESTRAINTS, Discriminator
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASK_NAMES, TASKS, condition, task_number
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.settings import InputError
from trajvit.training.checkpoints import load_newest, save_checkpoint
from trajvit.training.interruption import Held
from trajvit.training.loop import FitConfig, Training, TrainingDiverged
from trajvit.training.objectives import (
    AdversarialLoss,
    DiscriminatorObjective,
    MaskedModelling,
    Perceptual,
    Reconstruction,
)
from trajvit.training.optimization import learning_rate_at
from trajvit.training.recipe import Recipe, train
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES

TINY = {"tokenizer_steps": 6, "tokenizer_batch": 4, "transformer_steps": 6, "transformer_batch": 4, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trajvit.generate(out=tmp_path_factory.mktemp("data") / "train", samples=16)


def weights(root):
    return hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest()


class Killed(Exception):
    pass


EVERYTHING = TINY | {"image_steps": 4, "perceptual_weight": 0.1, "perceptual_steps": 4, "gan_weight": 0.1}


@pytest.mark.parametrize(
    ("recipe", "after"),
    [(TINY, 3), (TINY, 9), (EVERYTHING, 9), (EVERYTHING, 11), (EVERYTHING | {"gan_restraint": "lecam"}, 11)],
    ids=["first stage", "second stage", "before its first checkpoint", "with R1", "with LeCam"],
)
def test_resume_after_interruption_gives_the_same_weights(data, tmp_path, monkeypatch, recipe, after):
    import trajvit.training.loop as loop

    train(Recipe(**recipe), data, tmp_path / "whole")
    drawn = iter(range(100))

    def rows_until_killed(*arguments):
        if next(drawn) == after:
            raise Killed
        return batch_rows(*arguments)

    monkeypatch.setattr(loop, "batch_rows", rows_until_killed)
    with pytest.raises(Killed):
        train(Recipe(**recipe), data, tmp_path / "resumed")
    monkeypatch.undo()
    train(Recipe(**recipe), data, tmp_path / "resumed")
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


COMPILING = """
import sys, torch, trajvit
from torch import nn
from trajvit.training.recipe import Recipe, train

compiled = []

def compile_(module):
    compiled.append(type(module).__name__)
    module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

nn.Module.compile = compile_
train(Recipe(**{recipe}, compile=True), trajvit.generate(out={data!r}, samples=16), {out!r})
print(*compiled)
"""


def test_a_compiled_training_learns_the_same_and_goes_on_uncompiled(data, tmp_path):
    """In a process without checked shapes, and by dynamo alone: what the inductor makes rounds otherwise, and takes a minute."""
    code = COMPILING.format(recipe=TINY, data=str(data.folder.place), out=str(tmp_path / "compiled"))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert ran.stdout.split() == ["Tokenizer", "MaskedTransformer"], ran.stderr
    train(Recipe(**TINY), data, tmp_path / "plain")
    assert weights(tmp_path / "compiled") == weights(tmp_path / "plain")
    train(Recipe(**TINY), data, tmp_path / "compiled")


def test_finished_training_is_loaded_not_repeated(data, tmp_path, monkeypatch):
    first = train(Recipe(**TINY), data, tmp_path)
    monkeypatch.setattr("trajvit.training.loop.batch_rows", None)
    monkeypatch.setattr("trajvit.training.objectives.encode_clips", None)
    again = train(Recipe(**TINY), data, tmp_path)
    assert again.history == first.history and first.history["tokenizer"]["step"] == [6]
    video = torch.rand(1, 1, 8, 32, 32)
    assert torch.equal(again.model.encode(video), first.model.encode(video))


def test_a_finished_training_is_loaded_whether_clips_are_streamed_or_not_and_another_is_not_gone_on_with(tmp_path, monkeypatch):
    import trajvit.training.loop as loop

    data, drawn = trajvit.generate(out=tmp_path / "data", samples=16, shard_size=4), iter(range(100))

    def rows_until_killed(*arguments):
        if next(drawn) == 9:
            raise Killed
        return batch_rows(*arguments)

    monkeypatch.setattr("trajvit.datasets.loading.MEMORY_SHARE", 0.0)
    train(Recipe(**TINY), data, tmp_path / "done")
    monkeypatch.setattr(loop, "batch_rows", rows_until_killed)
    with pytest.raises(Killed):
        train(Recipe(**TINY), data, tmp_path / "begun")
    monkeypatch.undo()
    streamed = weights(tmp_path / "done")
    train(Recipe(**TINY), data, tmp_path / "done")
    assert weights(tmp_path / "done") == streamed
    with pytest.raises(InputError, match=r"from clips streamed in blocks of 4, and here they are held in memory"):
        train(Recipe(**TINY), data, tmp_path / "begun")


def test_a_patch_of_its_own_makes_fewer_tokens_of_larger_clips():
    world = WorldConfig.named("classic")
    grids = [Recipe(patch=patch).models(world)[0].grid for patch in (None, (2, 8, 8))]
    assert grids == [(8, 8, 8), (8, 4, 4)] and Recipe(patch=(2, 8, 8)).models(world)[1].grid == (8, 4, 4)


@pytest.mark.parametrize(
    ("views", "copies"), [({"mirrored": True}, 2), ({"shifts": 3}, 4), ({"mirrored": True, "shifts": 3}, 8)], ids=str
)
def test_the_transformer_learns_from_other_views_too(views, copies, tmp_path, monkeypatch):
    data = trajvit.generate(out=tmp_path / "data", samples=16, variety="varied")
    learnt = []

    def seen(*arguments):
        learnt.append(arguments[2])
        return MaskedModelling(*arguments)

    monkeypatch.setattr("trajvit.training.recipe.MaskedModelling", seen)
    train(Recipe(**TINY | views), data, tmp_path / "out")
    images = learnt[0].videos()
    assert len(images) == 16 * copies
    if "mirrored" in views:
        assert torch.equal(images[copies // 2], images[0].flip(-1))
    if "shifts" in views:
        assert not torch.equal(images[1], images[0]) and torch.isclose(images[1].sum(), images[0].sum())


@pytest.mark.parametrize(("task", "alike"), [("CG", True), ("FP", False), ("CLS", False)])
def test_what_is_generated_is_learnt_from_clips_where_they_were_filmed(data, task, alike):
    torch.manual_seed(0)
    tokenizer_config, config = Recipe().models(data.config.world)
    clips = WithShifted(load_clips(data, 8), 3, 0, torch.arange(4))
    objective = MaskedModelling(MaskedTransformer(config), Tokenizer(tokenizer_config), clips, copies=4)
    objective.prepare()
    objective.shares = torch.eye(len(TASKS))[task_number(task)]
    losses = []
    for rows in (torch.arange(0, 32, 4), torch.arange(3, 32, 4)):
        torch.manual_seed(1)
        losses.append(sum(objective(rows).values()).item())
    assert (losses[0] == losses[1]) == alike


def test_how_many_clips_are_prepared_is_told_before_the_first_step(data, tmp_path):
    told = []
    train(Recipe(**TINY, shifts=1), data, tmp_path, on_progress=told.append)
    notes = [one.note for one in told if one.work == "train transformer" and one.note]
    assert notes[0] == "32 of 32 clips prepared"


def test_training_lowers_the_loss(data, tmp_path):
    history = train(
        Recipe(**TINY | {"tokenizer_steps": 40, "transformer_steps": 40, "transformer_batch": 16}),
        data,
        tmp_path,
    ).history
    for stage in ("tokenizer", "transformer"):
        assert history[stage]["loss"][-1] < 0.8 * history[stage]["loss"][0]


def test_learning_rate_zero_changes_no_weight(data, tmp_path):
    trained = train(Recipe(**TINY, learning_rate=0.0), data, tmp_path).model
    torch.manual_seed(0)
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


@pytest.mark.parametrize("harm", ["cut", "flipped", "no record", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(data, tmp_path, harm):
    train(Recipe(**TINY), data, tmp_path)
    before, newest = weights(tmp_path), tmp_path / "transformer" / "checkpoints" / "step_00000006.ckpt"
    content = newest.read_bytes()
    flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    record, _, state = content.partition(b"\n")
    newest.write_bytes({"cut": record + b"\n" + state[:1000], "flipped": flipped, "no record": state, "empty": b""}[harm])
    with pytest.warns(UserWarning, match="step_00000006.ckpt is damaged"):
        train(Recipe(**TINY), data, tmp_path)
    assert weights(tmp_path) == before


@pytest.fixture
def folder(tmp_path):
    folder = open_folder(tmp_path)
    folder.prepare(["checkpoints"])
    return folder


def test_where_all_checkpoints_are_damaged_it_says_what_to_do(folder):
    for step in (1, 2):
        save_checkpoint(folder, step, {"step": step}, {})
        (folder.place / "checkpoints" / f"step_{step:08d}.ckpt").write_bytes(b"nothing")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="2 are damaged: delete that folder"):
        load_newest(folder, {})


def test_a_checkpoint_of_a_newer_format_is_refused(folder):
    save_checkpoint(folder, 1, {"step": 1}, {})
    path = folder.place / "checkpoints" / "step_00000001.ckpt"
    record, _, state = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(json.loads(record) | {"format_version": 99}).encode() + b"\n" + state)
    with pytest.raises(InputError, match="format version 99; this trajvit reads 4: use another folder"):
        load_newest(folder, {})


def test_checkpoints_of_an_older_trajvit_are_refused_not_trained_over(data, tmp_path):
    old = tmp_path / "tokenizer" / "checkpoints" / "step_00000002"
    old.mkdir(parents=True)
    (old / "state.pt").write_bytes(b"theirs")
    with pytest.raises(InputError, match="older trajvit than 4: use another folder"):
        train(Recipe(**TINY), data, tmp_path)
    assert (old / "state.pt").read_bytes() == b"theirs"


def test_a_device_that_is_not_there_is_refused_before_any_work(data, tmp_path):
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(InputError, match=rf"device = '{missing}' is not there; this machine has .*cpu: use one of them, or auto"):
        train(Recipe(**TINY, device=missing), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_goes_on_on_another_device(data, tmp_path):
    first = train(Recipe(**TINY, device="cpu"), data, tmp_path)
    assert train(Recipe(**TINY), data, tmp_path).history == first.history


def test_a_batch_larger_than_the_data_is_refused_before_any_work(data, tmp_path):
    with pytest.raises(
        InputError, match="transformer_batch = 17 is larger than the data, 16 clips: use at most 16, or more clips"
    ):
        train(Recipe(**TINY | {"transformer_batch": 17}), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_trainings_in_one_folder_are_refused(data, tmp_path):
    tokenizer = open_folder(tmp_path / "tokenizer")
    tokenizer.prepare([])
    with tokenizer.lock("train"), pytest.raises(InputError, match="is being written by process"):
        train(Recipe(**TINY), data, tmp_path)


def test_a_second_signal_ends_at_once_but_not_one_that_came_with_the_first(monkeypatch):
    now = iter([0.5, 1.0, 9.0])
    # Not the clock of all threads: a progress record's heart beats by it.
    monkeypatch.setattr("trajvit.training.interruption.time", SimpleNamespace(monotonic=lambda: next(now)))
    with pytest.raises(KeyboardInterrupt), Held() as held:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert held.why == "told by SIGINT"
        signal.raise_signal(signal.SIGINT)


def test_a_signal_ends_training_after_its_step_and_its_checkpoint(data, tmp_path, monkeypatch):
    import trajvit.training.loop as loop

    train(Recipe(**TINY), data, tmp_path / "whole")
    drawn = iter(range(100))

    def rows_and_a_signal(*arguments):
        if next(drawn) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch_rows(*arguments)

    monkeypatch.setattr(loop, "batch_rows", rows_and_a_signal)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(Recipe(**TINY), data, tmp_path / "ended")
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "ended" / "tokenizer" / "checkpoints" / "step_00000003.ckpt").is_file()  # not a step that is due
    assert json.loads((tmp_path / "ended" / "tokenizer" / "PROGRESS.json").read_text())["state"] == "interrupted"
    monkeypatch.undo()
    train(Recipe(**TINY), data, tmp_path / "ended")
    assert weights(tmp_path / "ended") == weights(tmp_path / "whole")


def test_a_signal_while_the_last_checkpoint_is_written_begins_no_further_stage(data, tmp_path, monkeypatch):
    import trajvit.training.loop as loop

    def saved_and_a_signal(folder, step, *more):
        save_checkpoint(folder, step, *more)
        if step == TINY["tokenizer_steps"]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "save_checkpoint", saved_and_a_signal)
    with pytest.raises(KeyboardInterrupt):
        train(Recipe(**TINY), data, tmp_path)
    assert not (tmp_path / "transformer").exists()
    monkeypatch.undo()
    assert train(Recipe(**TINY), data, tmp_path).history["tokenizer"]["step"][-1] == TINY["tokenizer_steps"]


def test_a_diverging_training_stops_and_says_what_to_do(data, tmp_path, monkeypatch):
    monkeypatch.setattr("trajvit.training.objectives.reconstruction_loss", lambda output, video, weight: output.mean() * math.inf)
    with pytest.raises(TrainingDiverged, match=r"lower learning_rate"):
        train(Recipe(**TINY), data, tmp_path)


def test_a_loss_that_is_not_finite_names_its_batch_and_keeps_the_checkpoint_before_it(data, tmp_path, monkeypatch):
    import trajvit.training.objectives as objectives

    calm, seen = objectives.reconstruction_loss, iter(range(100))
    monkeypatch.setattr(objectives, "reconstruction_loss", lambda *a: calm(*a) * (math.nan if next(seen) == 4 else 1))
    batch = ", ".join(map(str, batch_rows(16, TINY["tokenizer_batch"], 0, 4).tolist()))
    with pytest.raises(TrainingDiverged, match=f"step 4 is not finite .reconstruction nan, .*; samples {batch}"):
        train(Recipe(**TINY), data, tmp_path / "interrupted")
    assert (tmp_path / "interrupted" / "tokenizer" / "checkpoints" / "step_00000004.ckpt").is_file()
    monkeypatch.undo()
    train(Recipe(**TINY), data, tmp_path / "interrupted")
    train(Recipe(**TINY), data, tmp_path / "whole")
    assert weights(tmp_path / "interrupted") == weights(tmp_path / "whole")


def test_the_discriminator_takes_one_step_for_each_of_the_tokenizers_and_neither_changes_the_other(data):
    clips = load_clips(data)
    discriminator = Discriminator(1, (8, 32, 32), RESTRAINTS["r1"](), width=8)
    adversarial = AdversarialLoss(0.1, DiscriminatorObjective(discriminator, clips))
    training = Training(
        Reconstruction(Tokenizer(TokenizerConfig.named("nano")), clips, 6.0, extra_losses=[adversarial]),
        FitConfig(steps=4, batch_size=4, learning_rate=1e-3),
    )
    tokenizer, opponent = training.players
    rows, before = batch_rows(16, 4, 0, 0), copies(discriminator)
    tokenizer.step(0, rows)
    assert copies(discriminator) == before
    now = copies(tokenizer.objective.model)
    parts = opponent.step(0, rows)
    assert copies(discriminator) != before and copies(tokenizer.objective.model) == now
    assert set(parts) == {"loss", "gradient_norm", "discriminator", "restraint"}
    training.step(1)
    steps = [
        float(next(iter(optimizer.state.values()))["step"]) for optimizer in (tokenizer.optimizers[0], opponent.optimizers[0])
    ]
    assert steps == [2, 2]


def copies(model):
    return [weight.tolist() for weight in model.parameters()]


def test_perceptual_features_stay_frozen(data):
    clips, classifier = load_clips(data), VideoClassifier(1, (8, 32, 32), 4)
    before = copies(classifier)
    objective = Reconstruction(Tokenizer(TokenizerConfig.named("nano")), clips, 6.0, extra_losses=[Perceptual(1.0, classifier)])
    parts = Training(objective, FitConfig(steps=1, batch_size=4, learning_rate=1e-2)).step(0)
    assert parts["perceptual"] > 0 and copies(classifier) == before and not classifier.training
    video = clips.videos(torch.arange(2))
    assert perceptual_loss(classifier, video, video).item() == 0


def test_every_frame_is_a_clip_of_its_own(data):
    clips = load_clips(data)
    frames = SingleFrames(clips, 8)
    assert len(frames) == 8 * 16 and frames.labels[8:16].unique().tolist() == [clips.labels[1].item()]
    assert torch.equal(frames.videos(torch.tensor([9, 15, 16]))[:, :, 0], clips.videos()[[1, 1, 2], :, [1, 7, 0]])


def test_a_training_says_what_its_weights_are_the_result_of(data, tmp_path):
    train(Recipe(**TINY), data, tmp_path)
    manifest = json.loads((tmp_path / "training.json").read_text())
    assert manifest["recipe"] == Recipe(**TINY).of_model() and manifest["data"]["samples"] == 16
    assert manifest["libraries"]["torch"].startswith("2.13.0")
    assert manifest["last"]["transformer"]["step"] == 6


def test_what_is_loaded_keeps_the_manifest_of_its_time(data, tmp_path, monkeypatch):
    train(Recipe(**TINY), data, tmp_path)
    manifest, model = ((tmp_path / name).read_bytes() for name in ("training.json", "model.safetensors"))
    monkeypatch.setattr("trajvit.training.recipe.version", lambda name: "9.9")
    train(Recipe(**TINY), data, tmp_path)
    assert (tmp_path / "training.json").read_bytes() == manifest
    (tmp_path / "model.safetensors").unlink()
    train(Recipe(**TINY), data, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize("padding", ["causal", "same"])
@pytest.mark.parametrize("task", TASKS, ids=TASK_NAMES)
def test_known_tokens_are_the_clips_own_and_all_that_are_shown_just_where_those_are(task, padding):
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig.named("nano", padding=padding)).eval()
    config, video = tokenizer.config, torch.rand(4, 1, 8, 32, 32)
    inside = interior(task, config.clip, config.stride)
    shown, of_clip = (tokenizer.encode(clip).flatten(1) for clip in (condition(task, video), video))
    known = own_tokens(task, config)
    assert torch.equal(known & inside, known) and torch.equal(shown[:, known], of_clip[:, known])
    assert torch.equal(known, inside) == torch.equal(shown[:, inside], of_clip[:, inside])


def test_the_loss_of_masked_modelling_is_the_one_that_is_worked_out_by_hand(data, monkeypatch):
    """A model that knows nothing: each digit costs the log of its levels, spread over the three parts by the mask."""
    clips = load_clips(data)
    tokenizer = Tokenizer(TokenizerConfig.named("nano"))
    config = TransformerConfig(grid=(4, 4, 4), levels=tokenizer.config.quantizer.digits, classes=4, tasks=11)
    model = MaskedTransformer(config)
    for head in (*model.digit_heads.heads, model.class_head):
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    objective = MaskedModelling(model, tokenizer, clips)
    objective.prepare()
    objective.shares = torch.tensor([float(name == "FP") for name in TASK_NAMES])
    monkeypatch.setattr("trajvit.training.objectives.WHOLLY_MASKED", 1.1)  # all samples
    parts = objective(torch.arange(4))
    nothing_known = sum(math.log(level) for level in config.levels)
    assert parts["refine"].item() == 0  # the given half of the positions, which are the clip's own
    assert parts["mask"].item() == pytest.approx(nothing_known / 2, rel=1e-5)
    assert parts["reconstruct"].item() == 0
    assert parts["class"].item() == pytest.approx(math.log(4), rel=1e-5)
    mask_only = MaskedModelling(model, tokenizer, clips, loss_parts=("mask",))
    mask_only.shares, mask_only.digits = objective.shares, objective.digits
    assert set(mask_only(torch.arange(4))) == {"mask", "class"}


@pytest.mark.parametrize("task", ["FP", "FI", "OPC", "CG", "CLS"])
def test_masked_modelling_reads_what_is_shown_unrounded_and_learns_nothing_known(data, task, monkeypatch):
    clips, tokenizer = load_clips(data), Tokenizer(TokenizerConfig.named("nano"))
    config, seen = TransformerConfig(grid=(4, 4, 4), levels=(64, 64), classes=4, tasks=11), []
    model = MaskedTransformer(config)
    objective = MaskedModelling(model, tokenizer, clips)
    objective.prepare()
    objective.shares = torch.tensor([float(name == task) for name in TASK_NAMES])
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *given: seen.append(given) or forward(*given))
    parts = objective(torch.arange(4))
    tokens, _, _, shown = seen[0]
    magvit, of = MAGVIT(tokenizer, model, NAMES), TASKS[TASK_NAMES.index(task)]
    given, known = magvit.shown(of, clips.videos(torch.arange(4))), own_tokens(of, tokenizer.config)
    assert torch.allclose(shown, given, atol=1e-3, equal_nan=True)
    assert known.sum() == {"FP": 32, "FI": 16, "OPC": 0, "CG": 0, "CLS": 64}[task]
    told = parts["refine"] + parts["mask"] + parts["reconstruct"]
    nothing_known = sum(math.log(level) for level in config.levels)
    assert told.item() == pytest.approx(nothing_known * float((~known).float().mean()), rel=0.05)
    assert not (tokens[:, known] == config.mask_token).any()


def test_checkpoints_are_whole_and_only_the_newest_are_kept(folder, tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(folder, step, {"step": step, "model": {"w": torch.ones(2) * step}}, {"name": "a"})
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step_00000003.ckpt", "step_00000004.ckpt"] and not list((tmp_path / "_tmp").iterdir())
    assert load_newest(folder, {"name": "a"})["model"]["w"].tolist() == [4, 4]
    assert load_newest(open_folder(tmp_path / "none"), {}) is None


def test_a_checkpoint_runs_no_code(folder):
    """Not even one whose record fits it."""
    save_checkpoint(folder, 1, {"step": 1}, {})
    path, state = folder.place / "checkpoints" / "step_00000001.ckpt", io.BytesIO()
    torch.save({"step": print}, state)
    record = json.loads(path.read_bytes().partition(b"\n")[0]) | {"sha256": hashlib.sha256(state.getvalue()).hexdigest()}
    path.write_bytes(json.dumps(record).encode() + b"\n" + state.getvalue())
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InputError, match="delete that folder"):
        load_newest(folder, {})


def test_every_epoch_is_a_permutation_and_batches_need_no_state():
    rows = torch.cat([batch_rows(10, 4, 3, step) for step in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert torch.equal(batch_rows(10, 4, 3, 3), rows[12:16])
    assert len(batch_rows(3, 8, 0, 0)) == 8


def test_the_learning_rate_climbs_then_falls_to_nothing():
    rates = [learning_rate_at(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == 1.0 == rates[5] and rates[-1] < 0.001


def test_frames_and_videos_are_two_ways_to_say_the_same(data):
    frames = data.read().frames
    assert (to_frames(to_video(frames)) == frames).all()
    assert torch.equal(load_clips(data).videos(), to_video(frames))
    assert (to_frames(torch.full((1, 1, 2, 2, 2), math.nan)) == 0).all()


def test_more_samples_than_there_are_is_refused(data):
    with pytest.raises(InputError, match="holds 16"):
        load_clips(data, 17)
