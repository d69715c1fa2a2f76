"""The posterior by simulation: millions of paths drawn from the prior, weighed by how well they fit the clip."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from trajvit.evaluation.posterior import Scene, Weighted
from trajvit.settings import InputError
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.shape_posterior import draw_shapes, weigh_shapes

# Paths of each family in a batch, and how many batches at most; clips with enough effective samples need no further ones.
BATCH, MOST_BATCHES, ENOUGH = 1_000_000, 8, 300
# Fitting paths of a family and batch of which account is kept for one clip.
MOST_FOUND = 50_000
# Paths whose motion across the view misses by more standard deviations are not looked at.
REACH = 8.0


def by_simulation(scene: Scene, sightings: Float64[np.ndarray, "N k 3"], seed: int) -> Iterator[Weighted]:
    """The weighted samples of each clip, given its sightings (u, v, radius) in px in its first k >= 2 frames.

    Knows of the families no more than their priors and `position`, and that x, y, z and vz only move a path.
    """
    if sightings.shape[1] < 2:
        raise InputError(f"given = {sightings.shape[1]}: simulation needs to see the ball move; give it 2 frames or more")
    samples = [[] for _ in sightings]
    waiting = np.arange(len(sightings))
    for batch in range(MOST_BATCHES):
        for label, family in enumerate(FAMILIES):
            _weigh_family(scene, sightings, waiting, label, list(family.textbook).index("vz"), seed + 7919 * batch, samples)
        waiting = np.array([n for n in waiting if _gather(samples[n]).effective < ENOUGH], int)
        if not waiting.size:
            break
    return (_gather(rows) for rows in samples)


def _weigh_family(scene: Scene, sightings, clips, label: int, vz_place: int, seed: int, samples: list) -> None:
    """Add to the samples of each of `clips` those of one family in a fresh batch of paths."""
    given = sightings.shape[1]
    priors, reach = scene.priors[label], 0.0
    values, rolls = np.zeros((BATCH, priors.shape[0])), np.empty(BATCH)
    shapes = np.empty((BATCH, len(scene.times), 2), np.float32)
    draw_shapes(label, priors, vz_place, scene.times, scene.roll_turns, seed % 2**32, values, rolls, shapes)
    # In the order of their motion along x from the first to the last given frame, so that a clip needs only a few.
    motion = shapes[:, given - 1, 0] - shapes[:, 0, 0]
    order = np.argsort(motion)
    motion, values, rolls, shapes = motion[order], values[order], rolls[order], shapes[order]
    focal, _, width, ball, fixed_depth, _ = scene.optics
    logs, futures = np.empty(MOST_FOUND), np.empty((MOST_FOUND, len(scene.times) - given, 2))
    for n in clips:
        first, last = 0, BATCH
        if fixed_depth == 0:  # else the depth is unknown, and so how far the ball has moved
            x = (sightings[n, :, 0] - (width - 1) / 2) * ball / sightings[n, :, 2]
            reach = REACH * np.hypot(2 * scene.noise_m, 2 * scene.errors.max() / focal * 4)
            first, last = np.searchsorted(motion, x[-1] - x[0] + np.array([-reach, reach]))
        found = weigh_shapes(
            label, priors, vz_place, scene.times, given, sightings[n], scene.optics, scene.noise_m, scene.errors, shapes, values,
            rolls, first, last, (seed + 31 * n) % 2**32, logs, futures,
        )  # fmt: skip
        log = logs[:found] - np.log(BATCH) - np.log(scene.kept[label])
        samples[n].append((log, np.full(found, label), futures[:found].copy()))


def _gather(rows: list) -> Weighted:
    """The samples of all batches; each family has had as many batches as the others, so weights need no further factor."""
    return Weighted(*(np.concatenate(column) for column in zip(*rows, strict=True)))
