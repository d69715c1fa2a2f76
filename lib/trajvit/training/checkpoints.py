"""Checkpoints on disk: a folder a step, written whole or not at all, read without trusting it."""

import hashlib
import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import torch

from trajvit.datasets.files import sync_folder, write_json
from trajvit.settings import InputError

KEEP = 2
FORMAT_VERSION = 3


def save_checkpoint(folder: Path, step: int, state: dict, identity: dict) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then drop all but the newest `KEEP`.

    It is written under a temporary name, fsynced and renamed; beside it goes its sha256 and `identity` (JSON), which says
    which training it belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary, final = folder / f"_tmp-{step:08d}", folder / f"step_{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with open(temporary / "state.pt", "w+b") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        record = {"format_version": FORMAT_VERSION, "sha256": sha256, "identity": identity}
        write_json(temporary / "checkpoint.json", record)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    for old in _checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)


def load_newest(folder: Path, identity: dict) -> dict | None:
    """The newest sound checkpoint's state, or None where there is no checkpoint; a damaged one is passed over with a warning.

    Raises `InputError` when it belongs to a training of another identity or is of another format, and when all are damaged.
    """
    for checkpoint in reversed(_checkpoints(folder)):
        try:
            record = json.loads((checkpoint / "checkpoint.json").read_text())
            version, sha256, saved = record["format_version"], record["sha256"], record["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            _pass_over(checkpoint, error)
            continue
        if version != FORMAT_VERSION:
            raise InputError(
                f"{checkpoint} has format version {version}; this trajvit reads {FORMAT_VERSION}: use another folder"
            )
        if saved != (asked := json.loads(json.dumps(identity))):
            raise InputError(
                f"{folder} belongs to another training ({_difference(saved, asked)}): name another folder or delete it"
            )
        try:
            with open(checkpoint / "state.pt", "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    file.seek(0)
                    return torch.load(file, weights_only=True, map_location="cpu")
            _pass_over(checkpoint, "its bytes are not those that were written")
        except (OSError, pickle.UnpicklingError, RuntimeError) as error:
            _pass_over(checkpoint, error)
    if found := _checkpoints(folder):
        raise InputError(f"no checkpoint in {folder} can be read, {len(found)} are damaged: delete that folder and run again")
    return None


def _pass_over(checkpoint: Path, why: object) -> None:
    reason = str(why).splitlines()[0]
    warnings.warn(f"checkpoint {checkpoint} is damaged ({reason}); going on from the one before it", stacklevel=3)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*"))


def _difference(saved: dict, asked: dict) -> str:
    old, new = _flat(saved), _flat(asked)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(f"{name} = {old.get(name)!r} there, {new.get(name)!r} asked for" for name in names[:3])


def _flat(nested: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
