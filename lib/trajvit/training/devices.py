"""Where a training runs."""

from typing import Literal

import torch

from trajvit.settings import InputError
from trajvit.training import processes

Choice = Literal["auto", "cpu", "cuda", "mps"]


def check_device(choice: Choice) -> list[str]:
    """The kinds of GPU that this machine has, of which none is touched. Raises `InputError` for a choice that is not there."""
    there = [name for name, has in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if has]
    if choice not in ("auto", "cpu", *there):
        raise InputError(
            f"device = {choice!r} is not there; this machine has {', '.join([*there, 'cpu'])}: use one of them, or auto"
        )
    return there


def pick_device(choice: Choice) -> torch.device:
    """The device of this process: the one that was chosen, or by default a GPU where there is one.

    Raises `InputError` for one that is not there, and for more processes on a machine than it has GPUs.
    """
    there = check_device(choice)
    # Processes can share a Mac's CPU, but not its GPU.
    usable = [name for name in there if name == "cuda" or processes.count() == 1]
    name = choice if choice != "auto" else [*usable, "cpu"][0]
    if name == "mps" and name not in usable:
        raise InputError(f"device = 'mps' serves one process, and {processes.count()} were started: start one, or use cpu")
    if name != "cuda":
        return torch.device(name)
    if processes.number_here() >= torch.cuda.device_count():
        raise InputError(
            f"more processes were started on this machine than it has GPUs, {torch.cuda.device_count()}: start as many as GPUs"
        )
    torch.cuda.set_device(processes.number_here())
    torch.set_float32_matmul_precision("high")  # TF32, where it computes in float32 at all
    return torch.device("cuda", processes.number_here())


def sent(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on the device; to a GPU by way of pinned memory, so that nobody waits for it."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows.to(device)
