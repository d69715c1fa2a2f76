"""The ladder: the same model on more and more clips, at equal compute and at compute that grows with them; what the next
rung would bring, and whether to climb it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float

from trajvit.evaluation.measure import Metric
from trajvit.evaluation.scores import TRIVIAL, score_classification, score_prediction, score_reconstruction
from trajvit.magvit.model import MAGVIT
from trajvit.metrics.centres import centre_error
from trajvit.metrics.scaling import ScalingLaw, fit_scaling_law
from trajvit.worlds.film import Clips

EQUAL, FULL = "equal", "full"
HEADLINE = "prediction_centre_error_px"
ERRORS = (HEADLINE, "reconstruction_centre_error_px")
FURTHER = (2, 4, 10)  # sizes that are thought about, as multiples of the top rung's


@dataclass(frozen=True)
class Plan:
    """A training of the ladder: `samples` clips, at `compute` EQUAL to all other rungs' or FULL."""

    samples: int
    compute: str
    tokenizer_steps: int
    transformer_steps: int

    def __str__(self) -> str:
        return f"{self.samples:,} clips at {self.compute} compute"

    @property
    def training(self) -> tuple[int, int, int]:
        """What decides the training: plans that differ in their compute alone are one."""
        return self.samples, self.tokenizer_steps, self.transformer_steps

    def hours(self, speed: Mapping[str, float]) -> float:
        """The time its steps take at a `speed` in steps/s of `tokenizer` and `transformer`."""
        return (self.tokenizer_steps / speed["tokenizer"] + self.transformer_steps / speed["transformer"]) / 3600


@dataclass(frozen=True)
class Rung:
    """What the model of a plan reaches, the errors of each clip behind it, and the steps/s it was trained at."""

    plan: Plan
    metrics: dict[str, Metric]
    errors: dict[str, Float[np.ndarray, " N"]]
    speed: dict[str, float]

    @property
    def hours(self) -> float:
        return self.plan.hours(self.speed)


@dataclass(frozen=True)
class Limits:
    """The best that is known to be reachable on the clips, where their world is known: the oracle's futures and accuracy."""

    known: Float[np.ndarray, "N ahead 2"] | None = None
    bayes: Mapping[int, Metric] = field(default_factory=dict)


def steps_at(samples: int, fewest: int, most: int, few: int, many: int) -> int:
    """The steps of `samples` clips at full compute: a power of their number that gives `few` to the `fewest` clips and
    `many` to the `most`."""
    share = 1.0 if samples == most else math.log(samples / fewest) / math.log(most / fewest) if most > fewest else 0.0
    return round(few * (many / few) ** share)


def score_rung(model: MAGVIT, clips: Clips, plan: Plan, speed: dict[str, float], limits: Limits) -> Rung:
    """Score one rung on held-out `clips`."""
    reconstruction = score_reconstruction(model, clips)
    prediction = score_prediction(model, clips, TRIVIAL, limits.known)
    metrics = {
        HEADLINE: prediction.metrics["centre_error_px"],
        "reconstruction_centre_error_px": reconstruction.metrics["centre_error_px"],
        "classification_accuracy": score_classification(model, clips, bayes=limits.bayes).metrics["accuracy"],
    }
    errors = {
        HEADLINE: prediction.ahead_px["magvit"],
        "reconstruction_centre_error_px": centre_error(reconstruction.frames, clips.pixels).mean(1),
    }
    return Rung(plan, metrics, errors, speed)


@dataclass(frozen=True)
class Reason:
    """One condition of a rung's gate, what was found, and whether that meets it."""

    asked: str
    found: str
    met: bool


@dataclass(frozen=True)
class RungGate:
    """Whether to climb a rung; GO where every reason is met."""

    plan: Plan
    reasons: tuple[Reason, ...]

    @property
    def verdict(self) -> str:
        return "GO" if all(reason.met for reason in self.reasons) else "NO-GO"


def judge_rung(plan: Plan, before: Sequence[Rung], speed: Mapping[str, float] | None, spent: float, budget: float) -> RungGate:
    """Decide on a rung from those `before` it at the same compute, the lowest first, and from the hours: `spent` so far of
    the `budget`, and its own at the `speed` known so far. What is not known yet stands in no rung's way."""
    return RungGate(plan, (_learnt(before), _gain(plan, before), _in_time(plan, speed, spent, budget)))


def already_trained(plan: Plan) -> RungGate:
    """The gate of a rung whose training is there: it costs nothing."""
    return RungGate(plan, (Reason("worth its time", "trained already", True),))


def _learnt(before: Sequence[Rung]) -> Reason:
    asked = "the rung before is ahead of the best simple answer"
    if not before:
        return Reason(asked, "there is none before", True)
    metric = before[-1].metrics[HEADLINE]
    name, value = metric.best_baseline
    found = f"{metric.value:.3g} px, {name.replace('_', ' ')} {value:.3g} px"
    return Reason(asked, found, metric.differences[name][1] < 0)


