"""Imports the .npz files of the earlier attempt: clips, labels, paths and texts as they are, the image of the ball
measured in the frames."""

import hashlib
import shlex
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Num, Shaped, UInt8

from trajvit.datasets.folders import Place, open_folder
from trajvit.datasets.generator import fill
from trajvit.datasets.labour import Labour
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset, ImportedConfig, default_shard_size, digest_frames, open_dataset
from trajvit.settings import InputError
from trajvit.worlds.config import ClipShape
from trajvit.worlds.families import NAMES
from trajvit.worlds.renderer import light_centres
from trajvit.worlds.streams import SPLITS

REQUIRED = {"trajectory_3d": "(N,T,3)", "labels": "(N,)", "videos": "(N,T,C,H,W)"}
TEXTS = ("equations", "descriptions")
# How `videos` may be laid out, each with the order of its axes that gives (N, T, H, W, C).
LAYOUTS = {
    "(N,T,C,H,W)": (0, 1, 3, 4, 2),
    "(N,T,H,W,C)": (0, 1, 2, 3, 4),
    "(N,C,T,H,W)": (0, 2, 3, 4, 1),
    "(N,T,H,W)": (0, 1, 2, 3),
}
SHARES = ("all", *SPLITS)
# Of ten digests of frames, which fall into a share.
TENTHS = {"train": range(8), "val": [8], "test": [9]}
# How far brightness, as a share of white, may lie outside its range: less than half a level, so that rounding mends it.
SLACK = 1e-3
# Run by the user, who may trust the file; nothing here ever reads a pickle.
AS_PLAIN_ARRAYS = (
    "import sys, numpy as np; f = np.load(sys.argv[1], allow_pickle=True); np.savez(sys.argv[2], **{k: v if v.dtype != object "
    f"else v.astype(np.str_) if k in {TEXTS} else np.array(v.tolist()) for k, v in f.items()}})"
)


def import_npz(file: str | Path, out: Place, share: str = "all", on_progress: Listener = silent) -> Dataset:
    """Make the dataset `out` of an .npz file of the earlier attempt, or finish it, and open it.

    The file holds `videos`, laid out as one of `LAYOUTS` with 1 or 3 channels C, its brightness from 0 to 1 or, where
    any exceeds 1, from 0 to 255, of any number type; `labels` (N,), positions in `FAMILIES`; `trajectory_3d` (N, T, 3),
    m, which become the points; and perhaps `equations` and `descriptions` (N,), strings that `Dataset.texts` gives
    back. Nothing in the file says where in the image the ball is: pixels are the measured centre of light of each
    frame, and radius that of a disc of its brightest light with as much light as the frame has (0 for a dark frame).

    `share`: `all` keeps every sample, in the file's order. `train`, `val` and `test` keep about 80, 10 and 10 % of
    them, chosen by a digest of each sample's frames: the earlier data repeats 5 to 38 % of its samples, and all copies
    of one fall into the same share. A share's samples take turns of class, so that its first n are as balanced as
    they can be.

    The same file gives the same bytes, however often it was interrupted. The file's `videos` are held in memory once.
    Raises `InputError`, before anything is written, for a file that cannot be read so, a share without samples, or a
    folder that holds anything else; `OSError` where a disk or bucket fails.
    """
    if share not in SHARES:
        raise InputError(f"share {share!r} is unknown; there are {', '.join(SHARES)}")
    source = Path(file)
    old = _read(source)
    rows = np.arange(len(old.label)) if share == "all" else _rows_of(old, share)
    if not rows.size:
        raise InputError(f"none of the {len(old.label)} samples of {source} falls into the share {share}: import all")
    config = ImportedConfig(
        world=old.shape,
        samples=rows.size,
        shard_size=min(rows.size, default_shard_size(old.shape)),
        sha256=_sha256(source),
        share=share,
        texts={name: text.shape[1] for name, text in old.texts.items()},
    )
    folder = open_folder(out)
    fill(folder, config, partial(_measured, old, rows), Labour(workers=1), on_progress)
    return open_dataset(folder)


