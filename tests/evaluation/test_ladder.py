from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from trajvit.evaluation.ladder import EQUAL, FULL, HEADLINE, Ladder, Plan, Rung, judge_rung, steps_at
from trajvit.evaluation.measure import Metric
from trajvit.reporting.figures import ladder as ladder_figure
from trajvit.reporting.tables import ladder_table, rung_gates_table, sizes_table
from trajvit.running.ladder import climb
from trajvit.running.parameters import Parameters
from trajvit.running.stations import make_data

SPEED = {"tokenizer": 8.0, "transformer": 6.0}
SIZES = (1000, 5000, 30_000)
FOUR = (1000, 3000, 10_000, 30_000)


def plan(samples, compute=FULL):
    many = samples if compute == FULL else 1000
    return Plan(samples, compute, steps_at(many, 1000, 30_000, 600, 2400), steps_at(many, 1000, 30_000, 900, 4000))


def rung(samples, error, compute=FULL, clips=300):
    hardness = np.random.Generator(np.random.Philox(key=1)).lognormal(0, 0.3, clips)
    errors = error * hardness / hardness.mean()
    metrics = {
        HEADLINE: Metric.mean(errors, "px", {"copy_last": 6.9 * hardness / hardness.mean()}, 0.15),
        "reconstruction_centre_error_px": Metric.mean(errors / 10, "px", {"blank": 6.0}, 0.02),
        "classification_accuracy": Metric.mean((errors < 3).astype(float), "share", {"chance": 0.25}, 1.0, more_is_better=True),
    }
    return Rung(plan(samples, compute), metrics, {HEADLINE: errors, "reconstruction_centre_error_px": errors / 10}, SPEED)


def ladder(full, equal=(), gates=()):
    sizes = FOUR if len(full) == len(FOUR) else SIZES
    rungs = [rung(n, error, EQUAL) for n, error in zip(sizes, equal, strict=False)]
    rungs += [rung(n, error) for n, error in zip(sizes, full, strict=False)]
    return Ladder(tuple(rungs), tuple(gates), tuple(plan(many * 30_000) for many in (2, 4, 10)), "c7i.large", 0.1)


def test_steps_grow_from_the_lowest_rungs_to_the_runs_own():
    assert [steps_at(n, 1000, 30_000, 600, 2400) for n in SIZES] == [600, 1156, 2400]
    assert steps_at(60_000, 1000, 30_000, 600, 2400) > 2400
    assert steps_at(64, 64, 64, 8, 12) == 12


def verdicts(gate):
    return [reason.met for reason in gate.reasons]


def test_nothing_stands_in_the_way_of_the_first_rung():
    gate = judge_rung(plan(1000), [], None, 0.0, 1.0)
    assert gate.verdict == "GO" and len(gate.reasons) == 3


@pytest.mark.parametrize(
    ("before", "spent", "met"),
    [
        ([rung(1000, 3.0), rung(5000, 2.0)], 0.1, [True, True, True]),
        ([rung(1000, 7.5), rung(5000, 7.0)], 0.1, [False, True, True]),
        ([rung(1000, 3.0), rung(5000, 2.99)], 0.1, [True, False, True]),
        ([rung(1000, 3.0), rung(5000, 2.0)], 0.9, [True, True, False]),
    ],
    ids=["go", "no better than copying", "nothing to gain", "no time"],
)
def test_a_gate_says_no_with_its_reason(before, spent, met):
    gate = judge_rung(plan(30_000), before, SPEED, spent, 1.0)
    assert verdicts(gate) == met and gate.verdict == ("GO" if all(met) else "NO-GO")
    assert all(reason.found for reason in gate.reasons)
    assert ("NO-GO" in str(rung_gates_table([gate]))) == (not all(met))


