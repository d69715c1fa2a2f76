"""What the machine could do at best: the speed of a large product of matrices, beside which a training's arithmetic is put."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from trajvit.magvit.precision import working_dtype


def matmul_peak(side: int = 2048, period_s: float = 1.0, device: str = "cpu") -> float:
    """GFLOP/s of a product of two square matrices, in the precision in which networks compute on the device."""
    dtype = working_dtype(torch.device(device))
    a, b = torch.randn(2, side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)

    def product() -> None:
        a @ b
        if device != "cpu":
            torch.get_device_module(device).synchronize()

    return 2 * side**3 / seconds_a_call(product, period_s) / 1e9


def flops(work: Callable[[], object]) -> int:
    """The floating-point operations of the products and convolutions of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def seconds_a_call(work: Callable[[], object], period_s: float) -> float:
    """The seconds of a call, over at least `period_s`, after one to warm up."""
    work()
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < period_s or not calls:
        work()
        calls += 1
    return elapsed / calls
