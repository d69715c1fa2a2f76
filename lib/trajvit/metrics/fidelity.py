"""How alike two videos are, pixel by pixel."""

import numpy as np
from jaxtyping import Float, UInt8

# PSNR of identical clips would be infinite; this is what rounding to 8 bits alone costs (1/12 of a level, squared).
HIGHEST_DB = 10 * np.log10(12 * 255.0**2)
FOREGROUND = 0.1


def psnr(frames: UInt8[np.ndarray, "N T H W C"], reference: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio of each clip in dB, at most `HIGHEST_DB`."""
    return _decibel(_squared_error(frames, reference).mean(axis=(1, 2, 3, 4)))


def foreground_psnr(frames: UInt8[np.ndarray, "N T H W C"], reference: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, " N"]:
    """PSNR over the pixels that the ball lights in the reference: a blank or misplaced ball cannot hide in the black."""
    lit = reference.max(axis=-1, keepdims=True) > 255 * FOREGROUND
    error = (_squared_error(frames, reference) * lit).sum(axis=(1, 2, 3, 4))
    return _decibel(error / np.maximum(lit.sum(axis=(1, 2, 3, 4)) * frames.shape[-1], 1))


def _squared_error(frames, reference):
    return ((frames.astype(np.float32) - reference.astype(np.float32)) / 255) ** 2


def _decibel(mean_squared_error):
    return np.minimum(-10 * np.log10(np.maximum(mean_squared_error, 1e-12)), HIGHEST_DB)