def test_the_next_size_is_the_smallest_whose_gain_is_more_than_the_interval():
    climbed = ladder([30 * n**-0.3 for n in SIZES])
    size = climbed.recommended
    assert size.plan.samples == 60_000 and size.error == pytest.approx(30 * 60_000**-0.3, rel=1e-3)
    hours = (size.plan.tokenizer_steps / 8 + size.plan.transformer_steps / 6) / 3600
    assert size.hours == pytest.approx(hours) and size.dollars == pytest.approx(0.1 * hours)
    assert "Next: 60,000 clips" in climbed.advice and "recommended" in str(sizes_table(climbed))


@pytest.mark.parametrize(
    ("full", "says"),
    [
        ([2.0, 2.0, 2.0], "does not clearly fall"),
        ([3.0, 2.0], "2 sizes lie on every power law"),
        ([3.0], "fewer than two rungs"),
        ([1 + 3000 * n**-1.2 for n in FOUR], "Stay at 30,000 clips"),
        ([1 + 3000 * n**-1.2 for n in SIZES], "3 sizes lie on a power law with a floor"),
    ],
)
def test_where_nothing_is_worth_it_or_known_nothing_is_recommended(full, says):
    climbed = ladder(full)
    assert climbed.recommended is None and says in climbed.advice
    assert climbed.as_json()["recommended"] is None


def test_the_figure_shows_both_curves_with_their_intervals_and_the_limit():
    climbed = ladder([3.0, 2.0, 1.2], [3.0, 2.6, 2.3], [judge_rung(plan(1000), [], None, 0.0, 1.0)])
    figure = ladder_figure(climbed)
    first, _, last = figure.axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["copy last", "limit", "equal compute", "full compute"]
    assert first.get_xscale() == first.get_yscale() == "log" and last.get_yscale() == "linear"
    plt.close(figure)
    assert str(ladder_table(climbed.rungs)).count("compute") >= 1 and len(climbed.as_json()["laws"]) == 4


def test_a_climb_trains_each_rung_once_and_the_second_time_none(tmp_path, monkeypatch):
    parameters = Parameters(
        samples=24,
        eval_samples=8,
        data_dir=str(tmp_path / "data"),
        run_dir=str(tmp_path / "run"),
        tokenizer_steps=3,
        transformer_steps=3,
        ladder=(8, 24),
        ladder_tokenizer_steps=2,
        ladder_transformer_steps=2,
    )
    train, val = make_data(parameters, "train"), make_data(parameters, "val")
    climbed = climb(parameters, train, val)
    assert [(one.plan.samples, one.plan.compute) for one in climbed.rungs] == [(8, EQUAL), (24, EQUAL), (8, FULL), (24, FULL)]
    assert replace(climbed.rungs[2].plan, compute=EQUAL) == climbed.rungs[0].plan
    assert sorted(path.name for path in (tmp_path / "run" / "ladder").iterdir()) == ["24-2-2", "8-2-2"]
    assert (tmp_path / "run" / "magvit" / "model.safetensors").exists()  # the top rung is notebook 02's training
    assert all(one.speed["tokenizer"] > 0 and one.hours > 0 for one in climbed.rungs)
    monkeypatch.setattr("trajvit.training.loop.batch_rows", None)
    again = climb(parameters, train, val)
    assert [one.metrics for one in again.rungs] == [one.metrics for one in climbed.rungs]
    assert all(gate.verdict == "GO" and gate.reasons[0].found == "trained already" for gate in again.gates)


def test_a_no_go_ends_the_climb_where_it_is_enforced(tmp_path, monkeypatch):
    monkeypatch.setattr("trajvit.training.loop.batch_rows", None)  # nothing is trained
    monkeypatch.setattr("trajvit.running.ladder.speed_of", lambda _: SPEED)
    parameters = Parameters(
        data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "run"), enforce_gate=True, ladder_hours=1e-9, eval_samples=4
    )
    climbed = climb(parameters, make_data(parameters, "train"), make_data(parameters, "val"))
    assert climbed.rungs == () and [gate.verdict for gate in climbed.gates] == ["NO-GO", "NO-GO"]
    assert "fewer than two rungs" in climbed.advice and not ladder_figure(climbed).axes
