"""The compiled posterior by likelihood: importance sampling around the fit, family by family.

In camera space every family's path is linear in all that is unknown but one number: the roll, where a path knows up from
down, or the turns of a circle whose phase is unknown too. So, given that number, the best fit and its covariance come
from least squares in one step, wherever it starts, and there is one mode. That normal distribution, with the scanned number
drawn from its marginal on a grid that zooms in on where it is likely, proposes parameters; each is then weighed by the
exact prior and likelihood over the density with which it was proposed, so that the approximations made in proposing cancel.
"""

import math

import numpy as np

from trajvit.worlds.compiling import compiled
from trajvit.worlds.likelihood import (
    LOG_TWO_PI,
    draw_seen,
    into,
    log_likelihood,
    log_prior,
    see_future,
    stays_in_view,
)

FORMS = ("linear", "circular", "helical", "parabolic")  # the families as they are labelled
LINEAR, CIRCULAR, HELICAL, PARABOLIC = range(len(FORMS))
MOST_UNKNOWNS = 7
CELLS, ZOOMS = 32, 8
# Cells this much less likely than the best, in log density, are left out when zooming in.
NEGLIGIBLE = 25.0


@compiled
def is_turning(label):
    return label in (CIRCULAR, HELICAL)


@compiled
def either_place(label):
    """Where among a family's parameters its direction or side is; -1 for none."""
    return -1 if label == LINEAR else (4 if label == PARABOLIC else 6)


@compiled
def scans_roll(label, priors):
    return label == PARABOLIC or (is_turning(label) and priors[5, 1] == 0)


@compiled
def scan_is_parameter(label, priors):
    """Is the scanned number the turns, a parameter with a prior of its own?"""
    return is_turning(label) and not scans_roll(label, priors)


@compiled
def choose(label, priors, option):
    """The direction or side of a family's component `option`, 0 or 1."""
    place = either_place(label)
    return 1.0 if place < 0 else priors[place, 0] + option * priors[place, 1]


@compiled
def scan_range(label, priors, roll_turns):
    if scans_roll(label, priors):
        return -roll_turns, 2 * roll_turns
    return (priors[7, 0], priors[7, 1]) if is_turning(label) else (0.0, 0.0)


@compiled
def unknowns(label, priors):
    """How many numbers a path is linear in: place and depth (3), its own (2, 2 or 1, 3), and vz where it varies."""
    if label == LINEAR:
        return 6
    if label == PARABOLIC:
        return 7
    return 3 + (1 if scans_roll(label, priors) else 2) + (1 if priors[4, 1] > 0 else 0)


@compiled
def fill_design(label, priors, scan, choice, t, design):
    """Fill design (3, unknowns): (x, y, z) in camera space at time t, as a linear function of the unknowns."""
    design[:] = 0.0
    design[0, 0], design[1, 1], design[2, 2] = 1.0, 1.0, 1.0
    count = unknowns(label, priors)
    if label == LINEAR:
        design[0, 3], design[1, 4] = t, t
        design[2, 5] = t
    elif label == PARABOLIC:
        cosine, sine = math.cos(2 * math.pi * scan), math.sin(2 * math.pi * scan)
        design[0, 3], design[1, 3] = choice * t * cosine, choice * t * sine
        design[0, 4], design[1, 4] = t * sine, -t * cosine
        design[0, 5], design[1, 5] = -t * t / 2 * sine, t * t / 2 * cosine
        design[2, 6] = t
    elif scans_roll(label, priors):
        angle = 2 * math.pi * (scan + priors[5, 0] + choice * priors[7, 0] * t)
        design[0, 3], design[1, 3] = math.cos(angle), math.sin(angle)
        if count == 5:
            design[2, 4] = t
    else:
        cosine, sine = math.cos(2 * math.pi * choice * scan * t), math.sin(2 * math.pi * choice * scan * t)
        design[0, 3], design[0, 4] = cosine, -sine
        design[1, 3], design[1, 4] = sine, cosine
        if count == 6:
            design[2, 5] = t