@dataclass(frozen=True)
class OldSamples:
    """The content of a file: videos as they are stored there, seen as (N, T, H, W, C), and what `white` is in them."""

    videos: Num[np.ndarray, "N T H W C"]
    white: int
    label: UInt8[np.ndarray, " N"]
    points: Float32[np.ndarray, "N T 3"]
    texts: dict[str, UInt8[np.ndarray, "N _"]]

    @property
    def shape(self) -> ClipShape:
        _, times, height, width, channels = self.videos.shape
        return ClipShape(frames=times, height=height, width=width, channels=channels)

    def frames(self, rows: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n T H W C"]:
        frames = np.empty((rows.size, *self.shape.shape), np.uint8)
        for clip, row in zip(frames, rows, strict=True):  # one by one: a shard of floats would not fit into the cache
            clip[:] = np.rint(self.videos[row].astype(np.float32) * np.float32(255 / self.white))
        return frames


def _rows_of(old: OldSamples, share: str) -> Int64[np.ndarray, " n"]:
    """The rows of a share, the classes taking turns: what came in blocks of a class must not be trained on in blocks."""
    batch, count = default_shard_size(old.shape), len(old.label)
    digests = [digest_frames(old.frames(np.arange(start, min(start + batch, count)))) for start in range(0, count, batch)]
    rows = np.flatnonzero(np.isin(np.concatenate(digests) % np.uint64(10), TENTHS[share]))
    label = old.label[rows]
    turn = np.empty(rows.size, np.int64)
    for family in range(len(NAMES)):
        turn[label == family] = np.arange((label == family).sum())
    return rows[np.lexsort((label, turn))]


def _measured(
    old: OldSamples, rows: Int64[np.ndarray, " N"], config: ImportedConfig, start: int, stop: int
) -> dict[str, np.ndarray]:
    """The arrays of samples start..stop-1, which are these `rows` of the file."""
    chosen = rows[start:stop]
    frames = old.frames(chosen)
    light = reduce(np.maximum, np.moveaxis(frames, -1, 0))
    area = light.sum(axis=(2, 3)) / np.maximum(light.max(axis=(2, 3)), 1)
    return {
        "frames": frames,
        "label": old.label[chosen],
        "points": old.points[chosen],
        "pixels": light_centres(frames).astype(np.float32),
        "radius": np.sqrt(area / np.pi).astype(np.float32),
    } | {name: text[chosen] for name, text in old.texts.items()}


def _read(file: Path) -> OldSamples:
    """Everything that is used of a file, checked; raises `InputError`."""
    with _open(file) as npz:
        lacking = [name for name in REQUIRED if name not in npz.files]
        if lacking:
            asked = ", ".join(f"{name} {shape}" for name, shape in REQUIRED.items())
            raise InputError(
                f"{file} has no {', '.join(lacking)}; it has {', '.join(npz.files) or 'nothing'}, and needs {asked}: "
                "save it with these names"
            )
        points = _points(file, _member(file, npz, "trajectory_3d"))
        label = _label(file, _member(file, npz, "labels"), len(points))
        texts = {name: _text(file, name, _member(file, npz, name), len(points)) for name in TEXTS if name in npz.files}
        videos = _videos(file, _member(file, npz, "videos"), *points.shape[:2])
    return OldSamples(videos, _white(file, videos), label, points, texts)


def _open(file: Path) -> np.lib.npyio.NpzFile:
    try:
        npz = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}): name an .npz file") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"{file} is not an .npz file, or is cut short: name one that numpy.savez wrote, or copy it again"
        ) from None
    if not isinstance(npz, np.lib.npyio.NpzFile):
        raise InputError(f"{file} holds a single array (.npy), not an .npz file: name one that numpy.savez wrote")
    return npz


