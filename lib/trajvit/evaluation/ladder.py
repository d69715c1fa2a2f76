"""The ladder: the same model and compute on more and more clips."""

from dataclasses import dataclass

from trajvit.evaluation.measure import Metric
from trajvit.evaluation.scores import score_classification, score_prediction, score_reconstruction
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.model import MAGVIT
from trajvit.worlds.film import Clips


@dataclass(frozen=True)
class Rung:
    """What a model trained on `samples` clips reaches."""

    samples: int
    metrics: dict[str, Metric]


def score_rung(model: MAGVIT, judge: VideoClassifier, clips: Clips, samples: int) -> Rung:
    """Score one rung on held-out `clips`."""
    return Rung(
        samples,
        {
            "reconstruction_centre_error_px": score_reconstruction(model, clips).metrics["centre_error_px"],
            "prediction_centre_error_px": score_prediction(model, clips).metrics["centre_error_px"],
            "classification_accuracy": score_classification(model, judge, clips).metrics["accuracy"],
        },
    )
