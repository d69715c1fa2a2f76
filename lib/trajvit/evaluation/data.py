"""Is the data what it should be? Looked at as a sceptic would, from the stored files alone."""

import hashlib

import numpy as np

from trajvit.datasets.store import Dataset
from trajvit.evaluation.measure import Metric
from trajvit.metrics.centres import ball_centres, light_centres
from trajvit.worlds.families import NAMES

BLOCK = 2048


def score_data(datasets: list[Dataset]) -> dict[str, Metric]:
    """Duplicates within and between the datasets, the balance of the classes, and the ball against its projection."""
    seen: set[bytes] = set()
    duplicates, imbalance, errors, missing = 0, 0, [], 0
    for dataset in datasets:
        counts = np.zeros(len(NAMES), np.int64)
        for start in range(0, len(dataset), BLOCK):
            clips = dataset.read(start, min(start + BLOCK, len(dataset)))
            digests = {hashlib.sha256(frames.tobytes()).digest() for frames in clips.frames}
            duplicates += len(clips.label) - len(digests - seen)
            seen |= digests
            counts += np.bincount(clips.label, minlength=len(NAMES))
            errors.append(np.linalg.norm(light_centres(clips.frames) - clips.pixels, axis=-1).max(axis=1))
            missing += int((~ball_centres(clips.frames)[1]).sum())
        imbalance = max(imbalance, int(counts.max() - counts.min()))
    error = np.concatenate(errors)
    return {
        "clips": Metric(value=error.size, unit="clips"),
        "duplicates": Metric(value=duplicates, unit="clips", limit=0),
        "class_imbalance": Metric(value=imbalance, unit="clips", limit=0),
        "missing_balls": Metric(value=missing, unit="frames", limit=0),
        "centre_error_px_max": Metric(value=float(error.max()), unit="px", limit=0),
    }
