"""Several futures of one clip: is the truth among them as often as it should be?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trajvit.datasets.loading import to_frames, to_video
from trajvit.evaluation.measure import Metric
from trajvit.evaluation.oracle import Oracle
from trajvit.magvit.decoding import DRAWING
from trajvit.magvit.model import MAGVIT, Video
from trajvit.magvit.tasks import given_frames
from trajvit.metrics.calibration import Coverage, sample_coverage
from trajvit.metrics.centres import ball_centres
from trajvit.worlds.film import Clips

SAMPLES = 10


@dataclass(frozen=True)
class Futures:
    """`centres` (N, S, T - given, 2) in px of S predictions of each clip, and how they cover the truth: of `magvit`, of its
    `one_answer` repeated, and of the `oracle` where it is known."""

    metrics: dict[str, Metric]
    centres: dict[str, Float[np.ndarray, "N S A 2"]]
    coverage: dict[str, Coverage]


def score_futures(model: MAGVIT, clips: Clips, count: int, known: Oracle | None = None, seed: int = 0) -> Futures:
    """Predict each of the first `count` clips `SAMPLES` times from the first half of its frames, each time drawing anew.

    Beside them stands the model's one answer, the likeliest, and the oracle's draws, which are samples of the posterior: as the
    limit, but for the mean over the samples, which is less the less they are spread.
    """
    frames, given = clips.frames[:count], given_frames(clips.frames.shape[1])
    context, truth = to_video(frames)[:, :, :given], clips.pixels[:count, given:].astype(np.float64)

    def centres_ahead(made: Video) -> Float[np.ndarray, "N A 2"]:
        return ball_centres(to_frames(made))[0][:, given:]

    drawn = [centres_ahead(model.predict(context, seed=seed * SAMPLES + k, decoding=DRAWING)) for k in range(SAMPLES)]
    greedy = centres_ahead(model.predict(context))
    centres = {"magvit": np.stack(drawn, axis=1), "one_answer": np.repeat(greedy[:, None], SAMPLES, axis=1)}
    if known is not None:
        centres["oracle"] = known.draws[:count, :SAMPLES].astype(np.float64)
    coverage = {name: sample_coverage(one, truth) for name, one in centres.items()}
    errors = {name: np.linalg.norm(one - truth[:, None], axis=-1).mean(-1) for name, one in centres.items()}  # each (N, S)

    best, mean = ({name: of_samples(error, axis=1) for name, error in errors.items()} for of_samples in (np.min, np.mean))
    off = {name: one.error for name, one in coverage.items()}
    metrics = {
        f"best_of_{SAMPLES}_px": Metric.mean(
            best["magvit"], "px", {"one_answer": best["one_answer"]}, None if known is None else float(best["oracle"].mean())
        ),
        # The oracle stands among the others, since here it is no limit.
        f"mean_of_{SAMPLES}_px": Metric.mean(mean["magvit"], "px", {name: one for name, one in mean.items() if name != "magvit"}),
        "coverage_error": Metric(
            value=off["magvit"],
            unit="share",
            ci95=coverage["magvit"].ci95,
            baselines={"one_answer": off["one_answer"]},
            limit=off.get("oracle"),
        ),
    }
    return Futures(metrics, centres, coverage)
