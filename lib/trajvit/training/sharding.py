"""Weights spread over the processes of a training (FSDP, arXiv:2304.11277): each holds a part of every weight, of its gradient,
of its optimizer's moments and of its moving average; a block's weights are whole while it is computed.

What a checkpoint or a caller gets is whole, so a training may go on spread or not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from trajvit.magvit.tokenizer import ResidualBlock
from trajvit.magvit.transformer import Block
from trajvit.training import processes

UNITS = (Block, ResidualBlock)  # gathered as one


def spread(model: nn.Module, device: torch.device) -> None:
    """Leave each process its part of the weights of `model`; all meet here."""
    mesh = init_device_mesh(device.type, (processes.count(),))
    for unit in [module for module in model.modules() if isinstance(module, UNITS)]:
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_spread(value) -> bool:
    """Whether this process holds a part of a tensor alone."""
    return isinstance(value, DTensor)


def whole(state):
    """Tensors, in any nest of lists and dicts, without the spread ones' being spread; all meet here."""
    return tree_map(lambda value: value.full_tensor() if is_spread(value) else value, state)


def part_like(value, weight: Tensor | None):
    """This process's part of a whole tensor of a spread weight's shape; anything else as it is."""
    if not is_spread(weight) or not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a whole state into a module whose weights may be spread."""
    own = module.state_dict()
    module.load_state_dict({name: part_like(value, own.get(name)) for name, value in state.items()})


def clip_gradients(weights: Sequence[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients of weights, spread or not, to a norm of `most` in all at the most; their norm before."""
    with_gradient = [weight for weight in weights if weight.grad is not None]
    kinds = [[weight for weight in with_gradient if is_spread(weight) == spread] for spread in (True, False)]
    if not kinds[0]:
        return nn.utils.clip_grad_norm_(weights, most)
    kinds = [kind for kind in kinds if kind]  # the norm of nothing would lie on the CPU
    norms = [nn.utils.get_total_norm([weight.grad for weight in kind]) for kind in kinds]
    norm = torch.stack(whole(norms)).norm()
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, most, norm)
    return norm
