"""The compiled loop that fits the renderer's disc to a frame; `evaluation.sightings` says what it takes and gives."""

import math

import numpy as np

from trajvit.worlds.compiling import compiled
from trajvit.worlds.discs import EDGE_PX

ROUNDS = 10


@compiled
def fit_discs(frames, discs):
    """Improve discs (N, T, 3), each (u, v, radius) in px, until the disc drawn by `discs.draw_discs` is the frame.

    Gauss-Newton on the squared difference of brightness: a few rounds suffice from any start within a pixel.
    """
    clips, times, height, width, channels = frames.shape
    for n in range(clips):
        for k in range(times):
            u, v, r = discs[n, k]
            for _ in range(ROUNDS):
                reach = r + EDGE_PX / 2
                uu, uv, ur, vv, vr, rr, gu, gv, gr = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                for row in range(max(0, math.floor(v - reach)), min(height, math.ceil(v + reach) + 1)):
                    for column in range(max(0, math.floor(u - reach)), min(width, math.ceil(u + reach) + 1)):
                        dx, dy = column - u, row - v
                        distance = math.sqrt(dx * dx + dy * dy)
                        inside = (reach - distance) / EDGE_PX
                        if inside <= 0 or inside >= 1:
                            continue  # its brightness does not move with the disc
                        light = np.int64(frames[n, k, row, column, 0])
                        for c in range(1, channels):
                            light = max(light, np.int64(frames[n, k, row, column, c]))
                        error = light / 255 - inside * inside * (3 - 2 * inside)
                        slope = 6 * inside * (1 - inside) / EDGE_PX
                        a, b = (slope * dx / distance, slope * dy / distance) if distance > 0 else (0.0, 0.0)
                        uu, uv, ur, gu = uu + a * a, uv + a * b, ur + a * slope, gu + a * error
                        vv, vr, gv = vv + b * b, vr + b * slope, gv + b * error
                        rr, gr = rr + slope * slope, gr + slope * error
                # Solve the 3 x 3 normal equations by Cramer's rule; a nearly singular one leaves the disc as it is.
                cofactor_u, cofactor_v, cofactor_r = vv * rr - vr * vr, ur * vr - uv * rr, uv * vr - ur * vv
                determinant = uu * cofactor_u + uv * cofactor_v + ur * cofactor_r
                if determinant <= 1e-9:
                    break
                du = (cofactor_u * gu + cofactor_v * gv + cofactor_r * gr) / determinant
                dv = (cofactor_v * gu + (uu * rr - ur * ur) * gv + (uv * ur - uu * vr) * gr) / determinant
                dr = (cofactor_r * gu + (uv * ur - uu * vr) * gv + (uu * vv - uv * uv) * gr) / determinant
                if max(abs(du), abs(dv), abs(dr)) > 1:
                    break
                u, v, r = u + du, v + dv, r + dr
            discs[n, k, 0], discs[n, k, 1], discs[n, k, 2] = u, v, r
