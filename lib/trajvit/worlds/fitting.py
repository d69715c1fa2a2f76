"""The trajectory of a family that comes nearest to what is seen of a ball: bounded least squares in the image.

The unknowns are the parameters of the family's path and the camera's roll, each within its prior's range, so a fit is a
path that the world could have filmed. The method is Levenberg-Marquardt (Marquardt 1963) with the bounds as an active
set, started from the most similar of many paths drawn from the priors.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trajvit.worlds.compiling import compiled
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.exact import sin_cos
from trajvit.worlds.families import FAMILIES, MOST_PARAMETERS, Uniform, frame_times, position
from trajvit.worlds.film import optics
from trajvit.worlds.likelihood import project

DRAWS, STARTS = 16384, 4
STEPS, TRIES = 40, 8
# Width of the difference quotient and the least damping, in units of a prior's range.
DIFFERENCE, LEAST_DAMPING = 1e-5, 1e-10
# A step that lowers the cost by less than this share of it is the last.
LEAST_GAIN = 1e-4


@dataclass(frozen=True)
class Law:
    """A family as it is filmed in a world: what its parameters may be, and paths drawn from them.

    Parameters are those of the family's path in its order, padded with zeros, and the roll in turns at the end. `low`
    and `span` (P,) are the priors' ranges, `free` (P,) says which vary, `cyclic` (P,) which are angles that may run on.
    `drawn` (S, P) are parameters drawn from the priors of which the ball's centre stays in the frame. `optics` as `families.trace`
    takes it.
    """

    label: int
    frames: int
    optics: Float[np.ndarray, "6"]
    low: Float[np.ndarray, " P"]
    span: Float[np.ndarray, " P"]
    free: Bool[np.ndarray, " P"]
    cyclic: Bool[np.ndarray, " P"]
    drawn: Float[np.ndarray, "S P"]


@dataclass(frozen=True)
class Fit:
    """The best path of a law for each of N clips: its parameters, as in `Law`, and the cost that was minimised."""

    law: Law
    parameters: Float[np.ndarray, "N P"]
    cost: Float[np.ndarray, " N"]

    def image(self, times: Float[np.ndarray, " M"]) -> Float[np.ndarray, "N M 3"]:
        """(u, v) and the ball's radius, all in px, on the fitted curves at the given times in s."""
        return draw_paths(self.law.label, self.parameters, times, self.law.optics)


def law_of(config: WorldConfig, label: int) -> Law:
    """The law of family `label` in a world."""
    seen, priors = optics(config), list(FAMILIES[label].priors(config.variety).values())
    low, high = np.zeros(MOST_PARAMETERS + 1), np.zeros(MOST_PARAMETERS + 1)
    low[: len(priors)], high[: len(priors)] = [prior.low for prior in priors], [prior.high for prior in priors]
    low[-1], high[-1] = -config.roll_degrees / 360, config.roll_degrees / 360
    free = np.array([isinstance(prior, Uniform) for prior in priors] + [False] * (MOST_PARAMETERS - len(priors)) + [high[-1] > 0])

    unit = np.random.Generator(np.random.Philox(key=label)).random((DRAWS, low.size))
    # A parameter that does not vary evenly is one of its two ends.
    drawn = low + (high - low) * np.where(free, unit, unit >= 0.5)
    image = draw_paths(label, drawn, frame_times(config.frames), seen)
    inside = ((image[..., :2] >= 0) & (image[..., :2] <= np.array([config.width, config.height]) - 1)).all(axis=(1, 2))
    cyclic = free & _turns(label, low, high, seen)
    return Law(label, config.frames, seen, low, high - low, free, cyclic, drawn[inside])


