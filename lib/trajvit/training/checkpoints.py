"""Checkpoints on disk: a folder a step, written whole or not at all, read without trusting it."""

import json
import os
import shutil
from pathlib import Path

import torch

from trajvit.datasets.files import sync_folder, write_json
from trajvit.settings import InputError

KEEP = 2
FORMAT_VERSION = 2


def save_checkpoint(folder: Path, step: int, state: dict, identity: dict) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then drop all but the newest `KEEP`.

    It is written under a temporary name, fsynced and renamed. `identity` (JSON) says which training it belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary, final = folder / f"_tmp-{step:08d}", folder / f"step_{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with open(temporary / "state.pt", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        write_json(temporary / "identity.json", {"format_version": FORMAT_VERSION} | identity)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    for old in _checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)


def load_newest(folder: Path, identity: dict) -> dict | None:
    """The newest checkpoint's state, or None where there is none.

    Raises `InputError` when it belongs to a training of another identity or cannot be read.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    try:
        saved = json.loads((found[-1] / "identity.json").read_text())
        state = torch.load(found[-1] / "state.pt", weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise InputError(f"checkpoint {found[-1]} cannot be read ({reason}): delete that folder and run again") from None
    if saved != (asked := json.loads(json.dumps({"format_version": FORMAT_VERSION} | identity))):
        raise InputError(f"{folder} belongs to another training ({_difference(saved, asked)}): name another folder or delete it")
    return state


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
