import json
import math

import numpy as np
import pytest
import torch
import trajvit
from trajvit.datasets.loading import to_video
from trajvit.datasets.verification import verify
from trajvit.evaluation.baselines import blank, constant_velocity, copy_last
from trajvit.evaluation.data import score_data
from trajvit.evaluation.gate import BARS, judge_gate
from trajvit.evaluation.generation import score_generation
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.measure import Metric, read_metrics, record
from trajvit.evaluation.scores import (
    Tasks,
    partly_shown,
    score_classification,
    score_prediction,
    score_reconstruction,
    score_task,
)
from trajvit.magvit.generation import SAMPLING
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASK_NAMES
from trajvit.settings import InputError
from trajvit.training.recipe import Recipe
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import film


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return trajvit.generate(out=root / "train", samples=400), film(WorldConfig(), 0, "val", 0, 80)


@pytest.fixture(scope="module")
def judge(data, tmp_path_factory):
    return train_judge(JudgeConfig(steps=120), data[0], tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def untrained():
    from trajvit.magvit.tokenizer import Tokenizer
    from trajvit.magvit.transformer import MaskedTransformer

    torch.manual_seed(0)
    tokenizer, transformer = Recipe().models(WorldConfig())
    return MAGVIT(Tokenizer(tokenizer), MaskedTransformer(transformer), NAMES)


def test_the_judge_knows_the_families_of_clips_it_has_not_seen(data, judge):
    assert (judge.classify(to_video(data[1].frames)).numpy() == data[1].label).mean() > 0.85


def test_constant_velocity_is_exact_on_a_straight_flight_at_constant_depth():
    clips = film(WorldConfig(noise_m=0), 0, "val", 0, 400)
    flat = (clips.label == 0) & (np.ptp(clips.points[..., 2], axis=1) < 0.05)
    error = np.linalg.norm(constant_velocity(clips.frames[flat], 4) - clips.pixels[flat], axis=-1)
    assert flat.sum() >= 3 and error.max() < 0.4


def test_copy_last_and_blank_are_what_they_say(data):
    frames = data[1].frames
    copied = copy_last(frames, 4)
    assert (copied[:, :4] == frames[:, :4]).all() and (copied[:, 4:] == frames[:, 3:4]).all()
    assert not blank(frames).any()


class Oracle(MAGVIT):
    """A model that knows the answer: shows what a perfect score looks like."""

    def __init__(self, clips, untrained):
        super().__init__(untrained.tokenizer, untrained.transformer, NAMES)
        self.video = to_video(clips.frames)
        self.label = torch.from_numpy(clips.label.astype(int))

    def encode(self, video):
        return torch.arange(len(video) * 64).reshape(-1, 4, 4, 4) % self.tokenizer.config.codes

    def decode(self, tokens):
        return self.video

    def class_probabilities(self, video, given=None):
        return torch.eye(len(NAMES))[self.label]

    def predict(self, context, decoding):
        return self.video

    def generate(self, labels, seed, decoding):
        return self.video[labels]

    def complete(self, video, task, labels=None):
        return self.video


def test_a_perfect_model_gets_perfect_scores(data, judge, untrained):
    clips = data[1]
    oracle = Oracle(clips, untrained)
    reconstruction = score_reconstruction(oracle, clips).metrics
    assert reconstruction["centre_error_px"].value == reconstruction["centre_error_px"].limit < 0.05
    assert reconstruction["code_usage"].value == 1 and reconstruction["ball_found"].value == 1
    classification = score_classification(oracle, clips, [judge])
    assert classification.metrics["accuracy"].value == 1 and np.trace(classification.confusion) == 80
    prediction = score_prediction(oracle, clips).metrics
    assert prediction["centre_error_px"].value < 0.05 < 4 < prediction["centre_error_px"].baselines["copy_last"]


def test_beside_each_classification_stands_the_cnn_that_sees_as_many_frames(data, judge, untrained, tmp_path):
    train, clips = data
    half = train_judge(JudgeConfig(steps=120), train, tmp_path, given=4)
    scored = score_classification(untrained, clips, [judge, half])
    shown = to_video(clips.frames)
    for name, cnn, given in (("accuracy", judge, 8), ("accuracy_from_half", half, 4)):
        right = (cnn.classify(shown[:, :, :given]).numpy() == clips.label).mean()
        assert scored.metrics[name].baselines == {"chance": 0.25, "cnn_on_pixels": right} and right > 0.5
    assert set(scored.by_frames["magvit"][2].baselines) == {"chance"}


def test_tasks_are_scored_where_they_hide_the_ball(data, untrained):
    clips = data[1]
    models, known = (Oracle(clips, untrained), untrained), clips.pixels[:, 4:].astype(float) + 0.3
    tasks = partly_shown((8, 32, 32))
    perfect, poor = (Tasks({task.name: score_task(one, clips, task, known) for task in tasks}).metrics for one in models)
    assert set(perfect) == set(TASK_NAMES) - {"CG", "CLS"}
    for name, metric in perfect.items():
        assert metric.limit == (pytest.approx(0.3 * 2**0.5, rel=1e-4) if name in ("FP", "CFP") else None)
        assert metric.value < 0.05 and metric.baselines["condition"] > 1, name
        assert poor[name].value > 0.5 * metric.baselines["condition"], name
    # in the frames after the given ones all balls are hidden, and there the condition is a copy of the last given frame
    copied = score_prediction(untrained, clips).metrics["centre_error_px"].baselines["copy_last"]
    assert perfect["FP"].baselines["condition"] == pytest.approx(copied, rel=1e-6)


def test_rivals_and_the_oracle_stand_beside_prediction(data, untrained):
    clips = data[1]
    told = {"told": lambda frames, given: clips.pixels.astype(float)}
    prediction = score_prediction(untrained, clips, told, known=clips.pixels[:, 4:].astype(float) + 0.3)
    metric = prediction.metrics["centre_error_px"]
    assert metric.baselines == {"told": 0} and metric.limit == pytest.approx(0.3 * 2**0.5, rel=1e-4)
    assert prediction.error_by_frame["oracle"][4:] == pytest.approx([0.3 * 2**0.5] * 4, rel=1e-4)


def test_an_untrained_model_gets_no_better_than_the_trivial_answers(data, judge, untrained):
    clips = data[1]
    assert score_reconstruction(untrained, clips).metrics["centre_error_px"].value > 3
    assert 0.05 < score_classification(untrained, clips, [judge]).metrics["accuracy"].value < 0.5
    prediction = score_prediction(untrained, clips).metrics["centre_error_px"]
    assert prediction.value > 0.8 * prediction.baselines["copy_last"]
    once = SAMPLING.model_copy(update={"tries": 1})
    generation = score_generation(untrained, judge, clips, 40, decoding=once).metrics["class_agreement"]
    assert generation.value < 0.6 and generation.limit > 0.85 and generation.baselines == {"chance": 0.25}


def metrics_at(values):
    metrics = {}
    for bar in BARS:
        metrics.setdefault(bar.group, {})[bar.name] = Metric(
            value=values[bar.name], unit="", baselines={bar.baseline: 10.0}, limit=1.0
        )
    return metrics


GOOD = {"psnr_db": 25, "code_usage": 0.9, "accuracy": 0.99, "class_agreement": 0.9, "centre_error_px": 0.3}


def test_the_gate_says_go_when_every_bar_is_reached():
    assert judge_gate(metrics_at(GOOD), 32).verdict == "GO"


@pytest.mark.parametrize(
    ("name", "bad"), [("psnr_db", 21.9), ("code_usage", 0.49), ("accuracy", 0.94), ("class_agreement", 0.84)]
)
def test_the_gate_says_no_go_when_one_bar_is_missed(name, bad):
    for value in (bad, math.nan):
        gate = judge_gate(metrics_at(GOOD | {name: value}), 32)
        assert gate.verdict == "NO-GO" and [row.name.split(".")[1] for row in gate.rows if row.verdict == "NO-GO"] == [name]


def test_metrics_are_recorded_under_stable_names_and_kept_beside_others(tmp_path):
    record(tmp_path, "02_a", {"prediction": {"centre_error_px": Metric.mean(np.arange(9.0), "px", {"copy_last": 7.0}, 0.5)}})
    record(tmp_path, "04_b", {"g": {"m": Metric(value=1, unit="u")}}, gate={"verdict": "GO"})
    written = json.loads((tmp_path / "metrics.json").read_text())
    metric = written["02_a"]["prediction"]["centre_error_px"]
    assert list(metric) == ["value", "unit", "ci95", "baselines", "differences", "limit", "more_is_better"]
    assert (metric["value"], metric["unit"], metric["baselines"], metric["limit"]) == (4.0, "px", {"copy_last": 7.0}, 0.5)
    assert metric["ci95"][0] < 4 < metric["ci95"][1] and written["04_b"]["gate"]["verdict"] == "GO"
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json cannot be read"):
        read_metrics(tmp_path)


def test_the_data_check_finds_a_clip_that_comes_twice(data, tmp_path):
    found = verify(data[0].root)
    assert score_data([found])["duplicates"].value == 0
    assert score_data([found, found])["duplicates"].value == 400