@compiled
def to_parameters(label, priors, linear, scan, choice, roll, values):
    """Fill a family's own parameters from the unknowns of its linear form; gives log |d parameters / d unknowns|."""
    cosine, sine = math.cos(2 * math.pi * roll), math.sin(2 * math.pi * roll)
    values[:] = 0.0
    values[0], values[1], values[2] = cosine * linear[0] + sine * linear[1], cosine * linear[1] - sine * linear[0], linear[2]
    if label == LINEAR:
        speed = math.sqrt(linear[3] ** 2 + linear[4] ** 2)
        values[3], values[5] = speed, linear[5]
        values[4] = into(math.atan2(linear[4], linear[3]) / (2 * math.pi) - roll, priors[4, 0], priors[4, 1])
        return -math.log(2 * math.pi * speed)
    if label == PARABOLIC:
        if linear[5] <= 0:
            return -np.inf
        values[3], values[4], values[5], values[6], values[7] = linear[3], choice, linear[4] / linear[5], linear[5], linear[6]
        return -math.log(linear[5])
    values[6] = choice
    if scans_roll(label, priors):
        values[3], values[4], values[5], values[7] = linear[3], priors[4, 0], priors[5, 0], priors[7, 0]
        if priors[4, 1] > 0:
            values[4] = linear[4]
        return 0.0
    r = math.sqrt(linear[3] ** 2 + linear[4] ** 2)
    values[3], values[4], values[7] = r, priors[4, 0], scan
    values[5] = into(math.atan2(linear[4], linear[3]) / (2 * math.pi) - roll, priors[5, 0], priors[5, 1])
    if priors[4, 1] > 0:
        values[4] = linear[5]
    return -math.log(2 * math.pi * r)


@compiled
def to_linear(label, priors, values, roll, linear):
    """The unknowns of the linear form of a family's own parameters."""
    cosine, sine = math.cos(2 * math.pi * roll), math.sin(2 * math.pi * roll)
    linear[0], linear[1], linear[2] = cosine * values[0] - sine * values[1], sine * values[0] + cosine * values[1], values[2]
    if label == LINEAR:
        angle = 2 * math.pi * (values[4] + roll)
        linear[3], linear[4], linear[5] = values[3] * math.cos(angle), values[3] * math.sin(angle), values[5]
    elif label == PARABOLIC:
        linear[3], linear[4], linear[5], linear[6] = values[3], values[5] * values[6], values[6], values[7]
    elif scans_roll(label, priors):
        linear[3], linear[4] = values[3], values[4]
    else:
        angle = 2 * math.pi * (values[5] + roll)
        linear[3], linear[4], linear[5] = values[3] * math.cos(angle), values[3] * math.sin(angle), values[4]


@compiled
def draw_unknowns(label, priors, times, optics, noise_m, roll_turns, seed, drawn):
    """Fill drawn (N, unknowns) with those of paths in view."""
    number = drawn.shape[0]
    values, rolls, futures = np.zeros((number, priors.shape[0])), np.empty(number), np.empty((number, times.size, 2))
    draw_seen(label, priors, times, optics, noise_m, roll_turns, seed, values, rolls, futures)
    for n in range(number):
        to_linear(label, priors, values[n], rolls[n], drawn[n])


@compiled
def fit(label, priors, scan, choice, times, given, rays, precisions, prior_mean, prior_precision, factor, mean, design):
    """Least squares for the unknowns given the scanned number: fills their mean and the lower Cholesky factor of their
    precision; gives the log of the scanned number's likelihood, up to a constant of the clip and the proposing prior."""
    count = unknowns(label, priors)
    misfit = 0.0
    for i in range(count):
        mean[i] = 0.0
        for j in range(count):
            factor[i, j] = prior_precision[i, j]
            mean[i] += prior_precision[i, j] * prior_mean[j]
    for k in range(given):
        fill_design(label, priors, scan, choice, times[k], design)
        for i in range(count):
            design[0, i] -= rays[k, 0] * design[2, i]
            design[1, i] -= rays[k, 1] * design[2, i]
        depth = rays[k, 2]
        misfit += depth * depth * precisions[k, 2, 2]
        for i in range(count):
            w0 = precisions[k, 0, 0] * design[0, i] + precisions[k, 0, 1] * design[1, i] + precisions[k, 0, 2] * design[2, i]
            w1 = precisions[k, 1, 0] * design[0, i] + precisions[k, 1, 1] * design[1, i] + precisions[k, 1, 2] * design[2, i]
            w2 = precisions[k, 2, 0] * design[0, i] + precisions[k, 2, 1] * design[1, i] + precisions[k, 2, 2] * design[2, i]
            mean[i] += w2 * depth
            for j in range(i + 1):
                factor[i, j] += w0 * design[0, j] + w1 * design[1, j] + w2 * design[2, j]
    log_root = 0.0
    for i in range(count):  # Cholesky in place, then the two triangular solves
        for j in range(i + 1):
            total = factor[i, j]
            for m in range(j):
                total -= factor[i, m] * factor[j, m]
            factor[i, j] = math.sqrt(total) if i == j else total / factor[j, j]
        log_root += math.log(factor[i, i])
    for i in range(count):
        for m in range(i):
            mean[i] -= factor[i, m] * mean[m]
        mean[i] /= factor[i, i]
        misfit -= mean[i] * mean[i]
    for i in range(count - 1, -1, -1):
        for m in range(i + 1, count):
            mean[i] -= factor[m, i] * mean[m]
        mean[i] /= factor[i, i]
    return -0.5 * misfit - log_root


