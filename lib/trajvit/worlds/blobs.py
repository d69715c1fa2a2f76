"""The compiled search for balls in frames; its caller in `metrics.centres` says what it takes and gives."""

import math

import numpy as np

from trajvit.worlds.compiling import compiled
from trajvit.worlds.discs import EDGE_PX

# What a disc's soft edge adds to its area over pi, in px^2: the variance of the smoothstep's slope, EDGE_PX^2 / 20.
EDGE_AREA = EDGE_PX**2 / 20
# Light that stands out less than this many times the spread of a frame's background (its upper quartile less its
# median) is noise: 2.7 standard deviations of a normal one.
NOISE_SPREADS = 4


@compiled
def background(light, spread_share):
    """The median level of a frame, and how far its quantile `spread_share` lies above it."""
    counts = np.zeros(256, np.int64)
    for row in range(light.shape[0]):
        for column in range(light.shape[1]):
            counts[light[row, column]] += 1
    below, median = 0, -1
    for level in range(256):
        below += counts[level]
        if median < 0 and 2 * below >= light.size:
            median = level
        if below >= spread_share * light.size:
            return median, level - median
    return median, 255 - median


@compiled
def find_blobs(frames, haze, faintest, least_light, second, centres, radius, count):
    clips, times, height, width, channels = frames.shape
    light = np.empty((height, width), np.uint8)
    fresh = np.empty((height, width), np.bool_)
    stack = np.empty(height * width, np.int64)
    weights = np.empty(height * width)
    for n in range(clips):
        for k in range(times):
            for row in range(height):
                for column in range(width):
                    brightest = frames[n, k, row, column, 0]
                    for c in range(1, channels):
                        brightest = max(brightest, frames[n, k, row, column, c])
                    light[row, column] = brightest
            floor, spread = background(light, 0.75)
            cut = floor + max(255 * haze, float(NOISE_SPREADS * spread))
            for row in range(height):
                for column in range(width):
                    fresh[row, column] = light[row, column] > cut
            balls, heaviest = 0, 0.0
            centres[n, k, 0], centres[n, k, 1] = (width - 1) / 2, (height - 1) / 2
            radius[n, k] = 0
            for start in range(height * width):
                if not fresh[start // width, start % width]:
                    continue
                fresh[start // width, start % width] = False
                stack[0], waiting = start, 1
                total, across, down, area, peak = 0.0, 0.0, 0.0, 0.0, 0.0
                top, bottom, left, right = height, 0, width, 0
                while waiting:
                    waiting -= 1
                    row, column = stack[waiting] // width, stack[waiting] % width
                    weight = light[row, column] - cut
                    total += weight
                    across += weight * column
                    down += weight * row
                    area += light[row, column] - floor
                    peak = max(peak, float(light[row, column]) - floor)
                    top, bottom, left, right = min(top, row), max(bottom, row), min(left, column), max(right, column)
                    for down_by, right_by in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                        y, x = row + down_by, column + right_by
                        if 0 <= y < height and 0 <= x < width and fresh[y, x]:
                            fresh[y, x] = False
                            stack[waiting] = y * width + x
                            waiting += 1
                vast = bottom - top > height / 2 and right - left > width / 2
                if peak < 255 * faintest or total < 255 * least_light or vast:
                    continue
                weights[balls] = total
                balls += 1
                if total > heaviest:
                    heaviest = total
                    centres[n, k, 0], centres[n, k, 1] = across / total, down / total
                    radius[n, k] = math.sqrt(max(area / (255 * math.pi) - EDGE_AREA, 0.0))
            alike = 0
            for ball in range(balls):
                alike += weights[ball] >= second * heaviest
            count[n, k] = alike
