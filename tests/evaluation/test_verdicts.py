"""Models of which we know what they are go through the whole evaluation: are the verdicts right?"""

import numpy as np
import pytest
import torch
import trajvit
from trajvit.datasets.loading import load_clips, to_frames, to_video
from trajvit.evaluation.baselines import balls_of
from trajvit.evaluation.evaluation import Beside, evaluate
from trajvit.evaluation.generation import score_generation
from trajvit.evaluation.headlines import Headline, headlines, in_words
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.measure import Metric
from trajvit.evaluation.oracle import oracle
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.decoding import ENSEMBLE
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tokenizer import Tokenizer
from trajvit.magvit.transformer import MaskedTransformer
from trajvit.reporting.tables import headline_table, metrics_table
from trajvit.training.recipe import Recipe
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import film, film_path

WORLD, CLIPS, GIVEN = WorldConfig(), 520, 4
UNREAL = ("blank", "noise", "nan")


class Fake(MAGVIT):
    """A model that answers without looking: with `shown` whatever is asked, and no idea of the family."""

    def __init__(self, shown):
        torch.manual_seed(0)
        tokenizer, transformer = Recipe().models(WORLD)
        super().__init__(Tokenizer(tokenizer), MaskedTransformer(transformer), NAMES)
        self.shown = shown

    def encode(self, videos):
        return torch.zeros(len(videos), *self.config.tokenizer.grid, dtype=torch.long)

    def decode(self, tokens):
        return self.shown(len(tokens))

    def class_probabilities(self, videos, given=None):
        return torch.full((len(videos), len(NAMES)), 1 / len(NAMES))

    def predict(self, context, frames=None, labels=None, seed=0, decoding=None):
        return torch.cat([context, self.shown(len(context))[:, :, context.shape[2] :]], dim=2)

    def complete(self, video, task, labels=None, seed=0, decoding=None):
        return self.shown(len(video))

    def generate(self, labels, seed=0, decoding=None):
        return self.shown(len(labels))


class Copyist(Fake):
    """Shows clips of the training set, in order: of the family that was asked for, where one was."""

    def __init__(self, frames):
        self.clips = to_video(frames)
        super().__init__(lambda count: self.clips[torch.arange(count) % len(self.clips)])


class Knowing(Fake):
    """Knows each clip as a whole, and of its future what the oracle does; generates as the world does."""

    def __init__(self, clips, known):
        self.clips, self.known = clips, known
        super().__init__(lambda count: to_video(clips.frames[:count]))

    def encode(self, videos):
        return torch.arange(len(videos) * 64).reshape(-1, 4, 4, 4) % 1000

    def class_probabilities(self, videos, given=None):
        return torch.eye(len(NAMES))[self.clips.label.astype(int)][: len(videos)]

    def predict(self, context, frames=None, labels=None, seed=0, decoding=ENSEMBLE):
        futures = self.known.median if decoding.temperature == 0 else self.known.draws[:, 16 + seed]
        future = to_video(np.concatenate([balls_at(path) for path in futures[: len(context)]]))
        return torch.cat([context, future[:, :, GIVEN:]], dim=2)

    def generate(self, labels, seed=0, decoding=None):
        return to_video(film(WORLD, 77, "test", 0, len(labels)).frames)


