"""How alike two videos are, pixel by pixel and patch by patch."""

import numpy as np
from jaxtyping import Float, UInt8

from trajvit.settings import InputError

# PSNR of identical clips would be infinite; this is what rounding to 8 bits alone costs (1/12 of a level, squared).
HIGHEST_DB = 10 * np.log10(12 * 255.0**2)
FOREGROUND = 0.1
# SSIM's window, a Gaussian of 1.5 pixels' standard deviation, and its two constants, as published.
WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2).astype(np.float32)
WINDOW /= WINDOW.sum()
C1, C2 = 0.01**2, 0.03**2
PIECE = 64  # clips at once


def psnr(frames: UInt8[np.ndarray, "N T H W C"], reference: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio of each clip in dB, at most `HIGHEST_DB`."""
    return _decibel(_squared_error(frames, reference).mean(axis=(1, 2, 3, 4)))


def foreground_psnr(frames: UInt8[np.ndarray, "N T H W C"], reference: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, " N"]:
    """PSNR over the pixels that the ball lights in the reference, so that a blank or misplaced ball cannot hide in the black; over
    all pixels where it lights none."""
    lit = reference.max(axis=-1, keepdims=True) > 255 * FOREGROUND
    lit |= ~lit.any(axis=(1, 2, 3, 4), keepdims=True)
    error = (_squared_error(frames, reference) * lit).sum(axis=(1, 2, 3, 4))
    return _decibel(error / (lit.sum(axis=(1, 2, 3, 4)) * frames.shape[-1]))


def ssim(frames: UInt8[np.ndarray, "N T H W C"], reference: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, " N"]:
    """Structural similarity, -1 to 1 for the same: the mean over the frames of a clip, their channels, and all Gaussian windows
    that lie inside (Wang et al., IEEE Trans. Image Process. 13, 2004). Raises `InputError` for frames smaller than a window.
    """
    if min(frames.shape[2:4]) < WINDOW.size:
        raise InputError(f"frames of {frames.shape[2]}x{frames.shape[3]} were given; SSIM needs {WINDOW.size} pixels each way")
    return np.concatenate([_ssim(*pair) for pair in zip(_pieces(frames), _pieces(reference), strict=True)])


def _pieces(frames):
    return [frames[at : at + PIECE].astype(np.float32) / 255 for at in range(0, len(frames), PIECE)]


def _ssim(x, y):
    mean_x, mean_y = _windowed(x), _windowed(y)
    of_x, of_y, of_both = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2, _windowed(x * y) - mean_x * mean_y
    brightness = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (brightness * (2 * of_both + C2) / (of_x + of_y + C2)).mean(axis=(1, 2, 3, 4))


def _windowed(values):
    """The mean of each window, along the rows, then along the columns."""
    for axis in (2, 3):
        values = np.lib.stride_tricks.sliding_window_view(values, WINDOW.size, axis) @ WINDOW
    return values


def _squared_error(frames, reference):
    return ((frames.astype(np.float32) - reference.astype(np.float32)) / 255) ** 2


def _decibel(mean_squared_error):
    return np.minimum(-10 * np.log10(np.maximum(mean_squared_error, 1e-12)), HIGHEST_DB)
