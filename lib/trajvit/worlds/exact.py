"""Compiled arithmetic that gives the same bits on every machine.

Only +, -, *, / and sqrt are used, which IEEE 754 defines to the last bit; the sines and logarithms of libm and of vector
libraries differ between machines. The polynomials are those of FreeBSD's msun (Ng, "Argument reduction for huge
arguments", 1992, and `e_log.c`), correct to within one unit in the last place.
"""

import math

import numpy as np
from numba import uint32, uint64

from trajvit.worlds.compiling import compiled

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@compiled
def philox4x32(key0, key1, c0, c1, c2, c3):
    """Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Ten rounds on one 128-bit counter, given as four 32-bit words with two of key: four random 32-bit words.
    """
    for _ in range(10):
        low_product = uint64(0xD2511F53) * uint64(c0)
        high_product = uint64(0xCD9E8D57) * uint64(c2)
        c0, c1, c2, c3 = (
            uint32(high_product >> uint64(32)) ^ c1 ^ key0,
            uint32(high_product),
            uint32(low_product >> uint64(32)) ^ c3 ^ key1,
            uint32(low_product),
        )
        key0 = uint32(key0 + uint32(0x9E3779B9))
        key1 = uint32(key1 + uint32(0xBB67AE85))
    return c0, c1, c2, c3


@compiled
def to_unit(word):
    """A 32-bit word as a number in the open interval (0, 1)."""
    return (np.float64(word) + 0.5) * 2.0**-32


@compiled
def sin_cos(turns):
    """Sine and cosine of an angle given in turns."""
    turns = turns - math.floor(turns + 0.5)  # in [-1/2, 1/2), exactly
    quarter = math.floor(4 * turns + 0.5)
    x = 2 * math.pi * (turns - quarter / 4)  # in [-pi/4, pi/4]
    z = x * x
    sine = x + x * z * (
        -1.66666666666666324348e-01
        + z
        * (
            8.33333333332248946124e-03
            + z
            * (
                -1.98412698298579493134e-04
                + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
            )
        )
    )
    cosine = (
        1
        - z / 2
        + z
        * z
        * (
            4.16666666666666019037e-02
            + z
            * (
                -1.38888888888741095749e-03
                + z
                * (
                    2.48015872894767294178e-05
                    + z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11))
                )
            )
        )
    )
    # Without branches, which no processor foresees: odd quarters swap the two, and two bits tell their signs.
    q = int(quarter) & 3
    turned_sine, turned_cosine = (cosine, sine) if q & 1 else (sine, cosine)
    return (-turned_sine if q & 2 else turned_sine), (-turned_cosine if (q + 1) & 2 else turned_cosine)


@compiled
def natural_log(x):
    """Natural logarithm of a positive, normal number."""
    fraction, exponent = math.frexp(x)  # exact; fraction in [1/2, 1)
    if fraction < 0.70710678118654752440:
        fraction, exponent = 2 * fraction, exponent - 1
    f = fraction - 1
    s = f / (2 + f)
    z = s * s
    series = z * (
        6.666666666666735130e-01
        + z
        * (
            3.999999999940941908e-01
            + z
            * (
                2.857142874366239149e-01
                + z
                * (
                    2.222219843214978396e-01
                    + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))
                )
            )
        )
    )
    half = f * f / 2
    return exponent * LN2_HIGH - ((half - (s * (half + series) + exponent * LN2_LOW)) - f)


@compiled
def normal_pair(word0, word1):
    """Two standard normal numbers from two random words, by the Box-Muller transform."""
    radius = math.sqrt(-2 * natural_log(to_unit(word0)))
    sine, cosine = sin_cos(to_unit(word1))
    return radius * cosine, radius * sine
