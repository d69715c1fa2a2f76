"""The compiled likelihood of what a camera saw, and the priors as the generator draws them.

Both posteriors stand on it: `linear_posterior` and `shape_posterior`. Positions are metres in the frame of the rolled
camera, called camera space: a path turned by the roll about the optical axis. `optics` is that of `families.trace`;
`errors` (2,) the standard deviations in px with which a centre's coordinate and a radius are read off a frame. Sightings
are (T, 3) rows (u, v, radius) in px.
"""

import math

import numpy as np

from trajvit.worlds.compiling import compiled
from trajvit.worlds.families import position

LOG_TWO_PI = math.log(2 * math.pi)
# A parameter's value may lie this share of its span beyond its range: the rounding of going there and back.
SLACK = 1e-9


@compiled
def project(x, y, z, optics):
    """(u, v, radius) in px of a ball at (x, y, z) in camera space."""
    focal, height, width, ball, fixed_depth, _ = optics
    zoom = focal / (z if fixed_depth == 0 else fixed_depth)
    return focal * x / z + (width - 1) / 2, focal * y / z + (height - 1) / 2, zoom * ball


@compiled
def in_view(u, v, radius, optics):
    """Is the whole ball in the frame?"""
    _, height, width, _, _, beyond = optics
    margin = radius + beyond
    return margin <= u <= width - 1 - margin and margin <= v <= height - 1 - margin


@compiled
def log_likelihood(x, y, z, sighting, optics, noise_m, errors):
    """log p(u, v, radius | the smooth path is at (x, y, z)); of (u, v) alone where all balls are shown equally large.

    The noise on the path, `noise_m` in every direction, is a thousandth of the depth, so the projection is linear in it
    and the density is normal: its covariance is noise_m^2 J J^T with J the projection's derivative, plus the errors of
    reading the frame.
    """
    focal, fixed_depth = optics[0], optics[4]
    u, v, radius = project(x, y, z, optics)
    du, dv, dr = sighting[0] - u, sighting[1] - v, sighting[2] - radius
    a, b, scale = x / z, y / z, focal / z * noise_m
    uu, uv, vv = scale * scale * (1 + a * a) + errors[0] ** 2, scale * scale * a * b, scale * scale * (1 + b * b) + errors[0] ** 2
    flat = uu * vv - uv * uv
    squares = (vv * du * du - 2 * uv * du * dv + uu * dv * dv) / flat
    if fixed_depth != 0:
        return -0.5 * (squares + math.log(flat)) - LOG_TWO_PI
    shrink = radius / z * noise_m
    ur, vr = a * scale * shrink, b * scale * shrink
    # The radius given (u, v), which are correlated with it through the depth.
    to_u, to_v = (vv * ur - uv * vr) / flat, (uu * vr - uv * ur) / flat
    rest = dr - to_u * du - to_v * dv
    variance = shrink * shrink + errors[1] ** 2 - to_u * ur - to_v * vr
    return -0.5 * (squares + rest * rest / variance + math.log(flat) + math.log(variance)) - 1.5 * LOG_TWO_PI


@compiled
def draw_prior(priors, roll_turns, values):
    """Draw a family's parameters into `values` and give the camera's roll in turns, before anything is redrawn."""
    for place in range(priors.shape[0]):
        low, span, either = priors[place]
        values[place] = low + span * ((np.random.random() >= 0.5) if either else np.random.random())
    return roll_turns * (2 * np.random.random() - 1)


@compiled
def log_prior(priors, values):
    """log density of a family's parameters before anything is redrawn; -inf outside their ranges. An angle or another
    parameter that comes back after one turn is given within its range."""
    total = 0.0
    for place in range(priors.shape[0]):
        low, span, either = priors[place]
        value = values[place]
        if not low - SLACK * (1 + span) <= value <= low + span + SLACK * (1 + span):
            return -np.inf
        if either:
            total -= math.log(2)
        elif span > 0:
            total -= math.log(span)
    return total


@compiled
def into(value, low, span):
    """The angle `value` in turns, moved by whole turns to [low, low + 1)."""
    return low + (value - low) % 1.0 if span > 0 else value


@compiled
def stays_in_view(label, values, roll, times, optics):
    """Is the whole ball in every frame, without its noise?"""
    cosine, sine = math.cos(2 * math.pi * roll), math.sin(2 * math.pi * roll)
    for k in range(times.size):
        x, y, z = position(label, values, times[k])
        u, v, radius = project(cosine * x - sine * y, sine * x + cosine * y, z, optics)
        if not in_view(u, v, radius, optics):
            return False
    return True


@compiled
def see_future(label, values, roll, times, given, optics, noise_m, future):
    """Fill future (T - given, 2) with noisy centres in px; is the whole ball in each of these frames?"""
    cosine, sine = math.cos(2 * math.pi * roll), math.sin(2 * math.pi * roll)
    for k in range(given, times.size):
        x, y, z = position(label, values, times[k])
        x += noise_m * np.random.standard_normal()
        y += noise_m * np.random.standard_normal()
        z += noise_m * np.random.standard_normal()
        u, v, radius = project(cosine * x - sine * y, sine * x + cosine * y, z, optics)
        if not in_view(u, v, radius, optics):
            return False
        future[k - given, 0], future[k - given, 1] = u, v
    return True


@compiled
def share_kept(label, priors, times, optics, noise_m, roll_turns, draws, seed):
    """The share of the draws of a family's parameters that keep the whole ball in view, with and without its noise."""
    np.random.seed(seed)
    values, future, kept = np.empty(priors.shape[0]), np.empty((times.size, 2)), 0
    for _ in range(draws):
        roll = draw_prior(priors, roll_turns, values)
        kept += stays_in_view(label, values, roll, times, optics) and see_future(
            label, values, roll, times, 0, optics, noise_m, future
        )
    return kept / draws


@compiled
def draw_seen(label, priors, times, optics, noise_m, roll_turns, seed, values, rolls, futures):
    """Fill values (N, parameters), rolls (N,) in turns and futures (N, T, 2) px with draws that keep the ball in view."""
    np.random.seed(seed)
    for n in range(rolls.size):
        kept = False
        while not kept:
            rolls[n] = draw_prior(priors, roll_turns, values[n])
            kept = stays_in_view(label, values[n], rolls[n], times, optics) and see_future(
                label, values[n], rolls[n], times, 0, optics, noise_m, futures[n]
            )