def _gain(plan: Plan, before: Sequence[Rung]) -> Reason:
    asked = "more is to be gained than the interval is wide"
    if len(before) < 2:
        return Reason(asked, "no trend is known yet", True)
    law, top = law_of(before, HEADLINE), before[-1]
    gain, half = law.at(top.plan.samples) - law.at(plan.samples), _half_width(top)
    return Reason(
        asked, f"{gain:.2g} px of {top.metrics[HEADLINE].value:.3g} are expected, ± {half:.2g} is the interval", gain > half
    )


def _in_time(plan: Plan, speed: Mapping[str, float] | None, spent: float, budget: float) -> Reason:
    asked = f"done within {_time(budget)}"
    if speed is None:
        return Reason(asked, "no speed is known yet", True)
    hours = plan.hours(speed)
    return Reason(asked, f"{_time(spent)} spent, {_time(hours)} more", spent + hours <= budget)


def _half_width(rung: Rung) -> float:
    low, high = rung.metrics[HEADLINE].ci95
    return (high - low) / 2


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 2 else f"{60 * hours:.2g} min"


def law_of(rungs: Sequence[Rung], name: str) -> ScalingLaw:
    """The scaling law of an error through two rungs or more of one compute."""
    samples, errors = np.array([rung.plan.samples for rung in rungs]), np.stack([rung.errors[name] for rung in rungs])
    return fit_scaling_law(samples, errors, rungs[0].metrics[name].limit or 0.0)


@dataclass(frozen=True)
class Size:
    """A next size that could be trained: the error expected with its interval, what it gains on the top rung, hours of
    this machine, and dollars of a rented one as fast."""

    plan: Plan
    error: float
    ci95: tuple[float, float]
    gain_ci95: tuple[float, float]
    hours: float
    dollars: float


@dataclass(frozen=True)
class Ladder:
    """All rungs climbed, the gate before each planned one, and what follows from them.

    `machine` and `dollars_per_hour` are of the rented machine that costs are told for; `further` are plans of sizes above
    the top rung.
    """

    rungs: tuple[Rung, ...]
    gates: tuple[RungGate, ...]
    further: tuple[Plan, ...]
    machine: str
    dollars_per_hour: float

    def at(self, compute: str) -> list[Rung]:
        """The rungs of one compute, the lowest first."""
        return [rung for rung in self.rungs if rung.plan.compute == compute]

    def law(self, compute: str, name: str) -> ScalingLaw | None:
        """The scaling law of an error; None where fewer than two rungs were climbed."""
        rungs = self.at(compute)
        return law_of(rungs, name) if len(rungs) > 1 else None

    @property
    def sizes(self) -> list[Size]:
        """What larger sizes are expected to give at full compute, the smallest first; none without a law."""
        law = self.law(FULL, HEADLINE)
        return [] if law is None else [self._size(law, plan) for plan in self.further]

    def _size(self, law: ScalingLaw, plan: Plan) -> Size:
        top, samples = self.at(FULL)[-1], plan.samples
        hours, gain = plan.hours(top.speed), law.gain_ci95(top.plan.samples, samples)
        return Size(plan, law.at(samples), law.ci95_at(samples), gain, hours, hours * self.dollars_per_hour)

    @property
    def recommended(self) -> Size | None:
        """The smallest size whose gain is surely more than the top rung's interval hides; None where there is none, or where
        the law is not determined."""
        law = self.law(FULL, HEADLINE)
        if law is None or not law.determined:
            return None
        half = _half_width(self.at(FULL)[-1])
        return next((size for size in self.sizes if size.gain_ci95[0] > half), None)

    @property
    def advice(self) -> str:
        """The recommendation in a sentence or two, with its reasons."""
        law = self.law(FULL, HEADLINE)
        if law is None:
            return "Nothing is recommended: fewer than two rungs were climbed at full compute."
        if not law.determined:
            return f"Nothing is recommended, since the law is not determined: {'; '.join(law.doubts)}."
        if (size := self.recommended) is None:
            return f"Stay at {self.at(FULL)[-1].plan.samples:,} clips: no size up to {FURTHER[-1]} times as many gains more than the interval hides."
        low, high = size.gain_ci95
        return (
            f"Next: {size.plan.samples:,} clips. Expected are {size.error:.3g} px ({size.ci95[0]:.3g} to {size.ci95[1]:.3g}), "
            f"{low:.2g} to {high:.2g} px less than now, after {_time(size.hours)} of training at this machine's speed, "
            f"${size.dollars:.2f} on a {self.machine} that is as fast. The intervals are of the choice of clips; another "
            "seed's training would scatter too."
        )

    def as_json(self) -> dict:
        """Gates, laws and recommendation."""
        laws = {(compute, name): self.law(compute, name) for compute in (EQUAL, FULL) for name in ERRORS}
        return {
            "gates": [
                asdict(gate.plan) | {"verdict": gate.verdict, "reasons": [vars(one) for one in gate.reasons]}
                for gate in self.gates
            ],
            "laws": [
                {"compute": compute, "error": name, "floor": law.floor, "amount": law.amount, "exponent": law.exponent}
                | {"exponent_ci95": law.exponent_ci95, "doubts": law.doubts}
                for (compute, name), law in laws.items()
                if law is not None
            ],
            "hours": {str(rung.plan): rung.hours for rung in self.rungs},
            "recommended": None if self.recommended is None else asdict(self.recommended),
            "advice": self.advice,
        }
