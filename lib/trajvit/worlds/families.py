"""The families of trajectories: for each its parameters' ranges, its path, its equation and a sentence about it.

Lengths are metres, times seconds, angles turns; the clip runs from t = 0 to t = 1. A class label is a position in
`FAMILIES`. A new family is a path, a line in `position` and an entry at the end of `FAMILIES`: all in this file.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64

from trajvit.worlds.compiling import compiled
from trajvit.worlds.exact import normal_pair, philox4x32, sin_cos, to_unit

# Which Philox blocks of a sample hold what.
PARAMETER_BLOCK, CAMERA_BLOCK, COLOUR_BLOCK, NOISE_BLOCK = 0, 8, 9, 16
MAX_ATTEMPTS = 2000


@dataclass(frozen=True)
class Uniform:
    """A parameter drawn evenly from [low, high]."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g}..{self.high:.3g}"


@dataclass(frozen=True)
class Either:
    """A parameter that is `low` or `high`, equally often."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} or {self.high:g}"


@dataclass(frozen=True)
class Fixed:
    """A parameter that does not vary."""

    low: float

    @property
    def high(self) -> float:
        return self.low

    def __str__(self) -> str:
        return f"{self.low:g}"


Prior = Uniform | Either | Fixed


@dataclass(frozen=True)
class Family:
    """One family. `textbook` holds the prior of each parameter of its path, in the path's order; `varied` those that
    differ in the varied world.

    A picture moved sideways by s px is that of a ball s z / f further, so one with s vz / f more of constant sideways velocity:
    `movable` says whether a path of the family is still one then.
    """

    name: str
    equation: str
    description: str
    textbook: dict[str, Prior]
    varied: dict[str, Prior] = field(default_factory=dict)
    movable: bool = True

    def priors(self, variety: str) -> dict[str, Prior]:
        """The prior of each parameter, by name, in the `textbook` or the `varied` world."""
        return self.textbook | (self.varied if variety == "varied" else {})


@compiled
def linear(t, x, y, z, speed, heading, vz):
    sine, cosine = sin_cos(heading)
    return x + speed * cosine * t, y + speed * sine * t, z + vz * t


@compiled
def turning(t, x, y, z, r, vz, phase, direction, turns):
    sine, cosine = sin_cos(phase + direction * turns * t)
    return x + r * cosine, y + r * sine, z + vz * t


@compiled
def thrown(t, x, y, z, vx, side, rise, g, vz):
    return x + side * vx * t, y - rise * g * t + g * t * t / 2, z + vz * t


@compiled
def position(label, p, t):
    """Where the ball of family `label` with the parameters `p` is at time t: (x, y, z) in metres."""
    if label == 0:
        return linear(t, p[0], p[1], p[2], p[3], p[4], p[5])
    if label == 1 or label == 2:
        return turning(t, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7])
    return thrown(t, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7])


# With y pointing down, a growing angle turns clockwise on the screen: counter-clockwise is direction -1.
_CIRCLE = {
    "x": Uniform(-0.7, 0.7),
    "y": Uniform(-0.7, 0.7),
    "z": Uniform(2.8, 3.8),
    "r": Uniform(0.4, 1.0),
    "vz": Fixed(0.0),
    "phase": Fixed(0.0),
    "direction": Fixed(-1.0),
    "turns": Fixed(1.0),
}
_ANY_CIRCLE = {"phase": Uniform(0.0, 1.0), "direction": Either(-1.0, 1.0)}

FAMILIES = (
    Family(
        name="linear",
        equation="p(t) = p0 + v t",
        description="The ball flies straight at constant velocity, towards or away from the camera.",
        textbook={
            "x": Uniform(-1.2, 1.2),
            "y": Uniform(-1.2, 1.2),
            "z": Uniform(2.8, 3.8),
            "speed": Uniform(0.5, 2.2),
            "heading": Uniform(0.0, 1.0),
            "vz": Uniform(-0.8, 0.8),
        },
    ),
    Family(
        name="circular",
        equation="p(t) = c + r (cos a(t), sin a(t), 0),  a(t) = a0 - 2 pi n t,  n = 1",
        description="The ball circles once at constant depth.",
        textbook=_CIRCLE,
        varied=_ANY_CIRCLE | {"turns": Uniform(0.8, 1.2)},
    ),
    Family(
        name="helical",
        equation="p(t) = c + r (cos a(t), sin a(t), 0) + (0, 0, vz t),  a(t) = a0 - 2 pi n t,  n = 2",
        description="The ball circles twice while its depth changes steadily.",
        textbook=_CIRCLE | {"vz": Uniform(-0.8, 0.8), "turns": Fixed(2.0)},
        varied=_ANY_CIRCLE | {"turns": Uniform(1.6, 2.4)},
        movable=False,
    ),
    Family(
        name="parabolic",
        equation="p(t) = p0 + v t + (0, g, 0) t^2 / 2",
        description="The ball is thrown up and sideways and falls back under gravity.",
        textbook={
            "x": Uniform(-1.2, 0.4),
            "y": Uniform(-0.6, 1.2),
            "z": Uniform(2.8, 3.8),
            "vx": Uniform(0.5, 2.0),
            "side": Fixed(1.0),
            "rise": Uniform(0.3, 0.7),
            "g": Uniform(4.0, 9.8),
            "vz": Uniform(-0.5, 0.5),
        },
        varied={"x": Uniform(-1.2, 1.2), "side": Either(-1.0, 1.0)},
    ),
)

NAMES = tuple(family.name for family in FAMILIES)
MOST_PARAMETERS = max(len(family.textbook) for family in FAMILIES)


def frame_times(frames: int) -> Float64[np.ndarray, " T"]:
    """t_k = k / (T-1) in seconds."""
    return np.arange(frames) / (frames - 1)


def path(label: int, parameters: dict[str, float], times: Float[np.ndarray, " T"]) -> Float64[np.ndarray, "T 3"]:
    """The path of a ball of family `label` with the given parameters, all of them, by name: metres."""
    values = np.array([parameters[name] for name in FAMILIES[label].textbook], np.float64)
    return np.array([position(label, values, t) for t in times])


def priors_as_arrays(variety: str) -> Float64[np.ndarray, "families parameters 3"]:
    """(low, high - low, 1 where only the two ends occur) of every parameter of every family, as `trace` takes them."""
    table = np.zeros((len(FAMILIES), MOST_PARAMETERS, 3))
    for label, family in enumerate(FAMILIES):
        for place, prior in enumerate(family.priors(variety).values()):
            table[label, place] = prior.low, prior.high - prior.low, isinstance(prior, Either)
    return table


@compiled
def trace(key, start, priors, times, optics, noise_m, roll_turns, points, pixels, radius):
    """Draw the paths of the samples `start`.. of a stream until each keeps its whole ball in view.

    `key` (2,) uint32; `priors` as `priors_as_arrays`; `times` (T,) s; `optics` (6,): focal length px, H, W, ball
    radius m, depth m at which a ball of constant size is shown (0 for perspective), margin px to keep beyond the
    radius. Fills points (N, T, 3) m, pixels (N, T, 2) px and radius (N, T) px, all float32. Gives the number of samples
    filled: fewer than N when `MAX_ATTEMPTS` draws of one never fitted.
    """
    focal, height, width, ball, fixed_depth, beyond = optics
    families, most = priors.shape[0], priors.shape[1]
    words, values = np.empty(4, np.uint32), np.empty(most)
    smooth, noise = np.empty((times.size, 3)), np.empty(3 * times.size + 4)
    for n in range(points.shape[0]):
        low_word, high_word = np.uint32((start + n) & 0xFFFFFFFF), np.uint32((start + n) >> 32)
        label = (start + n) % families
        seen = False
        for attempt in range(MAX_ATTEMPTS):
            first = np.uint32(attempt << 8)
            for place in range(most):
                if place % 4 == 0:
                    block = np.uint32(first | (PARAMETER_BLOCK + place // 4))
                    words[0], words[1], words[2], words[3] = philox4x32(key[0], key[1], low_word, high_word, block, np.uint32(0))
                u = to_unit(words[place % 4])
                low, span, either = priors[label, place]
                values[place] = low + span * ((u >= 0.5) if either else u)
            word, _, _, _ = philox4x32(key[0], key[1], low_word, high_word, np.uint32(first | CAMERA_BLOCK), np.uint32(0))
            sine, cosine = sin_cos(roll_turns * (2 * to_unit(word) - 1))
            # The smooth path first: most draws leave the frame, and need no noise to be thrown away.
            for noisy in range(2 if noise_m > 0 else 1):
                if noisy:
                    for j in range(0, 3 * times.size, 4):
                        block = np.uint32(first | (NOISE_BLOCK + j // 4))
                        a, b, c, d = philox4x32(key[0], key[1], low_word, high_word, block, np.uint32(0))
                        noise[j], noise[j + 1] = normal_pair(a, b)
                        noise[j + 2], noise[j + 3] = normal_pair(c, d)
                seen = True
                for k in range(times.size):
                    if noisy:
                        x = smooth[k, 0] + noise_m * noise[3 * k]
                        y = smooth[k, 1] + noise_m * noise[3 * k + 1]
                        z = smooth[k, 2] + noise_m * noise[3 * k + 2]
                    else:
                        x, y, z = position(label, values, times[k])
                        smooth[k, 0], smooth[k, 1], smooth[k, 2] = x, y, z
                    zoom = focal / (z if fixed_depth == 0 else fixed_depth)
                    points[n, k, 0], points[n, k, 1], points[n, k, 2] = x, y, z
                    pixels[n, k, 0] = focal * (cosine * x - sine * y) / z + (width - 1) / 2
                    pixels[n, k, 1] = focal * (sine * x + cosine * y) / z + (height - 1) / 2
                    radius[n, k] = zoom * ball
                    margin = radius[n, k] + beyond
                    u, v = pixels[n, k, 0], pixels[n, k, 1]
                    if not (margin <= u <= width - 1 - margin and margin <= v <= height - 1 - margin):
                        seen = False
                        break
                if not seen:
                    break
            if seen:
                break
        if not seen:
            return n
    return points.shape[0]


@compiled
def draw_colours(key, start, colour):
    """Fill colour (N, 3) float32 with a bright colour for each sample: its strongest channel 1 and none below 0.25."""
    for n in range(colour.shape[0]):
        low, high = np.uint32((start + n) & 0xFFFFFFFF), np.uint32((start + n) >> 32)
        a, b, c, _ = philox4x32(key[0], key[1], low, high, np.uint32(COLOUR_BLOCK), np.uint32(0))
        red, green, blue = 0.25 + 0.75 * to_unit(a), 0.25 + 0.75 * to_unit(b), 0.25 + 0.75 * to_unit(c)
        strongest = max(red, green, blue)
        colour[n, 0], colour[n, 1], colour[n, 2] = red / strongest, green / strongest, blue / strongest