def fit_law(
    law: Law,
    seen: Float[np.ndarray, "N k 3"],
    weight: tuple[float, float],
    ridge: float = 0.0,
    enough: float = 0.0,
) -> Fit:
    """Fit a law to the first k frames of clips, of which (u, v) and radius, all in px, are `seen`.

    The cost is the sum over frames of the squared distance in px, times `weight[0]` squared, and of the squared error of
    the radius, times `weight[1]` squared; and of `ridge` squared times each parameter's squared distance from the middle
    of its range, in ranges. No further start is tried for a clip whose cost is at most `enough`.
    """
    times = frame_times(law.frames)[: seen.shape[1]]
    weights = np.array([weight[0], weight[0], weight[1]])
    problem = (law.label, times, law.optics, law.low, law.span, law.free, law.cyclic, weights, float(ridge))
    parameters, cost = np.empty((len(seen), law.low.size)), np.empty(len(seen))
    _fit(np.ascontiguousarray(seen, np.float64), problem, law.drawn, float(enough), parameters, cost)
    return Fit(law, parameters, cost)


def draw_paths(
    label: int, parameters: Float[np.ndarray, "N P"], times: Float[np.ndarray, " M"], optics: Float[np.ndarray, "6"]
) -> Float[np.ndarray, "N M 3"]:
    """(u, v) and radius in px of the paths with the given parameters, laid out as in `Law`."""
    image = np.empty((len(parameters), len(times), 3))
    _draw(label, parameters, times, optics, image)
    return image


def _turns(label: int, low: Float[np.ndarray, " P"], high: Float[np.ndarray, " P"], optics) -> Bool[np.ndarray, " P"]:
    """Which parameters are angles over a whole turn: both ends of the range give the same path."""
    probe = np.repeat(((low + high) / 2)[None], low.size, axis=0) + 0.1 * (high - low)
    first, last, times = probe.copy(), probe.copy(), np.linspace(0, 1, 5)
    np.fill_diagonal(first, low)
    np.fill_diagonal(last, high)
    return np.isclose(draw_paths(label, first, times, optics), draw_paths(label, last, times, optics)).all(axis=(1, 2))


@compiled
def _see(label, p, t, optics):
    x, y, z = position(label, p, t)
    sine, cosine = sin_cos(p[-1])
    return project(cosine * x - sine * y, sine * x + cosine * y, z, optics)


@compiled
def _draw(label, parameters, times, optics, image):
    for n in range(parameters.shape[0]):
        for k in range(times.size):
            image[n, k] = _see(label, parameters[n], times[k], optics)


@compiled
def _residuals(q, seen, problem, p, out):
    """Fill `out` with the weighted errors of the path at q, in units of the ranges, `p` with its parameters; its cost."""
    label, times, optics, low, span, free, cyclic, weights, ridge = problem
    p[:] = low + span * q
    place, total = 0, 0.0
    for k in range(times.size):
        image = _see(label, p, times[k], optics)
        for axis in range(3):
            out[place] = weights[axis] * (image[axis] - seen[k, axis])
            place += 1
    for j in range(q.size):
        out[place] = ridge * (q[j] - 0.5) if free[j] and not cyclic[j] else 0.0
        place += 1
    for value in out:
        total += value * value
    return total


@compiled
def _solve(a, b, size, x):
    """x with a x = b for the symmetric positive `a`, by Cholesky's factors, which replace its lower half."""
    for i in range(size):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = np.sqrt(max(total, LEAST_DAMPING**2)) if i == j else total / a[j, j]
    for i in range(size):
        total = b[i]
        for k in range(i):
            total -= a[i, k] * x[k]
        x[i] = total / a[i, i]
    for i in range(size - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, size):
            total -= a[k, i] * x[k]
        x[i] = total / a[i, i]


