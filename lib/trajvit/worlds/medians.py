"""The compiled geometric median."""

import math

from trajvit.worlds.compiling import compiled

# Two rounds that differ by less than this, in px, have arrived.
ARRIVED_PX, MOST_ROUNDS, NEAREST_PX = 1e-4, 200, 1e-6


@compiled
def geometric_median(points, weights, median):
    """Move median (2,), a start, to the point with the least weighted sum of distances to points (M, 2).

    Weiszfeld's iteration (Tohoku Math. J. 43, 1937), which goes downhill from any start.
    """
    for _ in range(MOST_ROUNDS):
        total, u, v = 0.0, 0.0, 0.0
        for m in range(weights.size):
            distance = math.sqrt((points[m, 0] - median[0]) ** 2 + (points[m, 1] - median[1]) ** 2)
            pull = weights[m] / max(distance, NEAREST_PX)
            total, u, v = total + pull, u + pull * points[m, 0], v + pull * points[m, 1]
        moved = abs(u / total - median[0]) + abs(v / total - median[1])
        median[0], median[1] = u / total, v / total
        if moved < ARRIVED_PX:
            break
