"""The families of trajectories: for each its parameters' ranges, its path, its equation and a sentence about it.

Lengths are metres, times seconds; the clip runs from t = 0 to t = 1. A class label is a position in `FAMILIES`.
A new family is a new entry at the end of that tuple and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

Column = Float[np.ndarray, "n 1"]
Row = Float[np.ndarray, "1 T"]


@dataclass(frozen=True)
class Uniform:
    """A parameter drawn evenly from [low, high]."""

    low: float
    high: float

    def at(self, u):
        return self.low + (self.high - self.low) * u

    def __str__(self) -> str:
        return f"{self.low:.3g}..{self.high:.3g}"


@dataclass(frozen=True)
class Either:
    """A parameter that is one of two values, equally often."""

    first: float
    second: float

    def at(self, u):
        return np.where(u < 0.5, self.first, self.second)

    def __str__(self) -> str:
        return f"{self.first:g} or {self.second:g}"


@dataclass(frozen=True)
class Fixed:
    """A parameter that does not vary."""

    value: float

    def at(self, u):
        return np.full_like(u, self.value)

    def __str__(self) -> str:
        return f"{self.value:g}"


Prior = Uniform | Either | Fixed


@dataclass(frozen=True)
class Family:
    """One family: `path(parameters, t)` gives (x, y, z), each (n, T) in metres.

    `textbook` holds the prior of every parameter; `varied` those that differ in the varied world.
    """

    name: str
    equation: str
    description: str
    path: Callable[[dict[str, Column], Row], tuple]
    textbook: dict[str, Prior]
    varied: dict[str, Prior] = field(default_factory=dict)

    def priors(self, variety: str) -> dict[str, Prior]:
        """The prior of each parameter, by name, in the `textbook` or the `varied` world."""
        return self.textbook | (self.varied if variety == "varied" else {})


def _line(p: dict[str, Column], t: Row):
    vx, vy = p["speed"] * np.cos(p["heading"]), p["speed"] * np.sin(p["heading"])
    return p["x"] + vx * t, p["y"] + vy * t, p["z"] + p["vz"] * t


def _turning(p: dict[str, Column], t: Row):
    angle = p["phase"] + p["direction"] * 2 * np.pi * p["turns"] * t
    return p["x"] + p["r"] * np.cos(angle), p["y"] + p["r"] * np.sin(angle), p["z"] + p["vz"] * t


def _throw(p: dict[str, Column], t: Row):
    vy = -p["rise"] * p["g"]
    return p["x"] + p["side"] * p["vx"] * t, p["y"] + vy * t + p["g"] * t**2 / 2, p["z"] + p["vz"] * t


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
_ANY_CIRCLE = {"phase": Uniform(0.0, 2 * np.pi), "direction": Either(-1.0, 1.0)}

FAMILIES = (
    Family(
        name="linear",
        equation="p(t) = p0 + v t",
        description="The ball flies straight at constant velocity, towards or away from the camera.",
        path=_line,
        textbook={
            "x": Uniform(-1.2, 1.2),
            "y": Uniform(-1.2, 1.2),
            "z": Uniform(2.8, 3.8),
            "speed": Uniform(0.5, 2.2),
            "heading": Uniform(0.0, 2 * np.pi),
            "vz": Uniform(-0.8, 0.8),
        },
    ),
    Family(
        name="circular",
        equation="p(t) = c + r (cos a(t), sin a(t), 0),  a(t) = a0 - 2 pi n t,  n = 1",
        description="The ball circles once at constant depth.",
        path=_turning,
        textbook=_CIRCLE,
        varied=_ANY_CIRCLE | {"turns": Uniform(0.8, 1.2)},
    ),
    Family(
        name="helical",
        equation="p(t) = c + r (cos a(t), sin a(t), 0) + (0, 0, vz t),  a(t) = a0 - 2 pi n t,  n = 2",
        description="The ball circles twice while its depth changes steadily.",
        path=_turning,
        textbook=_CIRCLE | {"vz": Uniform(-0.8, 0.8), "turns": Fixed(2.0)},
        varied=_ANY_CIRCLE | {"turns": Uniform(1.6, 2.4)},
    ),
    Family(
        name="parabolic",
        equation="p(t) = p0 + v t + (0, g, 0) t^2 / 2",
        description="The ball is thrown up and sideways and falls back under gravity.",
        path=_throw,
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