@compiled
def scan_grid(label, priors, choice, times, given, rays, precisions, prior_mean, prior_precision, roll_turns, shares, work):
    """Zoom in on where the scanned number is likely: fills the shares (CELLS,) of its cells; gives (low, cell width, log
    likelihood at its best), 0 wide when there is nothing to scan."""
    factor, mean, design = work
    low, span = scan_range(label, priors, roll_turns)
    if span <= 0:
        shares[:] = 0.0
        shares[0] = 1.0
        peak = fit(label, priors, low, choice, times, given, rays, precisions, prior_mean, prior_precision, factor, mean, design)
        return low, 0.0, peak
    bottom, top = low, low + span
    for zoom in range(ZOOMS):
        cell, best = (top - bottom) / CELLS, -np.inf
        for j in range(CELLS):
            scan = bottom + (j + 0.5) * cell
            shares[j] = fit(
                label, priors, scan, choice, times, given, rays, precisions, prior_mean, prior_precision, factor, mean, design
            )
            best = max(best, shares[j])
        first, last = 0, CELLS - 1
        while shares[first] < best - NEGLIGIBLE:
            first += 1
        while shares[last] < best - NEGLIGIBLE:
            last -= 1
        first, last = max(first - 1, 0), min(last + 1, CELLS - 1)
        if last - first + 1 > CELLS // 2 or zoom == ZOOMS - 1:
            break
        bottom, top = bottom + first * cell, bottom + (last + 1) * cell
    # A little of its neighbours' in every cell, and a little of all: the density changes within a cell.
    for j in range(CELLS):
        shares[j] = math.exp(shares[j] - best)
    before, total = 0.0, 0.0
    for j in range(CELLS):
        own, after = shares[j], shares[j + 1] if j + 1 < CELLS else 0.0
        shares[j] = own + 0.1 * (before + after)
        before, total = own, total + shares[j]
    for j in range(CELLS):
        shares[j] = shares[j] / total * 0.99 + 0.01 / CELLS
    return bottom, cell, best


@compiled
def sample(
    label, priors, choice, times, given, sightings, rays, precisions, prior_mean, prior_precision, optics, noise_m, errors,
    roll_turns, grid, shares, work, seed, logs, futures,
):  # fmt: skip
    """Fill logs (M,) with log weights, -inf for what the generator would have redrawn, and futures (M, T - given, 2) px."""
    factor, mean, design = work
    bottom, cell = grid
    count, number = unknowns(label, priors), logs.size
    values, linear, normal = np.zeros(priors.shape[0]), np.empty(MOST_UNKNOWNS), np.empty(MOST_UNKNOWNS)
    _, span = scan_range(label, priors, roll_turns)
    np.random.seed(seed)
    offset, place, reached = np.random.random(), 0, shares[0]
    for m in range(number):
        # One draw in each of M equal shares of the scanned number's distribution.
        while place < CELLS - 1 and reached < (m + offset) / number:
            place += 1
            reached += shares[place]
        scan = bottom + (place + np.random.random()) * cell
        log_proposed = math.log(shares[place] / cell * span) if cell > 0 else 0.0  # relative to its even prior
        roll = scan if scans_roll(label, priors) else roll_turns * (2 * np.random.random() - 1)
        if m == 0 or cell > 0:
            fit(label, priors, scan, choice, times, given, rays, precisions, prior_mean, prior_precision, factor, mean, design)
        for i in range(count):
            normal[i] = np.random.standard_normal()
            log_proposed += math.log(factor[i, i]) - 0.5 * normal[i] ** 2 - 0.5 * LOG_TWO_PI
        for i in range(count - 1, -1, -1):
            linear[i] = normal[i]
            for j in range(i + 1, count):
                linear[i] -= factor[j, i] * linear[j]
            linear[i] /= factor[i, i]
        for i in range(count):
            linear[i] += mean[i]
        logs[m] = to_parameters(label, priors, linear, scan, choice, roll, values) - log_proposed
        if logs[m] > -np.inf:
            if scan_is_parameter(label, priors):
                logs[m] += math.log(priors[7, 1])  # its prior is in log_prior too
            logs[m] += log_prior(priors, values)
        if logs[m] == -np.inf:
            continue
        if not stays_in_view(label, values, roll, times, optics) or not see_future(
            label, values, roll, times, given, optics, noise_m, futures[m]
        ):
            logs[m] = -np.inf
            continue
        for k in range(given):
            fill_design(label, priors, scan, choice, times[k], design)
            x, y, z = 0.0, 0.0, 0.0
            for i in range(count):
                x, y, z = x + design[0, i] * linear[i], y + design[1, i] * linear[i], z + design[2, i] * linear[i]
            logs[m] += log_likelihood(x, y, z, sightings[k], optics, noise_m, errors)
