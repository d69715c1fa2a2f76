"""GO or NO-GO: is what was measured good enough to spend more on?"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from trajvit.evaluation.measure import Metric, Metrics


@dataclass(frozen=True)
class Bar:
    """One condition: a metric, the threshold it has to reach (a function of the metric and the frame's height), why."""

    group: str
    name: str
    baseline: str
    at_least: bool
    threshold: Callable[[Metric, int], float]
    asked: str


BARS = (
    Bar(
        "reconstruction",
        "centre_error_px",
        "blank",
        False,
        lambda metric, height: height / 80,
        "at most 1/80 of the frame's height",
    ),
    Bar("reconstruction", "psnr_db", "blank", True, lambda metric, _: metric.baselines["blank"] + 12, "at least blank + 12 dB"),
    Bar(
        "reconstruction",
        "code_usage",
        "one_code",
        True,
        lambda metric, _: metric.limit / 2,
        "at least half of the codes that as many tokens could show",
    ),
    Bar("classification", "accuracy", "chance", True, lambda *_: 0.95, "at least 0.95"),
    Bar(
        "prediction",
        "centre_error_px",
        "copy_last",
        False,
        lambda metric, _: 0.35 * metric.baselines["copy_last"],
        "at most 35 % of copy-last's error",
    ),
    Bar("generation", "class_agreement", "chance", True, lambda *_: 0.85, "at least 0.85"),
)


@dataclass(frozen=True)
class Row:
    """One condition with what was measured."""

    name: str
    value: float
    unit: str
    baseline_name: str
    baseline: float
    threshold: float
    asked: str
    verdict: str


@dataclass(frozen=True)
class Gate:
    """All conditions; GO when every one holds."""

    rows: tuple[Row, ...]

    @property
    def verdict(self) -> str:
        return "GO" if all(row.verdict == "GO" for row in self.rows) else "NO-GO"

    def as_json(self, enforced: bool) -> dict:
        """What the runner reads; `enforced` says whether a NO-GO stops the run."""
        return {"verdict": self.verdict, "enforced": enforced, "rows": [vars(row) for row in self.rows]}


def judge_gate(metrics: Metrics, height: int) -> Gate:
    """Hold the metrics against `BARS`; `height` is the frame's in px. A value that is not a number fails its bar."""
    rows = []
    for bar in BARS:
        metric = metrics[bar.group][bar.name]
        threshold = bar.threshold(metric, height)
        reached = metric.value >= threshold if bar.at_least else metric.value <= threshold
        passed = math.isfinite(metric.value) and reached
        asked = f"{bar.asked} ({threshold:.3g})"
        baseline = metric.baselines[bar.baseline]
        rows.append(
            Row(
                f"{bar.group}.{bar.name}",
                metric.value,
                metric.unit,
                bar.baseline,
                baseline,
                threshold,
                asked,
                "GO" if passed else "NO-GO",
            )
        )
    return Gate(tuple(rows))
