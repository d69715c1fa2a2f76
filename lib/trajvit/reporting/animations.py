"""Clips that move, in a notebook and in a page that stands alone."""

import base64
import html
import io
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

BACKGROUND, BORDER, INK = (18, 18, 20), (70, 70, 76), (225, 225, 225)
LABEL_PX, GAP_PX, SIDE_PX = 14, 6, 96
FRAMES_PER_SECOND = 6.0


class Animation:
    """A looping GIF that a notebook shows as an image with an alternative text."""

    def __init__(self, gif: bytes, alt: str):
        self.gif, self.alt = gif, alt

    def _repr_html_(self) -> str:
        return image_tag(self.gif, "gif", self.alt)


def image_tag(content: bytes, kind: Literal["gif", "png"], alt: str, width_px: int | None = None) -> str:
    """An HTML image that holds its content itself; with `width_px` it is enlarged to that, its pixels kept square.

    Of a GIF, those who have asked their system for less motion see the first frame (WCAG 2.2.2: what moves can be stopped).
    """
    data = base64.b64encode(content).decode()
    size = "" if width_px is None else f' style="width:{width_px}px;image-rendering:pixelated"'
    image = f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(alt, quote=True)}"{size}>'
    if kind == "png":
        return image
    buffer = io.BytesIO()
    try:
        Image.open(io.BytesIO(content)).save(buffer, "PNG")
    except OSError:  # a damaged one, from whoever reports progress
        return image
    still = base64.b64encode(buffer.getvalue()).decode()
    return f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="data:image/png;base64,{still}">{image}</picture>'


def moving_clips(rows: dict[str, UInt8[np.ndarray, "n T H W C"]], alt: str) -> Animation:
    """A grid of moving clips, a title a row; each clip's height is about `SIDE_PX`."""
    first = next(iter(rows.values()))
    scale = max(1, SIDE_PX // first.shape[2])
    height, width = first.shape[2] * scale, first.shape[3] * scale
    columns = max(len(clips) for clips in rows.values())
    size = (columns * (width + GAP_PX) + GAP_PX, len(rows) * (height + LABEL_PX + GAP_PX) + GAP_PX)
    pictures = []
    for k in range(first.shape[1]):
        picture = Image.new("RGB", size, BACKGROUND)
        pen = ImageDraw.Draw(picture)
        for row, (title, clips) in enumerate(rows.items()):
            top = GAP_PX + row * (height + LABEL_PX + GAP_PX)
            pen.text((GAP_PX, top), title, fill=INK)
            for column, clip in enumerate(clips):
                left = GAP_PX + column * (width + GAP_PX)
                frame = np.broadcast_to(clip[k], (*clip[k].shape[:2], 3)) if clip.shape[-1] == 1 else clip[k]
                tile = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.NEAREST)
                picture.paste(tile, (left, top + LABEL_PX))
                pen.rectangle((left - 1, top + LABEL_PX - 1, left + width, top + LABEL_PX + height), outline=BORDER)
        pictures.append(picture)
    buffer = io.BytesIO()
    pause = [round(1000 / FRAMES_PER_SECOND)] * (len(pictures) - 1) + [700]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=pause, loop=0)
    return Animation(buffer.getvalue(), alt)
