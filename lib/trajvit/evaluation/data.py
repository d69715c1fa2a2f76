"""Is the data what it should be? What the verifications of a run's datasets found, as metrics."""

import numpy as np

from trajvit.datasets.verification import Verification
from trajvit.evaluation.measure import Metric


def score_data(verifications: list[Verification]) -> dict[str, Metric]:
    """Duplicates within and between the datasets, the balance of the classes, and the ball against its projection."""
    digests = np.concatenate([found.digests for found in verifications])
    return {
        "clips": Metric(value=digests.size, unit="clips"),
        "duplicates": Metric(value=digests.size - np.unique(digests).size, unit="clips", limit=0),
        "class_imbalance": Metric(value=max(found.imbalance for found in verifications), unit="clips", limit=0),
        "balls_outside": Metric(value=sum(found.outside for found in verifications), unit="clips", limit=0),
        "centre_error_px_max": Metric(value=max(found.centre_error_px for found in verifications), unit="px", limit=0),
    }
