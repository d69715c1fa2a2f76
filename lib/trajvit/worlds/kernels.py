"""The compiled loops; their callers in `streams` and `renderer` say what they take and give."""

import math

import numpy as np
from numba import njit, uint32, uint64


@njit(cache=True)
def philox4x32(key0, key1, c0, c1, c2, c3):
    """Ten rounds of Philox on one 128-bit counter: four random 32-bit words."""
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


@njit(cache=True)
def fill_words(key0, key1, samples, attempt, first_block, words):
    for row in range(samples.size):
        low = uint32(samples[row] & 0xFFFFFFFF)
        high = uint32(samples[row] >> 32)
        for block in range(words.shape[1] // 4):
            counter = uint32(attempt) << uint32(8) | uint32(first_block + block)
            a, b, c, d = philox4x32(key0, key1, low, high, counter, uint32(0))
            words[row, 4 * block] = a
            words[row, 4 * block + 1] = b
            words[row, 4 * block + 2] = c
            words[row, 4 * block + 3] = d


@njit(cache=True)
def draw_discs(pixels, radius, colour, edge, frames):
    samples, times, height, width, channels = frames.shape
    frames[:] = 0
    for n in range(samples):
        for k in range(times):
            u, v, r = pixels[n, k, 0], pixels[n, k, 1], radius[n, k]
            reach = r + edge / 2
            for row in range(max(0, math.ceil(v - reach)), min(height - 1, math.floor(v + reach)) + 1):
                for column in range(max(0, math.ceil(u - reach)), min(width - 1, math.floor(u + reach)) + 1):
                    distance = math.sqrt((column - u) ** 2 + (row - v) ** 2)
                    inside = min(1.0, max(0.0, (reach - distance) / edge))
                    coverage = inside * inside * (3 - 2 * inside)
                    for c in range(channels):
                        frames[n, k, row, column, c] = np.uint8(255.0 * coverage * colour[n, c] + 0.5)
