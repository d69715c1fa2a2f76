"""Checkpoints on a disk or in a bucket: a file a step, there whole or not at all, read without trusting it."""

import hashlib
import io
import json
import pickle
import warnings

import torch

from trajvit.datasets.folders import Disk, Folder
from trajvit.settings import InputError

PLACE = "checkpoints"
KEEP = 2
FORMAT_VERSION = 4


def save_checkpoint(folder: Folder, step: int, state: dict, identity: dict) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then drop all but the newest `KEEP`.

    A checkpoint is one file, `checkpoints/step_XXXXXXXX.ckpt`: a line of JSON, then `torch.save`'s bytes. The line holds
    their sha256, the format version and `identity` (JSON), which says which training it belongs to. The folder is prepared
    for `checkpoints`.
    """
    content = io.BytesIO()
    torch.save(state, content)
    saved = content.getbuffer()
    record = {"format_version": FORMAT_VERSION, "sha256": hashlib.sha256(saved).hexdigest(), "identity": identity}
    folder.write(f"{PLACE}/step_{step:08d}.ckpt", json.dumps(record).encode() + b"\n" + saved)
    for old in _checkpoints(folder)[:-KEEP]:
        folder.delete(old)


def load_newest(folder: Folder, identity: dict) -> dict | None:
    """The newest sound checkpoint's state, or None where there is no checkpoint; a damaged one is passed over with a warning.

    Raises `InputError` when it belongs to a training of another identity or is of another format, and when all are
    damaged; `OSError` where a bucket cannot be reached.
    """
    found = _checkpoints(folder)
    for key in reversed(found):
        try:
            line, _, saved = (folder.read(key) or b"").partition(b"\n")
            record = json.loads(line)
            version, sha256, theirs = record["format_version"], record["sha256"], record["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, OSError) and not isinstance(folder, Disk):
                raise  # what a disk cannot read is lost, what a network cannot reach is not
            _pass_over(folder, key, error)
            continue
        if version != FORMAT_VERSION:
            raise InputError(
                f"{folder}/{key} has format version {version}; this trajvit reads {FORMAT_VERSION}: use another folder"
            )
        if theirs != (asked := json.loads(json.dumps(identity))):
            raise InputError(
                f"{folder} belongs to another training ({_difference(theirs, asked)}): name another folder or delete it"
            )
        if hashlib.sha256(saved).hexdigest() != sha256:
            _pass_over(folder, key, "its bytes are not those that were written")
            continue
        try:
            return torch.load(io.BytesIO(saved), weights_only=True, map_location="cpu")
        except (pickle.UnpicklingError, RuntimeError) as error:
            _pass_over(folder, key, error)
    if found:
        raise InputError(f"no checkpoint in {folder} can be read, {len(found)} are damaged: delete that folder and run again")
    return None


def _pass_over(folder: Folder, key: str, why: object) -> None:
    reason = str(why).splitlines()[0]
    warnings.warn(f"checkpoint {folder}/{key} is damaged ({reason}); going on from the one before it", stacklevel=3)


def _checkpoints(folder: Folder) -> list[str]:
    """Their keys, the newest last. Raises `InputError` for those of an older trajvit."""
    keys = sorted(key for key in folder.sizes(PLACE) if key.startswith(f"{PLACE}/step_"))
    if keys and "/" in keys[0].removeprefix(f"{PLACE}/"):
        raise InputError(f"{folder}/{PLACE} has checkpoints of an older trajvit than {FORMAT_VERSION}: use another folder")
    return keys


def _difference(saved: dict, asked: dict) -> str:
    old, new = _flat(saved), _flat(asked)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(f"{name} = {old.get(name)!r} there, {new.get(name)!r} asked for" for name in names[:3])


def _flat(nested: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