def balls_at(future):
    """A clip whose ball is in the middle, and from frame `GIVEN` on at the given places in px."""
    pixels = np.full((WORLD.frames, 2), (WORLD.width - 1) / 2)
    pixels[GIVEN:] = future
    depth = WORLD.camera.REFERENCE_M
    across = (pixels - (WORLD.width - 1) / 2) * depth / WORLD.camera.focal_px
    return film_path(WORLD, 0, np.column_stack([across, np.full(WORLD.frames, depth)]), 0.0).frames


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    root = tmp_path_factory.mktemp("fakes")
    train, clips = trajvit.generate(out=root / "train", samples=600), film(WORLD, 0, "test", 0, CLIPS)
    known = oracle(clips, WORLD, GIVEN)
    judge, cnn = (train_judge(JudgeConfig(steps=150, seed=seed), train, root / str(seed)) for seed in (0, 1))
    beside = Beside(
        judge, [cnn], balls_of(load_clips(train)), world=WORLD, known=known, bayes={4: certain(CLIPS), 8: certain(CLIPS)}
    )
    noise = torch.Generator().manual_seed(0)
    models = {
        "blank": Fake(lambda count: torch.zeros(count, 1, *WORLD.shape[:3])),
        "noise": Fake(lambda count: torch.rand(count, 1, *WORLD.shape[:3], generator=noise)),
        "nan": Fake(lambda count: torch.full((count, 1, *WORLD.shape[:3]), torch.nan)),
        "copied training": Copyist(train.read().frames),
        "oracle": Knowing(clips, known),
    }
    return {name: evaluate(model, clips, beside, generated=CLIPS // 2, futures=100) for name, model in models.items()}


def certain(count):
    return Metric.mean(np.ones(count), "share", {}, more_is_better=True)


def said(evaluation):
    return {(one.task, one.figure): one.verdict for one in headlines(evaluation.metrics)}


@pytest.mark.parametrize("name", UNREAL)
def test_what_makes_no_videos_loses_everywhere(verdicts, name):
    found = said(verdicts[name])
    assert len(found) == 17  # no Fréchet distance: that takes more clips than the judge has features
    passed = {row for row, verdict in found.items() if not verdict.startswith(("no better than", "behind"))}
    assert passed == {("generate", "near copies of training clips")}, found  # it copies nothing, that is true


def test_copies_of_mirrored_and_moved_clips_are_caught_where_the_model_learnt_from_such(verdicts, tmp_path):
    train, clips = trajvit.generate(out=tmp_path / "train", samples=64), film(WORLD, 0, "test", 0, CLIPS)
    recipe, judge = Recipe(mirrored=True, shifts=1), VideoClassifier(1, (8, 32, 32), 4)
    views = recipe.learnt(load_clips(train))
    copyist = Copyist(to_frames(views.videos()))
    for learnt, least, most in ((views, 1, 1), (load_clips(train), 0.2, 0.7)):
        made = score_generation(copyist, judge, clips, 64, learnt=balls_of(learnt))
        assert least <= made.metrics["near_copies"].value <= most


class FewFeatures(VideoClassifier):
    """Of a few clips it can be told how they are distributed."""

    def features(self, video):
        return super().features(video)[:, :4]


def test_the_frechet_distance_has_an_interval_where_three_quarters_of_the_clips_are_enough_for_it():
    torch.manual_seed(0)
    judge, clips = FewFeatures(1, (8, 32, 32), 4), film(WORLD, 0, "test", 0, 160)
    real = Fake(lambda count: to_video(film(WORLD, 0, "val", 0, count).frames))
    rivals = {"another draw": lambda labels: film(WORLD, 0, "train", 0, len(labels)).frames}
    distance = score_generation(real, judge, clips, 64, rivals=rivals).metrics["frechet_distance"]
    assert 0 <= distance.ci95[0] < distance.value < distance.ci95[1] < distance.baselines["blank"]
    assert (
        distance.differences["blank"][1] < 0
        and distance.differences["another draw"][0] < 0 < distance.differences["another draw"][1]
    )
    few = score_generation(real, judge, clips, 10).metrics
    assert few["frechet_distance"].ci95 is None and few["kernel_distance"].ci95 is None


def test_copied_training_clips_are_lawful_and_are_caught(verdicts):
    metrics, found = verdicts["copied training"].metrics, said(verdicts["copied training"])
    generation = metrics["generation"]
    assert generation["class_agreement"].value > 0.9 and generation["lawful"].value > 0.97
    assert generation["near_copies"].value == 1 and found["generate", "near copies of training clips"] == "no better than copies"
    for task in ("reconstruct", "predict (FP)"):
        assert found[task, "ball centre"] != "at the limit" and metrics["reconstruction"]["centre_error_px"].value > 4


def test_the_oracle_is_at_the_limit_everywhere_and_once_itself(verdicts):
    evaluation = verdicts["oracle"]
    for (task, _), verdict in said(evaluation).items():  # where a part is filled in, none is known
        assert verdict == ("ahead of all" if "fill in" in task and task != "fill in (CFP)" else "at the limit"), task
    assert evaluation.metrics["prediction"]["centre_error_px"].of_limit == pytest.approx(1, abs=0.03)
    of_samples = evaluation.metrics["futures"]["mean_of_10_px"]
    assert of_samples.value == pytest.approx(of_samples.baselines["oracle"], rel=0.05)
    assert evaluation.metrics["generation"]["near_copies"].value < 0.05


def test_nothing_that_fails_is_dropped_silently(verdicts):
    for name in UNREAL:
        for group in ("reconstruction", "prediction", "generation"):
            assert {"ball_found", "ball_doubled"} <= verdicts[name].metrics[group].keys()
    for name in ("blank", "nan"):
        assert verdicts[name].metrics["generation"]["ball_found"].value == 0
        assert np.isfinite(verdicts[name].prediction.error_px["magvit"]).all()


def test_the_tables_and_the_words_tell_it(verdicts):
    for evaluation in verdicts.values():
        table = str(headline_table(headlines(evaluation.metrics)))
        assert "generate (CG)" in table and "fill in (IPD)" in table and "nan" not in table
        assert "generation.near_copies" in str(metrics_table(evaluation.metrics))
    assert "1 times the oracle's" in in_words(verdicts["oracle"].metrics)
    assert "100.0% is nearer to a clip that was learnt from" in in_words(verdicts["copied training"].metrics)


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [
        (0.21, (0.2, 0.22), "at the limit"),
        (0.5, (0.4, 0.6), "ahead of all"),
        (0.95, (0.8, 1.1), "no better than rival"),
        (3.0, (2.5, 3.5), "behind rival"),
    ],
)
def test_a_verdict_goes_by_the_paired_interval(value, interval, verdict):
    low, high = interval
    metric = Metric(
        value=value,
        unit="px",
        ci95=interval,
        baselines={"poor": 9, "rival": 1},
        differences={"rival": (low - 1, high - 1)},
        limit=0.2,
    )
    assert Headline("t", "f", metric).verdict == verdict and metric.best_baseline == ("rival", 1)


def test_ahead_of_all_is_what_is_clearly_better_than_each_and_not_than_the_best_alone():
    metric = Metric(
        value=0.8,
        unit="px",
        ci95=(0.7, 0.9),
        baselines={"steady": 1.0, "erratic": 1.01},
        differences={"steady": (-0.3, -0.1), "erratic": (-0.9, 0.1)},
        limit=0.1,
    )
    assert Headline("t", "f", metric).verdict == "no better than erratic"


def test_of_what_has_no_interval_nothing_is_said_but_that_it_is_at_the_limit():
    for value, verdict in ((1.05, "at the limit"), (1.3, "no interval")):
        metric = Metric(value=value, unit="at n = 1000", baselines={"blank": 9.0}, limit=1.0)
        assert Headline("t", "f", metric).verdict == verdict


def test_a_distance_between_sets_is_at_the_limit_by_its_value_alone():
    for value, verdict in ((1.05, "at the limit"), (1.3, "ahead of all")):
        metric = Metric(
            value=value, unit="at n = 1000", ci95=(0.6, 2), baselines={"blank": 9.0}, differences={"blank": (-9, -7)}, limit=1.0
        )
        assert Headline("t", "f", metric).verdict == verdict
