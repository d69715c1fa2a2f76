"""How fast this machine does the work, each figure beside what it is a share or a multiple of, measured in one run."""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from trajvit.datasets.files import write_atomic
from trajvit.datasets.generator import generate
from trajvit.datasets.labour import cores
from trajvit.datasets.store import Dataset, open_dataset
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, frame_times, path
from trajvit.worlds.film import film

FORMATS = ("compact", "classic", "16x128x128x3")
FILL_BYTES = 2**28  # fresh memory to fill, larger than any cache
PERIOD_S = 0.4  # how long each rate is measured
COLD_SAMPLES = 30_000
BATCH = 64  # clips that are drawn from a stream at once
FEWEST = 1024


def bench_generate(samples: int = 1_000_000, formats: tuple[str, ...] = FORMATS) -> dict[str, float]:
    """How fast clips are made, in `textbook` worlds.

    In memory, one process: `in_memory_per_s` against `loop_per_s`, a straightforward program that draws a frame at a
    time, and `fill_per_s`, the rate at which the same bytes of fresh memory are filled with a constant; the same pair
    for the other `formats`. To disk, compressed, checksummed and recorded: `workers_1_per_s` and `workers_2_per_s` at
    `samples` clips, with `bytes_per_sample`. `cold_30000_s` is the command for 30,000 clips, process start included,
    `warm_30000_s` the same in a running process and `write_30000_s` the writing of the same files, with fsync, alone.
    For training, `load_30000_s` loads 30,000 clips and `stream_per_s` streams `samples`, shuffled, as if they did not fit.
    `memory_30000_mb` is the largest process of the command for 30,000 clips, `peak_memory_mb` that of any number up to
    `samples`; both are at least what the calling process holds, which Linux counts as its children's.
    Raises `InputError` for too few samples to time.
    """
    if samples < FEWEST:
        raise InputError(f"samples = {samples} is too few to time: give at least {FEWEST}")
    result: dict[str, float] = {"cores": cores(), "samples": samples}
    with tempfile.TemporaryDirectory(prefix="trajvit-bench-") as folder:
        result |= _to_disk(Path(folder), samples)
    for format in formats:
        world = WorldConfig.named(format)
        prefix = "" if format == "compact" else f"{format}_"
        result |= {f"{prefix}in_memory_per_s": in_memory_rate(world), f"{prefix}fill_per_s": fill_rate(world)}
    result["loop_per_s"] = _rate(lambda i: loop(WorldConfig(), i), 1)
    result |= {
        "in_memory_over_loop": result["in_memory_per_s"] / result["loop_per_s"],
        "workers_2_over_1": result["workers_2_per_s"] / result["workers_1_per_s"],
        "warm_over_write": result["warm_30000_s"] / result["write_30000_s"],
    }
    for prefix in ("", *(f"{format}_" for format in formats[1:])):
        result[f"{prefix}in_memory_over_fill"] = result[f"{prefix}in_memory_per_s"] / result[f"{prefix}fill_per_s"]
    return {name: float(f"{value:.4g}") for name, value in result.items()}


