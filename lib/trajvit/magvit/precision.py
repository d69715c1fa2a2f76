"""The precision in which a network computes, trained or at work."""

from contextlib import AbstractContextManager, nullcontext

import torch


def precision_on(device: torch.device) -> AbstractContextManager:
    """Computes in the device's `working_dtype`."""
    reduced = working_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16) if reduced else nullcontext()


def float32_on(device: torch.device) -> AbstractContextManager:
    """Computes in float32, whatever the precision around it, what is given so."""
    return torch.autocast(device.type, enabled=False)


def working_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32.

    A CPU that does not would do it in float32 and round, and be the slower for it.
    """
    has_bfloat16 = {
        "cpu": lambda: any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16")),
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        "mps": lambda: torch.backends.mps.is_macos_or_newer(14, 0),
    }[device.type]()
    return torch.bfloat16 if has_bfloat16 else torch.float32
