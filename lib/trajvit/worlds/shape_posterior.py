"""The compiled posterior by simulation: paths drawn from the prior, moved to where the ball was seen, and weighed.

Every path is a place, a shape across the line of sight, and a steady motion along it: (x, y, z) + (shape(t), vz t). A shape
is moved to the sightings, its place, and its motion in depth where the ball's radius tells it, drawn from the normal
distribution that least squares gives, and weighed by the exact prior and likelihood of the whole path over the density of
that draw. Nothing is known here of the families but their priors and `families.position`.
"""

import math

import numpy as np

from trajvit.worlds.compiling import compiled
from trajvit.worlds.families import position
from trajvit.worlds.likelihood import LOG_TWO_PI, draw_prior, log_likelihood, see_future, stays_in_view

# A shape whose sum of squared misfits, in standard deviations, exceeds this weighs nothing.
FARTHEST_MISFIT = 60.0


@compiled
def draw_shapes(priors, roll_turns, seed, values, rolls):
    """Fill values (M, parameters) and rolls (M,) in turns from the prior."""
    np.random.seed(seed)
    for m in range(rolls.size):
        rolls[m] = draw_prior(priors, roll_turns, values[m])


@compiled
def trace_shapes(label, times, values, rolls, shapes):
    """Fill shapes (M, T, 2) m, x and y in camera space of paths that start from the optical axis."""
    path = np.empty(values.shape[1])
    for m in range(rolls.size):
        path[:] = values[m]
        path[0], path[1] = 0.0, 0.0
        cosine, sine = math.cos(2 * math.pi * rolls[m]), math.sin(2 * math.pi * rolls[m])
        for k in range(times.size):
            x, y, _ = position(label, path, times[k])
            shapes[m, k, 0], shapes[m, k, 1] = cosine * x - sine * y, sine * x + cosine * y


@compiled
def fit_depth(sightings, given, times, moves, optics, noise_m, errors):
    """Least squares for depth and its motion from the radii: (z, vz, Cholesky factor of their covariance as 3 numbers).
    The motion is taken for 0 where it does not vary; else it takes two frames."""
    weight, mean_t, mean_z, square, slope = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(given):
        z = optics[0] * optics[3] / sightings[k, 2]
        w = 1 / (noise_m**2 + (z / sightings[k, 2] * errors[1]) ** 2)
        weight, mean_t, mean_z = weight + w, mean_t + w * times[k], mean_z + w * z
    mean_t, mean_z = mean_t / weight, mean_z / weight
    if not moves:
        return mean_z, 0.0, 1 / math.sqrt(weight), 0.0, 0.0
    for k in range(given):
        z = optics[0] * optics[3] / sightings[k, 2]
        w = 1 / (noise_m**2 + (z / sightings[k, 2] * errors[1]) ** 2)
        square, slope = square + w * (times[k] - mean_t) ** 2, slope + w * (times[k] - mean_t) * (z - mean_z)
    vz, variance = slope / square, 1 / square
    depth_variance = 1 / weight + mean_t**2 * variance
    first = math.sqrt(depth_variance)
    second = -mean_t * variance / first
    return mean_z - vz * mean_t, vz, first, second, math.sqrt(variance - second * second)


@compiled
def weigh_shapes(
    label, priors, vz_place, times, given, sightings, optics, noise_m, errors, shapes, values, rolls, seed,
    chosen, logs, futures,
):  # fmt: skip
    """Weigh shapes against the sightings (T, 3): log of the likelihood times the prior of what was moved.

    Of those that fit at all it fills chosen with which they are, logs with their log weights and
    futures (.., T - given, 2) px; gives their number.
    """
    np.random.seed(seed)
    focal, height, width, _, fixed_depth, _ = optics
    moves, path = priors[vz_place, 1] > 0, np.empty(values.shape[1])
    z0, vz0, l00, l10, l11 = fit_depth(sightings, given, times, moves, optics, noise_m, errors)
    found = 0
    for m in range(rolls.size):
        log_proposed = 0.0
        if fixed_depth == 0:
            g0, g1 = np.random.standard_normal(), np.random.standard_normal()
            z, vz = z0 + l00 * g0, vz0 + l10 * g0 + l11 * g1
            log_proposed -= 0.5 * g0 * g0 + math.log(l00) + 0.5 * LOG_TWO_PI
            if moves:
                log_proposed -= 0.5 * g1 * g1 + math.log(l11) + 0.5 * LOG_TWO_PI
        else:
            z, vz = values[m, 2], values[m, vz_place]
        weight, x, y, squares = 0.0, 0.0, 0.0, 0.0
        for k in range(given):
            depth = z + vz * times[k]
            a, b = (sightings[k, 0] - (width - 1) / 2) / focal, (sightings[k, 1] - (height - 1) / 2) / focal
            dx, dy = a * depth - shapes[m, k, 0], b * depth - shapes[m, k, 1]
            w = 1 / (noise_m**2 * (1 + (a * a + b * b) / 2) + (depth / focal * errors[0]) ** 2)
            weight, x, y, squares = weight + w, x + w * dx, y + w * dy, squares + w * (dx * dx + dy * dy)
        x, y = x / weight, y / weight
        if squares - weight * (x * x + y * y) > FARTHEST_MISFIT:
            continue
        g0, g1 = np.random.standard_normal(), np.random.standard_normal()
        log_proposed -= 0.5 * (g0 * g0 + g1 * g1) - math.log(weight) + LOG_TWO_PI
        x, y = x + g0 / math.sqrt(weight), y + g1 / math.sqrt(weight)
        cosine, sine = math.cos(2 * math.pi * rolls[m]), math.sin(2 * math.pi * rolls[m])
        path[:] = values[m]
        path[0], path[1], path[2], path[vz_place] = cosine * x + sine * y, cosine * y - sine * x, z, vz
        log_weight = -log_proposed
        for place in (0, 1, 2, vz_place):
            low, span, _ = priors[place]
            if not low <= path[place] <= low + span:
                log_weight = -np.inf
            elif span > 0 and (place < 2 or fixed_depth == 0):
                log_weight -= math.log(span)
        if (
            log_weight == -np.inf
            or not stays_in_view(label, path, rolls[m], times, optics)
            or not see_future(label, path, rolls[m], times, given, optics, noise_m, futures[found])
        ):
            continue
        for k in range(given):
            log_weight += log_likelihood(
                x + shapes[m, k, 0], y + shapes[m, k, 1], z + vz * times[k], sightings[k], optics, noise_m, errors
            )
        chosen[found], logs[found] = m, log_weight
        found += 1
    return found
