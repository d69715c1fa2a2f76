"""The posterior by simulation: paths drawn from the prior, weighed by how well they fit the clip, and refined."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
from jaxtyping import Bool, Float64

from trajvit.evaluation.posterior import Scene, Weighted
from trajvit.settings import InputError
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.shape_posterior import draw_shapes, trace_shapes, weigh_shapes

# Paths of each family drawn from the prior.
PATHS = 100_000
# The likelihood is first widened as if noise and errors were this many times larger, round by round less.
WIDENED = (24.0, 12.0, 6.0, 3.0, 1.5, 1.0, 1.0)
# Paths of each way to fly drawn in a round, and in the last.
ROUND, LAST = 1500, 6000
# Ways to fly that are less likely than this under a widened likelihood are not followed.
HOPELESS = 1e-7
# A round's proposals have Student's t distribution with these degrees of freedom around the last one's paths, this many
# times wider in variance.
FREEDOM, WIDER = 6, 1.5
# Paths whose motion across the view misses by more standard deviations are not looked at.
REACH = 5.0
# Parameters that come back after one turn.
ANGLES = ("heading", "phase")


@dataclass(frozen=True)
class Paths:
    """M paths of a family, moved nowhere yet: parameters, camera rolls in turns and shapes in m."""

    values: Float64[np.ndarray, "M P"]
    rolls: Float64[np.ndarray, " M"]
    shapes: Float64[np.ndarray, "M T 2"]


def by_simulation(scene: Scene, sightings: Float64[np.ndarray, "N k 3"], seed: int) -> Iterator[Weighted]:
    """The weighted samples of each clip, given its sightings (u, v, radius) in px in its first k >= 2 frames.

    `PATHS` of each family are drawn from the prior and weighed under a likelihood so wide that many fit. Those that do say
    where to draw paths for the next, sharper round: population Monte Carlo (Cappe et al., J. Comput. Graph. Stat. 13, 2004).
    The last round's weights are exact. Knows of the families no more than their priors and `position`, and that x, y, z
    and vz only move a path.
    """
    if sightings.shape[1] < 2:
        raise InputError(f"given = {sightings.shape[1]}: simulation needs to see the ball move; give it 2 frames or more")
    drawn = [_from_prior(scene, label, sightings.shape[1], seed) for label in range(len(FAMILIES))]
    for n, clip in enumerate(sightings):
        yield _one(scene, clip, drawn, np.random.Generator(np.random.Philox(key=[seed, 2 + n])))


def _from_prior(scene: Scene, label: int, given: int, seed: int) -> tuple[Paths, Float64[np.ndarray, " M"]]:
    """Paths from the prior, in the order of their motion along x over the given frames, and that motion in m: so a clip
    needs to look at only a few of them."""
    values, rolls = np.zeros((PATHS, scene.priors.shape[1])), np.empty(PATHS)
    draw_shapes(scene.priors[label], scene.roll_turns, (seed + 1 + label) % 2**32, values, rolls)
    shapes = _shapes(scene, label, values, rolls)
    motion = shapes[:, given - 1, 0] - shapes[:, 0, 0]
    order = np.argsort(motion)
    return Paths(values[order], rolls[order], shapes[order]), motion[order]


def _shapes(scene: Scene, label: int, values, rolls) -> Float64[np.ndarray, "M T 2"]:
    shapes = np.empty((len(rolls), len(scene.times), 2))
    trace_shapes(label, scene.times, values, rolls, shapes)
    return shapes


def _one(scene: Scene, clip: Float64[np.ndarray, "k 3"], drawn: list, rng: np.random.Generator) -> Weighted:
    """The weighted samples of one clip."""
    ways = {}  # (family, direction or side): paths that fit and their log weights
    for label, (paths, motion) in enumerate(drawn):
        near = _within_reach(scene, clip, motion)
        paths = Paths(paths.values[near], paths.rolls[near], paths.shapes[near])
        chosen, logs, _ = _weigh(scene, clip, label, paths, WIDENED[0], rng)
        either = np.flatnonzero(scene.priors[label, :, 2])
        sides = paths.values[chosen][:, either].sum(axis=1)
        for side in np.unique(sides):
            of_side = chosen[sides == side]
            ways[label, side] = paths.values[of_side], paths.rolls[of_side], logs[sides == side] - np.log(PATHS)
    for round, widened in enumerate(WIDENED[1:], 2):
        ways = _followed(scene, ways)
        found = []
        for (label, side), fitting in ways.items():
            proposed, log_ratio = _propose(scene, label, *fitting, LAST if round == len(WIDENED) else ROUND, rng)
            chosen, logs, futures = _weigh(scene, clip, label, proposed, widened, rng)
            logs = logs + log_ratio[chosen]
            ways[label, side] = proposed.values[chosen], proposed.rolls[chosen], logs
            found.append((logs - np.log(scene.kept[label]), np.full(len(logs), label), futures))
    return Weighted(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _within_reach(scene: Scene, clip, motion) -> slice:
    """Which paths, by the order of their motion, may fit the clip under the widest likelihood."""
    focal, _, width, ball, fixed_depth, _ = scene.optics
    if fixed_depth != 0:  # the depth is unknown, and so how far the ball has moved
        return slice(None)
    depth = focal * ball / clip[:, 2]
    x = (clip[:, 0] - (width - 1) / 2) * depth / focal
    error = np.hypot(2 * scene.noise_m, depth.max() * (scene.errors[0] / focal + scene.errors[1] / clip[:, 2].min()))
    reach = REACH * WIDENED[0] * error
    first, last = np.searchsorted(motion, x[-1] - x[0] + np.array([-reach, reach]))
    return slice(first, last)


def _weigh(scene: Scene, clip, label: int, paths: Paths, widened: float, rng: np.random.Generator):
    """The paths that fit, their log weights, and their futures in px, the noise and errors taken for `widened` times larger."""
    count = len(paths.rolls)
    chosen, logs, futures = np.empty(count, np.int64), np.empty(count), np.empty((count, len(scene.times) - len(clip), 2))
    vz_place = list(FAMILIES[label].textbook).index("vz")
    found = weigh_shapes(
        label, scene.priors[label], vz_place, scene.times, len(clip), clip, scene.optics, widened * scene.noise_m,
        widened * scene.errors, paths.shapes, paths.values, paths.rolls, int(rng.integers(2**32)),
        chosen, logs, futures,
    )  # fmt: skip
    return chosen[:found], logs[:found], futures[:found]


def _followed(scene: Scene, ways: dict) -> dict:
    """The ways to fly that are not hopeless, of those with enough fitting paths to learn from."""
    best = max(logs.max() for _, _, logs in ways.values() if logs.size)
    share = {way: np.exp(logs - best).sum() for way, (_, _, logs) in ways.items()}
    enough = 2 * (scene.priors.shape[1] + 1)
    return {way: ways[way] for way in ways if share[way] > HOPELESS * sum(share.values()) and ways[way][2].size >= enough}


def _varying(scene: Scene, label: int) -> Bool[np.ndarray, " P"]:
    """Which parameters a path is drawn with, and the roll as one more: all that vary but its place, direction or side, and
    its depth and motion in depth where radii tell them."""
    low_span_either = scene.priors[label]
    varies = (low_span_either[:, 1] > 0) & (low_span_either[:, 2] == 0)
    varies[:2] = False
    if scene.optics[4] == 0:
        varies[[2, list(FAMILIES[label].textbook).index("vz")]] = False
    return np.append(varies, scene.roll_turns > 0)


def _propose(scene: Scene, label: int, values, rolls, logs, count: int, rng) -> tuple[Paths, Float64[np.ndarray, " M"]]:
    """Of `count` paths drawn around those that fit, the ones within the prior's ranges, and the log of prior over `count`
    times proposing density. Directions and sides are kept."""
    varying = _varying(scene, label)
    names = [*FAMILIES[label].textbook, *[""] * (scene.priors.shape[1] - len(FAMILIES[label].textbook)), "roll"]
    angle = np.array([name in ANGLES for name in names])[varying]
    low = np.append(scene.priors[label, :, 0], -scene.roll_turns)[varying]
    span = np.append(scene.priors[label, :, 1], 2 * scene.roll_turns)[varying]
    points, share = np.column_stack([values, rolls])[:, varying], np.exp(logs - logs.max())
    share /= share.sum()
    centre = points[share.argmax()]
    points = np.where(angle, centre + (points - centre + 0.5) % 1.0 - 0.5, points)
    mean = share @ points
    covariance = WIDER * (points - mean).T @ ((points - mean) * share[:, None]) + np.diag((1e-5 * span) ** 2)
    factor = np.linalg.cholesky(covariance)
    # Student's t: a normal over the root of a chi-squared.
    normal = rng.standard_normal((count, len(low)))
    chi = rng.chisquare(FREEDOM, count) / FREEDOM
    new = mean + (normal / np.sqrt(chi)[:, None]) @ factor.T
    squares = (normal**2).sum(axis=1) / chi
    log_density = (
        -0.5 * (FREEDOM + len(low)) * np.log1p(squares / FREEDOM) - np.log(np.diag(factor)).sum() + _log_constant(len(low))
    )
    # Half a turn either way at most, so that an angle is proposed in one way only.
    once = (np.abs(new - mean) <= 0.5) | ~angle
    new = np.where(angle, low + (new - low) % 1.0, new)
    inside = ((new >= low) & (new <= low + span) & once).all(axis=1)
    of_either = np.log(2) * scene.priors[label, :, 2].sum()
    log_ratio = -np.log(span).sum() - of_either - log_density - np.log(count)
    new, log_ratio = new[inside], log_ratio[inside]
    everything = np.column_stack([np.repeat(values[:1], len(new), axis=0), np.repeat(rolls[:1], len(new))])
    everything[:, varying] = new
    new_values, new_rolls = np.ascontiguousarray(everything[:, :-1]), np.ascontiguousarray(everything[:, -1])
    return Paths(new_values, new_rolls, _shapes(scene, label, new_values, new_rolls)), log_ratio


def _log_constant(dimensions: int) -> float:
    """log of the constant of Student's t density."""
    return lgamma((FREEDOM + dimensions) / 2) - lgamma(FREEDOM / 2) - dimensions / 2 * log(FREEDOM * pi)
