from dataclasses import replace

import numpy as np
import pytest
import trajvit
from trajvit.datasets.loading import load_clips
from trajvit.datasets.progress import silent
from trajvit.evaluation.ablations import (
    DECODINGS,
    TOKENIZERS,
    TRANSFORMERS,
    Ablated,
    Budget,
    Laboratory,
    ablate,
    read_ablations,
    write_ablations,
)
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.scores import score_prediction
from trajvit.magvit.decoding import GREEDY
from trajvit.magvit.model import MAGVIT
from trajvit.metrics.intervals import seeds_ci95
from trajvit.reporting.tables import ablations_table
from trajvit.settings import InputError

TINY = Budget(tokenizer_steps=2, transformer_steps=2, tokenizer_batch=4, transformer_batch=4, judge_steps=2, generated=4, seeds=2)


@pytest.fixture(scope="module", autouse=True)
def briefly_inflated():
    """The image tokenizer takes two steps of its 150."""
    with pytest.MonkeyPatch.context() as patched:
        brief = (*TOKENIZERS[:-1], replace(TOKENIZERS[-1], recipe={"image_steps": 2}))
        patched.setattr("trajvit.evaluation.ablations.TOKENIZERS", brief)
        yield


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablations")
    train, val = (trajvit.generate(out=root / split, samples=8, split=split) for split in ("train", "val"))
    return root, train, val, ablate(TINY, train, val, root / "trainings")


def test_every_variation_is_trained_and_scored_with_every_seed(ablated):
    _, _, val, rows = ablated
    assert [(row.group, row.name) for row in rows] == [(one.group, one.name) for one in (*TOKENIZERS, *TRANSFORMERS, *DECODINGS)]
    assert all(len(values) == 2 for row in rows for values in row.metrics.values())
    one_pass = next(row for row in rows if row.group == "decoding by confidence" and row.name == "1 steps")
    published = score_prediction(MAGVIT.from_pretrained("compact-30k"), val.read(), decoding=GREEDY)  # of one view too
    assert one_pass.metrics["prediction_px"] == [published.metrics["centre_error_px"].value] * 2


def test_what_is_finished_is_not_trained_again(ablated, monkeypatch):
    root, train, val, rows = ablated
    monkeypatch.setattr("trajvit.training.loop.batch_rows", None)
    judge = train_judge(JudgeConfig(steps=TINY.judge_steps), train, root / "trainings" / "judge")
    lab = Laboratory(TINY, train, load_clips(train), val.read(), judge, root / "trainings", silent)
    variation, metrics = next(lab.measured(1))
    assert variation == TOKENIZERS[0] and metrics == {name: values[1] for name, values in rows[0].metrics.items()}


def test_what_was_found_is_kept_and_shown(ablated, tmp_path):
    _, train, _, rows = ablated
    write_ablations(tmp_path / "a.json", TINY, train, rows)
    budget, data, read = read_ablations(tmp_path / "a.json")
    assert (budget, read) == (TINY, rows) and data["samples"] == 8
    text = str(ablations_table(rows))
    assert "LFQ" in text and "halton" in text
    (tmp_path / "a.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="bench ablate"):
        read_ablations(tmp_path / "a.json")


def test_a_difference_that_all_seeds_share_is_marked():
    recipe = Ablated("g", "recipe", {"px": [1.0, 2.0, 3.0]})
    worse = Ablated("g", "worse", {"px": [2.0, 3.0, 4.01]})
    low, high = worse.difference_ci95("px", recipe)
    assert low < 1.0034 < high and high - low < 0.06
    assert str(ablations_table([recipe, worse])).splitlines()[2].endswith("*")


def test_intervals_over_seeds_are_students():
    low, high = seeds_ci95(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))
