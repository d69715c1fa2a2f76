"""A figure that says what it is worth: beside its interval, its trivial baselines and its limit."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from trajvit.datasets.files import write_json
from trajvit.metrics.intervals import mean_ci95, paired_difference
from trajvit.settings import InputError, Settings

BETWEEN_SETS = "at n = "  # what the unit of a distance between sets begins with


class Metric(Settings):
    """One measured figure: an error, or, where `more_is_better`, a merit.

    `baselines` are what others reach on the same clips; `differences` the 95 % intervals of this figure less theirs, paired
    by clip, where theirs are known clip by clip. `limit` is what perfect knowledge of the world reaches on the
    same clips, None where that is not known.
    """

    value: float
    unit: str
    ci95: tuple[float, float] | None = None
    baselines: dict[str, float] = Field(default_factory=dict)
    differences: dict[str, tuple[float, float]] = Field(default_factory=dict)
    limit: float | None = None
    more_is_better: bool = False

    @classmethod
    def mean(
        cls,
        values: Float[np.ndarray, " N"],
        unit: str,
        baselines: Mapping[str, float | Float[np.ndarray, " N"]],
        limit: float | None = None,
        more_is_better: bool = False,
    ) -> "Metric":
        """The mean over clips with its 95 % interval, a share's or else the bootstrap's, beside baselines that are means or
        values of each clip."""
        values = values.astype(np.float64)
        paired = {name: paired_difference(values, one) for name, one in baselines.items() if np.ndim(one)}
        return cls(
            value=float(values.mean()),
            unit=unit,
            ci95=mean_ci95(values),
            baselines={name: float(np.mean(one)) for name, one in baselines.items()},
            differences=paired,
            limit=limit,
            more_is_better=more_is_better,
        )

    @property
    def between_sets(self) -> bool:
        """Whether it is a distance between sets of so many clips, in the features of a run's own judge: its limit was measured too."""
        return self.unit.startswith(BETWEEN_SETS)

    @property
    def best_baseline(self) -> tuple[str, float] | None:
        """The baseline that comes nearest to what is wanted, by name; None where there is none."""
        best = max if self.more_is_better else min
        return best(self.baselines.items(), key=lambda item: item[1], default=None)

    @property
    def of_limit(self) -> float | None:
        """How many times the limit this figure is; None where that has no meaning, as for a share."""
        return self.value / self.limit if self.limit and self.unit != "share" else None

    def __str__(self) -> str:
        interval = f" [{self.ci95[0]:.4g}, {self.ci95[1]:.4g}]" if self.ci95 else ""
        baselines = "".join(f", {name} {value:.4g}" for name, value in self.baselines.items())
        limit = f", limit {self.limit:.4g}" if self.limit is not None else ""
        return f"{self.value:.4g} {self.unit}{interval}{baselines}{limit}"


Metrics = dict[str, dict[str, Metric]]  # group, such as `reconstruction`, then name, such as `psnr_db`


def record(run_dir: Path, notebook: str, metrics: Metrics, **more) -> None:
    """Put a notebook's metrics, and `more` JSON beside them, into the run's `metrics.json`, replacing its earlier ones."""
    path = run_dir / "metrics.json"
    everything = read_metrics(run_dir)
    measured = {group: {name: metric.model_dump(mode="json") for name, metric in rows.items()} for group, rows in metrics.items()}
    write_json(path, everything | {notebook: measured | more})


def read_metrics(run_dir: Path) -> dict:
    """The content of a run's `metrics.json`; empty where there is none. Raises `InputError` for a damaged one."""
    try:
        return json.loads((run_dir / "metrics.json").read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{run_dir}/metrics.json cannot be read ({error}): delete it and run again") from None


def named_right(probabilities: Float[np.ndarray, "N K"], label: Integer[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """1 for each clip whose likeliest class is its own, else 0."""
    return (probabilities.argmax(1) == label).astype(float)