def in_memory_rate(world: WorldConfig) -> float:
    """Clips filmed a second by one process that draws, as the generator does, into memory it keeps."""
    count = max(8, 2**24 // world.bytes)
    canvas = np.empty((count, *world.shape), np.uint8)
    return _rate(lambda i: film(world, 0, "train", i * count, (i + 1) * count, canvas), count)


def fill_rate(world: WorldConfig) -> float:
    """Clips' worth of fresh memory filled with a constant a second."""
    return _rate(lambda i: np.full(FILL_BYTES, 7, np.uint8), FILL_BYTES / world.bytes)


def loop(config: WorldConfig, i: int) -> UInt8[np.ndarray, "T H W 1"]:
    """A clip of the same world as one would write it first: with numpy, a frame at a time."""
    rng = np.random.default_rng(i)
    label = i % len(FAMILIES)
    priors = FAMILIES[label].priors(config.variety)
    across, down = np.arange(config.width), np.arange(config.height)[:, None]
    while True:
        points = path(
            label, {name: rng.uniform(prior.low, prior.high) for name, prior in priors.items()}, frame_times(config.frames)
        )
        x, y, z = (points + rng.normal(0, config.noise_m, points.shape)).T
        roll = np.deg2rad(rng.uniform(-config.roll_degrees, config.roll_degrees))
        u = config.camera.focal_px * (np.cos(roll) * x - np.sin(roll) * y) / z + (config.width - 1) / 2
        v = config.camera.focal_px * (np.sin(roll) * x + np.cos(roll) * y) / z + (config.height - 1) / 2
        radius = config.camera.radius(config.ball_radius_m, z)
        if min(u - radius) >= 0 and max(u + radius) < config.width and min(v - radius) >= 0 and max(v + radius) < config.height:
            break
    frames = []
    for k in range(config.frames):
        distance = np.sqrt((across - u[k]) ** 2 + (down - v[k]) ** 2)
        frames.append((255 * np.clip(radius[k] + 0.5 - distance, 0, 1)).astype(np.uint8))
    return np.stack(frames)[..., None]


def _to_disk(folder: Path, samples: int) -> dict[str, float]:
    result = {"cold_30000_s": _seconds(lambda: _command(folder / "cold", COLD_SAMPLES)), "memory_30000_mb": _largest_child_mb()}
    if samples > COLD_SAMPLES:
        _command(folder / "large", samples)
        shutil.rmtree(folder / "large")
    result["peak_memory_mb"] = _largest_child_mb()
    for workers in (1, 2):
        generate(out=folder / f"warm-{workers}", samples=FEWEST, shard_size=FEWEST // 4, workers=workers)
        seconds = _seconds(lambda workers=workers: generate(out=folder / str(workers), samples=samples, workers=workers))
        result[f"workers_{workers}_per_s"] = samples / seconds
        written = sum(path.stat().st_size for path in (folder / str(workers)).rglob("*") if path.is_file())
        result["bytes_per_sample"] = written / samples
    result["warm_30000_s"] = _seconds(lambda: generate(out=folder / "again", samples=COLD_SAMPLES, workers=1))
    contents = [path.read_bytes() for path in (folder / "again").rglob("*") if path.is_file()]
    result["write_30000_s"] = _seconds(
        lambda: [write_atomic(folder / "written" / str(n), content) for n, content in enumerate(contents)]
    )
    return result | _loading(open_dataset(folder / "again"), open_dataset(folder / "2"))


def _loading(small: Dataset, large: Dataset) -> dict[str, float]:
    from trajvit.datasets.loading import MIXED, batch_rows, load_clips  # not above: it brings torch, and memory was measured

    stream = load_clips(large, memory_bytes=0)
    ahead = MIXED * stream.block // BATCH

    def draw(step: int) -> None:
        stream.expect(batch_rows(len(stream), BATCH, 0, step + ahead, stream.block))
        stream.videos(batch_rows(len(stream), BATCH, 0, step, stream.block))

    return {"load_30000_s": _seconds(lambda: load_clips(small)), "stream_per_s": _rate(draw, BATCH)}


def _command(out: Path, samples: int) -> None:
    command = [sys.executable, "-m", "trajvit", "generate", "--samples", str(samples), "--out", str(out)]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        raise OSError(ended.stderr.strip().removeprefix("trajvit: ") or f"generate ended with {ended.returncode}")


def _largest_child_mb() -> float:
    """The most memory that any process which this one has started and seen the end of ever held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**10 if sys.platform == "linux" else 2**20)


def _rate(work: Callable[[int], object], amount: float) -> float:
    """What `work` does a second, `amount` a call, after one call to warm up."""
    work(0)
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < PERIOD_S or calls < 3:
        work(calls)
        calls += 1
    return amount * calls / elapsed


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