@compiled
def _descend(q, seen, problem):
    """Move q to the bottom of the valley it lies in, within the bounds, and give the cost there."""
    times, free, cyclic = problem[1], problem[5], problem[6]
    size, rows = q.size, 3 * times.size + q.size
    error, moved, jacobian = np.empty(rows), np.empty(rows), np.empty((size, rows))
    normal, damped, downhill, step = np.empty((size, size)), np.empty((size, size)), np.empty(size), np.empty(size)
    tried, p, chosen = np.empty(size), np.empty(size), np.empty(size, np.int64)
    cost, damping = _residuals(q, seen, problem, p, error), 1e-2
    for _ in range(STEPS):
        # Parameters that press against a bound stay there for this step.
        active = 0
        for j in range(size):
            if not free[j]:
                continue
            before = q[j]
            q[j] = before + DIFFERENCE
            _residuals(q, seen, problem, p, moved)
            q[j] = before
            slope = 0.0
            for row in range(rows):
                jacobian[j, row] = (moved[row] - error[row]) / DIFFERENCE
                slope += jacobian[j, row] * error[row]
            if cyclic[j] or ((q[j] > 0 or slope < 0) and (q[j] < 1 or slope > 0)):
                chosen[active], downhill[active] = j, -slope
                active += 1
        for a in range(active):
            for b in range(a + 1):
                normal[a, b] = (jacobian[chosen[a]] * jacobian[chosen[b]]).sum()
        gain = 0.0
        for _ in range(TRIES):
            for a in range(active):
                damped[a, :a] = normal[a, :a]
                damped[a, a] = normal[a, a] * (1 + damping) + LEAST_DAMPING
            _solve(damped, downhill, active, step)
            tried[:] = q
            for a in range(active):
                j = chosen[a]
                tried[j] = q[j] + step[a] if cyclic[j] else min(1.0, max(0.0, q[j] + step[a]))
            there = _residuals(tried, seen, problem, p, moved)
            if there < cost:
                gain, cost = cost - there, there
                q[:], error[:] = tried, moved
                damping = max(damping / 5, 1e-9)
                break
            damping *= 5
        if gain <= LEAST_GAIN * cost:
            break
    return cost


@compiled
def _shape(path, weights, out):
    """A path about its middle: where it lies is soon found from any start, its shape must be alike."""
    for axis in range(3):
        out[:, axis] = weights[axis] * (path[:, axis] - path[:, axis].mean())


@compiled
def _most_alike(shapes, shape, starts):
    """Fill `starts` with the rows of the shapes most like `shape`, -1 where there are no more."""
    distances = np.full(starts.size, np.inf)
    starts[:] = -1
    for s in range(shapes.shape[0]):
        distance = 0.0
        for k in range(shape.shape[0]):
            for axis in range(3):
                distance += (shapes[s, k, axis] - shape[k, axis]) ** 2
            if distance >= distances[-1]:
                break
        place = starts.size
        while place and distance < distances[place - 1]:
            place -= 1
        for later in range(starts.size - 1, place, -1):
            distances[later], starts[later] = distances[later - 1], starts[later - 1]
        if place < starts.size:
            distances[place], starts[place] = distance, s


@compiled
def _fit(seen, problem, drawn, enough, parameters, cost):
    label, times, optics, low, span = problem[:5]
    weights = problem[7]
    shapes = np.empty((drawn.shape[0], times.size, 3))
    _draw(label, drawn, times, optics, shapes)
    for s in range(drawn.shape[0]):
        _shape(shapes[s].copy(), weights, shapes[s])
    shape, starts, q = np.empty((times.size, 3)), np.empty(STARTS, np.int64), np.empty(low.size)
    for n in range(seen.shape[0]):
        _shape(seen[n], weights, shape)
        _most_alike(shapes, shape, starts)
        cost[n] = np.inf
        for start in starts:
            if start < 0 or cost[n] <= enough:
                break
            for j in range(q.size):
                q[j] = (drawn[start, j] - low[j]) / span[j] if span[j] > 0 else 0.0
            reached = _descend(q, seen[n], problem)
            if reached < cost[n]:
                cost[n] = reached
                parameters[n] = low + span * q
