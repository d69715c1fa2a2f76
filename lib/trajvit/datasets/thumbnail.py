"""Small pictures of clips: one that moves, and one that shows all frames."""

import io

import numpy as np
from jaxtyping import UInt8

SIDE_PX = 128
FRAME_MS = 150


def thumbnail(frames: UInt8[np.ndarray, "T H W C"]) -> bytes:
    """The clip as a looping GIF about `SIDE_PX` high."""
    from PIL import Image

    zoom = max(1, SIDE_PX // frames.shape[1])
    size = frames.shape[2] * zoom, frames.shape[1] * zoom
    pictures = [Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame).resize(size, 0) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=FRAME_MS, loop=0)
    return buffer.getvalue()


def film_strip(clips: UInt8[np.ndarray, "N T H W C"]) -> bytes:
    """A clip a row, a frame a column, as a PNG."""
    from PIL import Image

    sheet = np.concatenate([np.concatenate(list(clip), axis=1) for clip in clips])
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(buffer, "PNG")
    return buffer.getvalue()