def _member(file: Path, npz: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        values = npz[name]
    except MemoryError as error:
        raise InputError(f"{file}: {name} does not fit into this machine's memory ({error}): import it on a larger one") from None
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            plain = file.with_name(f"{file.stem}_plain.npz")
            raise InputError(
                f"{file}: {name} is pickled Python objects, which can run any code and are never read here: if you trust the "
                f'file, save it again as plain arrays with: python -c "{AS_PLAIN_ARRAYS}" '
                f"{shlex.quote(str(file))} {shlex.quote(str(plain))}"
            ) from None
        raise InputError(f"{file}: {name} is damaged ({error}): copy the file again") from None
    if not isinstance(values, np.ndarray):
        raise InputError(f"{file}: {name} is not an array: save it again with numpy.savez")
    return values


def _points(file: Path, values: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "N T 3"]:
    if values.ndim != 3 or values.shape[2] != 3 or not values.size or values.dtype.kind not in "iuf":
        raise InputError(f"{file}: trajectory_3d is {_kind(values)}; it must be numbers (N,T,3), in metres")
    with np.errstate(over="ignore"):
        points = values.astype(np.float32)
    if bad := np.flatnonzero(~np.isfinite(points).all(axis=(1, 2))).tolist():
        raise InputError(
            f"{file}: trajectory_3d of sample {bad[0]} is not finite in float32, so for {len(bad)} samples: drop them"
        )
    return points


def _label(file: Path, values: Shaped[np.ndarray, "..."], count: int) -> UInt8[np.ndarray, " N"]:
    if values.shape != (count,) or values.dtype.kind not in "iuf":
        raise InputError(f"{file}: labels is {_kind(values)}; for {count} trajectories it must be numbers ({count},)")
    if bad := np.flatnonzero(~np.isin(values, range(len(NAMES)))).tolist():
        known = ", ".join(f"{label} {name}" for label, name in enumerate(NAMES))
        raise InputError(
            f"{file}: the label of sample {bad[0]} is {values[bad[0]]}; there are {known}: change it, or drop the sample"
        )
    return values.astype(np.uint8)


def _text(file: Path, name: str, values: Shaped[np.ndarray, "..."], count: int) -> UInt8[np.ndarray, "N length"]:
    """Strings as UTF-8, filled up with zeros."""
    if values.shape != (count,) or values.dtype.kind not in "SU":
        raise InputError(f"{file}: {name} is {_kind(values)}; for {count} trajectories it must be strings ({count},)")
    try:
        encoded = np.strings.encode(np.strings.decode(values, "utf-8") if values.dtype.kind == "S" else values, "utf-8")
    except UnicodeError as error:
        raise InputError(f"{file}: {name} is not UTF-8 ({error}): save it again as np.str_") from None
    return np.frombuffer(encoded.tobytes(), np.uint8).reshape(count, encoded.itemsize)


def _videos(file: Path, values: Shaped[np.ndarray, "..."], count: int, times: int) -> Num[np.ndarray, "N T H W C"]:
    """`videos` seen as (N, T, H, W, C), in the only way that its sizes allow."""
    if values.shape[:1] != (count,) or values.ndim not in (4, 5) or values.dtype.kind not in "iuf":
        raise InputError(
            f"{file}: videos is {_kind(values)}; for {count} trajectories it must be numbers ({count},{times},C,H,W)"
        )
    readings = {
        layout: axes
        for layout, axes in LAYOUTS.items()
        if values.ndim == len(axes) and values.shape[axes[1]] == times and (values.ndim == 4 or values.shape[axes[4]] in (1, 3))
    }
    if len(readings) != 1:
        problem = f"can be read as {' and as '.join(readings)}" if readings else f"can be read as none of {', '.join(LAYOUTS)}"
        raise InputError(
            f"{file}: videos {values.shape} with {times} frames T, and 1 or 3 channels C, {problem}: save it as (N,T,H,W,C)"
        )
    seen = values.transpose(*readings.values())
    seen = seen[..., None] if seen.ndim == 4 else seen
    try:
        ClipShape(**dict(zip(("frames", "height", "width", "channels"), seen.shape[1:], strict=True)))
    except InputError as error:
        raise InputError(f"{file}: videos {values.shape}, read as {', '.join(readings)}: {error}") from None
    return seen


def _white(file: Path, videos: Num[np.ndarray, "N T H W C"]) -> int:
    """What white is in `videos`, 1 or 255; raises `InputError` for brightness that is neither."""
    lows, highs = videos.min(axis=(1, 2, 3, 4)), videos.max(axis=(1, 2, 3, 4))  # NaN where a sample holds one
    if bad := np.flatnonzero(~(np.isfinite(lows) & np.isfinite(highs))).tolist():
        raise InputError(f"{file}: videos has NaN or infinity in sample {bad[0]}, as in {len(bad)} samples: drop them")
    low, high = float(lows.min()), float(highs.max())
    white = 1 if high <= 1 + SLACK else 255
    # Between the two ranges is 0..1 that was overshot, which read as 0..255 would be almost black.
    if low < -SLACK * white or high > (1 + SLACK) * white or 1 + SLACK < high < 2:
        raise InputError(f"{file}: videos goes from {low:g} to {high:g}; it must lie in 0..1 or in 0..255: scale or clip it")
    return white


def _kind(values: Shaped[np.ndarray, "..."]) -> str:
    return f"{values.dtype} {values.shape}"


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
