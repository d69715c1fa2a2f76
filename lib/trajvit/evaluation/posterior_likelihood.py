"""The posterior by likelihood: every family fitted to the clip, then importance sampling around the fits."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from trajvit.evaluation.posterior import Scene, Weighted
from trajvit.settings import InputError
from trajvit.worlds.camera import Camera
from trajvit.worlds.families import NAMES
from trajvit.worlds.linear_posterior import (
    CELLS,
    FORMS,
    MOST_UNKNOWNS,
    choose,
    draw_unknowns,
    either_place,
    sample,
    scan_grid,
    unknowns,
)

# Samples of every way to fly in the first look and in each later round, at most in all, and how many effective ones will do.
FIRST_LOOK, ROUND, MOST, ENOUGH = 128, 512, 60_000, 500
# Ways to fly that are less likely than this after the first look are not sampled further.
HOPELESS = 1e-5
# But one of which fewer samples than this were within its priors is sampled on, up to so many, unless its best fit is less
# likely than the best of all by this much in log density.
LIVE, UNDECIDED, UNLIKE = 16, 4096, 40.0
# The normal prior used for proposing: its moments are those of so many paths in view, its variance wider by so much.
PRIOR_DRAWS, WIDER = 20_000, 2.0


def by_likelihood(scene: Scene, sightings: Float64[np.ndarray, "N k 3"], seed: int) -> Iterator[Weighted]:
    """The weighted samples of each clip, given its sightings (u, v, radius) in px in its first k frames.

    Samples are drawn where least squares says and weighed exactly (`worlds.linear_posterior`), so their averages are
    those of the posterior up to the noise of sampling: evidence by importance sampling, Geweke, Econometrica 57 (1989).
    """
    strange = [name for name in NAMES if name not in FORMS]
    if strange:
        raise InputError(
            f"the linear form of family {strange[0]!r} is unknown; there are {', '.join(FORMS)}: add it to "
            "worlds/linear_posterior.py, or infer by_simulation, which needs none"
        )
    ways = [
        (label, choose(label, scene.priors[label], option))
        for label in range(len(scene.priors))
        for option in range(2 if either_place(label) >= 0 and scene.priors[label, either_place(label), 2] else 1)
    ]
    proposals = [_proposing_prior(scene, label, seed) for label in range(len(scene.priors))]
    rays, precisions = _rows(scene, sightings)
    streams = np.random.Generator(np.random.Philox(key=[seed, 1])).integers(2**32, size=len(sightings))
    for n, stream in enumerate(streams):
        yield _one(scene, sightings[n], rays[n], precisions[n], ways, proposals, int(stream))


def _proposing_prior(scene: Scene, label: int, seed: int) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d d"]]:
    """Mean and precision of a normal prior for a family's unknowns, wider than that of its paths in view."""
    drawn = np.empty((PRIOR_DRAWS, unknowns(label, scene.priors[label])))
    draw_unknowns(label, scene.priors[label], scene.times, scene.optics, scene.noise_m, scene.roll_turns, seed % 2**32, drawn)
    return drawn.mean(axis=0), np.linalg.inv(WIDER * np.cov(drawn, rowvar=False))


def _rows(
    scene: Scene, sightings: Float64[np.ndarray, "N k 3"]
) -> tuple[Float64[np.ndarray, "N k 3"], Float64[np.ndarray, "N k 3 3"]]:
    """What sightings say of camera space: the ball's (x/z, y/z, z), and the inverse covariances of the three linear
    equations x - (x/z) z = 0, y - (y/z) z = 0 and z = z. Without perspective the third says nothing."""
    focal, height, width, ball, fixed_depth, _ = scene.optics
    u, v, radius = np.moveaxis(sightings, -1, 0)
    a, b = (u - (width - 1) / 2) / focal, (v - (height - 1) / 2) / focal
    z = focal * ball / radius if fixed_depth == 0 else np.full_like(u, Camera.FARTHEST_M)
    noise, across, along = scene.noise_m**2, (z / focal * scene.errors[0]) ** 2, (z / radius * scene.errors[1]) ** 2
    covariance = np.empty((*u.shape, 3, 3))
    covariance[..., 0, 0], covariance[..., 1, 1] = noise * (1 + a * a) + across, noise * (1 + b * b) + across
    covariance[..., 0, 1] = covariance[..., 1, 0] = noise * a * b
    covariance[..., 0, 2] = covariance[..., 2, 0] = -noise * a
    covariance[..., 1, 2] = covariance[..., 2, 1] = -noise * b
    covariance[..., 2, 2] = noise + along
    precisions = np.zeros_like(covariance)
    rows = 3 if fixed_depth == 0 else 2
    precisions[..., :rows, :rows] = np.linalg.inv(covariance[..., :rows, :rows])
    return np.stack([a, b, z], axis=-1), precisions


