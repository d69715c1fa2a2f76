"""What an evaluation comes to: its headline figures, each with a verdict, and the same in words."""

from collections.abc import Iterator
from dataclasses import dataclass

from trajvit.evaluation.futures import SAMPLES
from trajvit.evaluation.measure import Metric, Metrics

# An error of at most so many times its limit is at it: the ball drawn by a model is found less sharply than the true one.
AT_LIMIT = 1.1
# Task, figure, and where it stands among the metrics.
FIGURES = (
    ("reconstruct", "ball centre", "reconstruction", "centre_error_px"),
    ("classify (CLS)", "from the whole clip", "classification", "accuracy"),
    ("classify", "from half of the frames", "classification", "accuracy_from_half"),
    ("predict (FP)", "ball centre", "prediction", "centre_error_px"),
    ("predict", "best of ten samples", "futures", f"best_of_{SAMPLES}_px"),
    ("predict", "how far off the samples' spread is", "futures", "coverage_error"),
    ("generate (CG)", "of the class asked for", "generation", "class_agreement"),
    ("generate", "lawful", "generation", "lawful"),
    ("generate", "Fréchet distance, own features", "generation", "frechet_distance"),
    ("generate", "near copies of training clips", "generation", "near_copies"),
)


@dataclass(frozen=True)
class Headline:
    """One figure of an evaluation."""

    task: str
    figure: str
    metric: Metric

    @property
    def verdict(self) -> str:
        """`at the limit`, `ahead of all`, `behind` the best baseline, or `no better than` the best of those of which it is within chance
        which is better; of a figure whose chance is not known, no more than whether it is at the limit."""
        metric = self.metric
        if metric.limit is not None and self._reaches(metric.limit):
            return "at the limit"
        if metric.best_baseline is None:
            return "behind the limit"
        best, _ = metric.best_baseline
        if metric.ci95 is None and best not in metric.differences:
            return "no interval"
        if self._beyond(best)[1]:
            return f"behind {best.replace('_', ' ')}"
        for name in sorted(metric.baselines, key=metric.baselines.get, reverse=metric.more_is_better):
            if not self._beyond(name)[0]:
                return f"no better than {name.replace('_', ' ')}"
        return "ahead of all"

    def _beyond(self, baseline: str) -> tuple[bool, bool]:
        """Whether the figure is clearly better than a baseline's, and whether it is clearly worse."""
        metric, value = self.metric, self.metric.baselines[baseline]
        own_low, own_high = metric.ci95 or (metric.value, metric.value)
        low, high = metric.differences.get(baseline, (own_low - value, own_high - value))
        return (low > 0, high < 0) if metric.more_is_better else (high < 0, low > 0)

    def _reaches(self, limit: float) -> bool:
        """Whether the figure or the better end of its interval is as good as the limit; an error may be a tenth above
        it. What is better the more of it there is has no such slack: of 100 %, 91 are far from all. A distance between sets of
        clips is at the limit by its value alone: the fewer clips, the less either of the two is known."""
        low, high = (self.metric.ci95 if not self.metric.between_sets else None) or (self.metric.value, self.metric.value)
        return high >= limit if self.metric.more_is_better else low <= limit * AT_LIMIT


def headlines(metrics: Metrics) -> list[Headline]:
    """The headline figures that were measured, and each task that hides a part of the clip besides FP, which is among them."""
    found = [
        Headline(task, figure, metrics[group][name]) for task, figure, group, name in FIGURES if name in metrics.get(group, {})
    ]
    return found + [
        Headline(f"fill in ({name})", "ball centre where hidden", one)
        for name, one in metrics.get("tasks", {}).items()
        if name != "FP"
    ]


def in_words(metrics: Metrics) -> str:
    """What the figures say, a sentence each, as Markdown."""
    return "\n".join(f"- {sentence}" for sentence in _sentences(metrics))


def _sentences(metrics: Metrics) -> Iterator[str]:
    error = metrics["reconstruction"]["centre_error_px"]
    yield f"Its tokens hold the ball's place to {error.value:.3g} px; in the real frames it is found to {error.limit:.2g} px."
    accuracy = metrics["classification"]["accuracy"]
    yield (
        f"It names the family of {accuracy.value:.1%} of the clips"
        + (f", where {accuracy.limit:.1%} can be known" if accuracy.limit is not None else "")
        + f"; a 3-D CNN on pixels names {accuracy.baselines['cnn_on_pixels']:.1%}."
    )
    ahead = metrics["prediction"]["centre_error_px"]
    if ahead.limit is not None:
        yield f"It predicts the ball to {ahead.value:.3g} px, {ahead.of_limit:.3g} times the oracle's {ahead.limit:.3g} px."
    better = sorted((value, name.replace("_", " ")) for name, value in ahead.baselines.items() if value < ahead.value)
    worse = sorted((value, name.replace("_", " ")) for name, value in ahead.baselines.items() if value >= ahead.value)
    for wording, rivals in (("Better predictions come from", better), ("Worse ones come from", worse)):
        if rivals:
            yield f"{wording} {', '.join(f'{name} ({value:.3g} px)' for value, name in rivals)}."
    generation = metrics["generation"]
    yield f"Of what it generates, {generation['class_agreement'].value:.1%} is taken for the family that was asked for."
    if "lawful" in generation:
        lawful = generation["lawful"]
        yield f"{lawful.value:.1%} keeps to that family's law, as {lawful.limit:.1%} of the real clips do."
    if "near_copies" in generation:
        copies = generation["near_copies"]
        yield f"{copies.value:.1%} is nearer to a clip that was learnt from than all but {copies.limit:.0%} of the real clips are."
