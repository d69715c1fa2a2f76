"""The best that any model could do: the world is known, so the posterior of a clip given its first frames is known too.

The oracle knows the families, the camera and the priors of all parameters as the generator draws them, with what it draws
again because the ball would leave the frame, and the noise on the path. It sees the given frames, from which it reads the
ball's centre and radius as sharply as 8 bits of brightness allow. No model that sees the same frames can name the family
more often, or come closer to the ball on average.

Two implementations share nothing but the likelihood of a sighting: `by_likelihood`, importance sampling around the fit of
every family, and `by_simulation`, paths drawn from the prior, moved to the sightings and weighed. Published is the former:
it reaches hundreds of effective samples for every clip in a few milliseconds, while the latter has a handful for some
clips even of millions of paths, and an average of few samples is off by more. They agree within their intervals, as the
tests hold them to.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Integer

from trajvit.datasets.files import write_atomic
from trajvit.datasets.progress import Listener
from trajvit.evaluation.measure import Metric, named_right
from trajvit.evaluation.posterior import Infer, Posterior, set_scene, summarize
from trajvit.evaluation.posterior_likelihood import by_likelihood
from trajvit.evaluation.posterior_simulation import by_simulation
from trajvit.evaluation.sightings import SightingError, measure_sighting_error, sight
from trajvit.magvit.tasks import given_frames
from trajvit.settings import InputError
from trajvit.worlds.compiling import STAMP
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips
from trajvit.worlds.linear_posterior import FORMS
from trajvit.worlds.streams import MAX_SEED

# Goes up by one when a change of the evaluation's own changes a figure: cached ones are then made again, as they are after any change
# of the worlds.
VERSION = 1
DRAWS = 64
# A family that is new has no linear form yet, and simulation needs none.
INFER = by_likelihood if NAMES == FORMS else by_simulation


@dataclass(frozen=True)
class Oracle:
    """What can be known of N clips of T frames from their first `given`.

    class_probabilities (N, K) in the order of `FAMILIES`. Of the ball's centre (u, v) in px in each later frame:
    mean (N, T - given, 2), the prediction with the smallest mean squared distance; median (N, T - given, 2), that with the
    smallest mean distance, which is what `centre_error_px` is; draws (N, S, T - given, 2), equally likely futures in no
    order. effective (N,): the number of independent samples behind each clip. error: how sharply the frames were read.
    """

    given: int
    class_probabilities: Float64[np.ndarray, "N K"]
    mean: Float64[np.ndarray, "N A 2"]
    median: Float64[np.ndarray, "N A 2"]
    draws: Float32[np.ndarray, "N S A 2"]
    effective: Float64[np.ndarray, " N"]
    error: SightingError


def oracle(
    clips: Clips, world: WorldConfig, given: int, seed: int = 0, cache: Path | None = None, infer: Infer = INFER
) -> Oracle:
    """What can be known of `clips`, filmed in `world`, from their first `given` frames, 1 to T.

    Only those frames are looked at. The result is a function of them, the world, `given` and `seed` alone; given a folder
    `cache`, it is kept there and found again. `infer` is `by_likelihood` or `by_simulation`. Raises `InputError` for clips
    of another shape than the world's, a number of frames they do not have, or a frame without a ball.
    """
    frames = clips.frames
    if len(frames) == 0 or frames.shape[1:] != world.shape:
        raise InputError(
            f"clips.frames is {' x '.join(map(str, frames.shape))}; it must be N x {' x '.join(map(str, world.shape))} with "
            "N >= 1, as the world says: give the config with which the clips were filmed"
        )
    if not 1 <= given <= world.frames:
        raise InputError(f"given = {given} frames; clips of {world.frames} frames allow 1 to {world.frames}")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed} is out of range; it must lie in 0..{MAX_SEED}")
    seen = np.ascontiguousarray(frames[:, :given])
    path = cache and Path(cache) / f"oracle-{_digest(seen, world, seed, infer)}.npz"
    if path and (found := _read(path)):
        return found
    error = measure_sighting_error(world, seed)
    posterior = summarize(infer(set_scene(world, error, seed), sight(seen), seed), DRAWS, seed)
    result = Oracle(given, **vars(posterior), error=error)
    if path:
        _write(path, result)
    return result


def oracle_by_frames(clips: Clips, world: WorldConfig, cache: Path | None = None) -> dict[str, Callable[[Listener], Oracle]]:
    """The oracle of `clips` after each number of frames, from 2, or half of them, to T: calls for `at_once`."""
    return {
        f"oracle of {given} frames": lambda _, given=given: oracle(clips, world, given, cache=cache)
        for given in range(min(2, given_frames(world.frames)), world.frames + 1)
    }


def bayes_limit(known: Iterable[Oracle], label: Integer[np.ndarray, " N"]) -> dict[int, Metric]:
    """How often the likeliest family is the true one, by the number of frames given: the Bayes limit of classification."""
    chance = {"chance": 1 / len(NAMES)}
    return {
        one.given: Metric.mean(named_right(one.class_probabilities, label), "share", chance, more_is_better=True) for one in known
    }


def _digest(frames: np.ndarray, world: WorldConfig, seed: int, infer: Infer) -> str:
    """The name of a result: whatever it depends on, hashed."""
    settings = {
        "version": VERSION,
        "worlds": STAMP,
        "world": world.model_dump(mode="json"),
        "frames": hashlib.sha256(frames).hexdigest(),
        "given": frames.shape[1],
        "clips": len(frames),
        "seed": seed,
        "infer": infer.__name__,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _write(path: Path, result: Oracle) -> None:
    """Keep a result as .npz, atomically."""
    content = io.BytesIO()
    arrays = {name: getattr(result, name) for name in Posterior.__dataclass_fields__}
    np.savez(content, given=result.given, error=[result.error.centre_px, result.error.radius_px], **arrays)
    write_atomic(path, content.getvalue())


def _read(path: Path) -> Oracle | None:
    """A kept result; None where there is none, or what there is cannot be read: it is made again then."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in Posterior.__dataclass_fields__}
            return Oracle(int(kept["given"]), **arrays, error=SightingError(*map(float, kept["error"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
