"""By which optimizers a model learns, and how fast: Muon for hidden matrices and kernels, AdamW for the rest; a warm-up, then a cosine;
gradients clipped, and a moving average of the weights."""

import math

import torch
from torch import nn

from trajvit.training.muon import Muon

WARMUP_SHARE = 0.05  # of the steps, in which the learning rate climbs
WEIGHT_DECAY, BETAS = 0.01, (0.9, 0.98)
MUON_RATE = 2.5  # Muon's learning rate, as a multiple of AdamW's
CLIP_NORM = 1.0
EMA_DECAY = 0.995  # in the end: ema-pytorch begins at 0 and comes to it in some 2800 steps
# All of it is part of what identifies a training.
OPTIMIZATION = {
    "warmup_share": WARMUP_SHARE,
    "weight_decay": WEIGHT_DECAY,
    "betas": BETAS,
    "muon_rate": MUON_RATE,
    "clip_norm": CLIP_NORM,
    "ema_decay": EMA_DECAY,
}


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up to the `peak`, then a cosine to zero after `steps`: a function of the step alone."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2


def make_optimizers(
    weights: list[nn.Parameter], matrices: list[nn.Parameter], peak: float, device: torch.device, shard: bool
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the `matrices` among the weights where there are any.

    Each group's `rate` is its learning rate as a multiple of the schedule's, of which the `peak` stands here until the first step.
    """
    at_once = {"foreach": False} if shard else {"fused": device.type == "cuda"}  # not spread weights and others at once
    muon = {id(weight) for weight in matrices}
    others = [weight for weight in weights if id(weight) not in muon]
    optimizers = [torch.optim.AdamW([{"params": others, "rate": 1.0}], peak, betas=BETAS, weight_decay=WEIGHT_DECAY, **at_once)]
    if matrices:
        optimizers.append(Muon([{"params": matrices, "rate": MUON_RATE}], peak, WEIGHT_DECAY))
    return optimizers
