"""The compiled loops over pixels; their callers in `renderer` say what they take and give."""

import math

import numpy as np

from trajvit.worlds.compiling import compiled

# Width in px of the soft edge. A smooth edge of 1.5 px keeps a disc's centre of light within 0.03 px of its centre for
# every radius from 1 px up; the usual linear edge of 1 px is off by up to 0.06 px.
EDGE_PX = 1.5
# Pixels drawn at a time: a loop of fixed length becomes a few vector instructions.
LANES = 8


@compiled
def weigh_light(frames, centres):
    clips, times, height, width, channels = frames.shape
    for n in range(clips):
        for k in range(times):
            total, across, down = 0, 0, 0
            for row in range(height):
                in_row = 0
                for column in range(width):
                    light = np.int64(frames[n, k, row, column, 0])
                    for c in range(1, channels):
                        light = max(light, np.int64(frames[n, k, row, column, c]))
                    in_row += light
                    across += light * column
                total += in_row
                down += in_row * row
            centres[n, k, 0] = across / total if total else (width - 1) / 2
            centres[n, k, 1] = down / total if total else (height - 1) / 2


@compiled
def draw_discs(pixels, radius, colour, frames):
    clips, times, height, width, channels = frames.shape
    # A disc's box is rows of 2^bits columns, one after the other: a single loop over them runs in vectors.
    light = np.empty(height * 2 * width + LANES, np.float32)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    two, three, full = np.float32(2), np.float32(3), np.float32(255)
    steepness = np.float32(1 / EDGE_PX)
    for n in range(clips):
        for k in range(times):
            u, v = pixels[n, k, 0], pixels[n, k, 1]
            reach = radius[n, k] + np.float32(EDGE_PX / 2)
            top, bottom = max(0, math.ceil(v - reach)), min(height, math.floor(v + reach) + 1)
            left, right = max(0, math.ceil(u - reach)), min(width, math.floor(u + reach) + 1)
            bits = 3
            while 1 << bits < right - left:
                bits += 1
            left = max(0, min(left, width - (1 << bits)))
            right = min(width, left + (1 << bits))
            du, dv = np.float32(left) - u, np.float32(top) - v
            column = np.int32((1 << bits) - 1)
            for j in range((bottom - top) << bits):
                dx = np.float32(np.int32(j) & column) + du
                dy = np.float32(np.int32(j) >> np.int32(bits)) + dv
                inside = (reach - np.sqrt(dx * dx + dy * dy)) * steepness
                inside = inside if inside > zero else zero
                inside = inside if inside < one else one
                light[j] = full * (inside * inside * (three - two * inside))
            for row in range(top, bottom):
                first = (row - top) << bits
                if channels == 1 and right - left == LANES:
                    for lane in range(LANES):
                        frames[n, k, row, left + lane, 0] = np.uint8(np.int32(light[first + lane] * colour[n, 0] + half))
                else:
                    for c in range(channels):
                        for lane in range(right - left):
                            frames[n, k, row, left + lane, c] = np.uint8(np.int32(light[first + lane] * colour[n, c] + half))