def _one(
    scene: Scene,
    clip: Float64[np.ndarray, "k 3"],
    rays: Float64[np.ndarray, "k 3"],
    precisions: Float64[np.ndarray, "k 3 3"],
    ways: list,
    proposals: list,
    stream: int,
) -> Weighted:
    """The weighted samples of one clip, drawn until enough of them are effective."""
    given = len(clip)
    work = np.empty((MOST_UNKNOWNS, MOST_UNKNOWNS)), np.empty(MOST_UNKNOWNS), np.empty((3, MOST_UNKNOWNS))
    shares, grids, peaks = np.empty((len(ways), CELLS)), [], np.empty(len(ways))
    for way, (label, choice) in enumerate(ways):
        bottom, cell, peaks[way] = scan_grid(
            label, scene.priors[label], choice, scene.times, given, rays, precisions, *proposals[label],
            scene.roll_turns, shares[way], work,
        )  # fmt: skip
        grids.append((bottom, cell))
        mean, precision = proposals[label]
        peaks[way] += 0.5 * (np.linalg.slogdet(precision)[1] - mean @ precision @ mean)
    logs, futures = [[] for _ in ways], [[] for _ in ways]
    promising, size, drawn = range(len(ways)), FIRST_LOOK, 0
    while True:
        for way in promising:
            label, choice = ways[way]
            new_logs, new_futures = np.empty(size), np.empty((size, len(scene.times) - given, 2))
            sample(
                label, scene.priors[label], choice, scene.times, given, clip, rays, precisions, *proposals[label],
                scene.optics, scene.noise_m, scene.errors, scene.roll_turns, grids[way], shares[way], work,
                (stream + drawn) % 2**32, new_logs, new_futures,
            )  # fmt: skip
            logs[way].append(new_logs)
            futures[way].append(new_futures)
            drawn += size
        weighted = _gather(scene, ways, logs, futures)
        of_way = [np.concatenate(some) for some in logs]
        live = np.array([(log > -np.inf).sum() for log in of_way])
        taken = np.array([log.size for log in of_way])
        undecided = (live < LIVE) & (taken < UNDECIDED) & (peaks > peaks.max() - UNLIKE)
        if (size == ROUND and weighted.effective >= ENOUGH and not undecided.any()) or drawn >= MOST:
            return weighted
        size = ROUND
        best = weighted.log_weights.max(initial=-1e300)
        share = np.array([np.exp(log - best).mean() for log in of_way])
        promising = np.flatnonzero(((live > 0) & (share > HOPELESS * share.max())) | undecided)
        if not promising.size:
            raise InputError("a clip shows what no path of this world does: give the config with which it was filmed")


def _gather(scene: Scene, ways: list, logs: list, futures: list) -> Weighted:
    """All samples that weigh anything, each way's divided by how many it had."""
    rows = []
    for (label, _), some, seen in zip(ways, logs, futures, strict=True):
        log = np.concatenate(some)
        live = log > -np.inf
        rows.append(
            (log[live] - np.log(log.size) - np.log(scene.kept[label]), np.full(live.sum(), label), np.concatenate(seen)[live])
        )
    return Weighted(*(np.concatenate(column) for column in zip(*rows, strict=True)))
