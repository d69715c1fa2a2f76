"""The processes of one training: what each takes of a batch, and what they agree on.

`torchrun` and `accelerate launch` start them and say in the environment how many there are. Started plainly there is one,
and nothing here does anything. All of them run the same code and meet in every function that says so; what one of them
skips, the others wait for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from trajvit.settings import InputError

LOST = "lost the others"  # what those say that another process has left


def join() -> None:
    """Meet the other processes of this training; again, or alone, nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # Gradients go from GPU to GPU; what is agreed on in numbers goes between CPUs and waits for no GPU.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Part, once all have come this far."""
    if dist.is_initialized():
        any_of(False)
        dist.destroy_process_group()


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Which this one is, from 0; the first writes, and speaks for all."""
    return dist.get_rank() if dist.is_initialized() else 0


def number_here() -> int:
    """Which of this machine's it is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if dist.is_initialized() else 0


def mine(whole: Tensor) -> Tensor:
    """This process's share of what all hold for a whole batch, (B, ...) -> (B / processes, ...).

    What is drawn at random is drawn for the whole batch, everywhere alike, so that shares are as they would be in one process;
    but dropout's masks are alike in all of them.
    """
    return whole if count() == 1 else whole.chunk(count())[number()]


def check_shares(batch_size: int, name: str, among: int | None = None) -> None:
    """Raise `InputError` unless a batch divides into equal shares `among` so many processes, by default those there are."""
    among = among or count()
    if batch_size % among:
        raise InputError(f"{name} = {batch_size} does not divide among {among} processes: use a multiple of {among}")


def average(tensors: list[Tensor]) -> None:
    """Put the mean over all processes into each of the tensors, which lie on one device; all meet here.

    Every process gets the same bits.
    """
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
    with _said_of_others():
        dist.all_reduce(flat)
    flat /= count()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def averaged(tensor: Tensor) -> Tensor:
    """The mean over all processes of a tensor without gradient; all meet here."""
    if count() == 1:
        return tensor
    mean = tensor.detach().float().clone()
    average([mean])
    return mean


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes of a tensor, put into it; all meet here."""
    if count() > 1:
        with _said_of_others():
            dist.all_reduce(tensor)
    return tensor


def any_of(here: bool) -> bool:
    """Whether it is so in any process; all meet here."""
    return bool(_most(int(here)))


def check_same(value: int, otherwise: str) -> None:
    """Raise `InputError` with the message `otherwise` where a number is not the same in all processes; all meet here."""
    if _most(value) != -_most(-value):
        raise InputError(otherwise)


def _most(value: int) -> int:
    if count() == 1:
        return value
    most = torch.tensor(value)
    with _said_of_others():
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


@contextmanager
def first_here() -> Iterator[None]:
    """A context that the first process of each machine goes through before the others, which find what it has made."""
    if number_here():
        any_of(False)
    yield
    if not number_here():
        any_of(False)


@contextmanager
def _said_of_others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's way to say that a peer is gone
        raise ConnectionError(
            f"process {number()} of {count()} {LOST} ({str(error).splitlines()[0][:120]}); what ended them is said above"
        ) from None
