"""Muon for matrices and for convolution kernels (Jordan et al. 2024; scaled as in arXiv:2502.16982, section 2.2).

`torch.optim.Muon` takes matrices alone and one at a time. Here a kernel is the matrix of its output channels by all else,
equal shapes are orthogonalized together, and the iteration runs on the Gram matrix, whose side is the shorter one: a
64 x 1152 kernel costs a fifth of what it costs there.
"""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor

from trajvit.training.sharding import part_like, whole

# The quintic of Jordan's post, whose slope at zero is steepest: after five turns all singular values are 0.7 to 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
TURNS = 5
MOMENTUM = 0.95


def orthogonalized(matrices: Float[Tensor, "N rows columns"]) -> Float[Tensor, "N rows columns"]:
    """Each matrix with all its singular values brought near 1, by Newton and Schulz's iteration.

    X <- (A + B X X' + C (X X')^2) X, five times. All factors are polynomials of the first X X', so their product is made
    first and X, the long one, is multiplied once.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.transpose(1, 2)).transpose(1, 2)
    scaled = matrices.float() / matrices.float().flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    gram = scaled @ scaled.transpose(1, 2)  # (N, rows, rows)
    identity = torch.eye(gram.shape[1], device=gram.device)
    product = identity
    for _ in range(TURNS):
        factor = A * identity + B * gram + C * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    return product @ scaled


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized; each step as large as AdamW's would be (root mean square 0.2), so that one schedule serves both (`MUON_RATE`).

    Parameters have at least two axes, the first of them the outputs. `weight_decay` is decoupled.
    """

    def __init__(self, params, lr: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights along their gradients."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for weight in group["params"]:
                alike[weight.shape].append(weight)
            for weights in alike.values():
                rows, columns = weights[0].flatten(1).shape
                # Of weights spread over processes each makes the whole update, and keeps its part.
                momenta = [whole(self._momentum(weight)).flatten(1) for weight in weights]
                updates = orthogonalized(torch.stack(momenta))
                rate = 0.2 * max(rows, columns) ** 0.5 * group["lr"]
                for weight, update in zip(weights, updates, strict=True):
                    part = part_like(update.view(weight.shape), weight)
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(part, alpha=rate)

    def _momentum(self, weight: Tensor) -> Tensor:
        """Nesterov's look ahead along the moving average of the gradients."""
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
        state["average"].lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(state["average"], MOMENTUM)
