"""Non-autoregressive decoding: a masked grid becomes tokens in a few steps (arXiv:2212.05199, Algorithm 2)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from trajvit.magvit.commit import Sequence, cosine_schedule
from trajvit.magvit.transformer import MaskedTransformer, from_digits
from trajvit.settings import Settings


class DecodingConfig(Settings):
    """How a token grid is decoded."""

    steps: int = Field(12, ge=1, description="forward passes K")
    temperature: float = Field(0.8, ge=0, description="of the digits drawn; 0 takes the likeliest")
    choice_temperature: float = Field(4.5, ge=0, description="T of the Gumbel noise on the confidence, log p + T (1 - k/K) g")
    guidance: float = Field(1.0, ge=0, description="w in (1 + w) conditional - w unconditional logits")


# For generation.
SAMPLING = DecodingConfig()

# For prediction, where the future all but follows from the condition: the likeliest tokens, in one pass. More passes
# commit to the black background first, of which the model is surest (README, "What was tried").
GREEDY = DecodingConfig(steps=1, temperature=0.0, choice_temperature=0.0, guidance=0.0)


@dataclass(frozen=True)
class Prompt:
    """What a batch of clips is decoded from; rows are independent of one another."""

    condition: Sequence  # (B, L) tokens of the condition video
    interior: Bool[Tensor, "B L"]  # where the condition shows at least one given pixel
    task: Int[Tensor, " B"]
    label: Int[Tensor, " B"]


def clip_noise(
    seed: int, clips: range, config: DecodingConfig, length: int, levels: tuple[int, ...]
) -> Float[np.ndarray, "B steps L n"]:
    """Gumbel noise for each step and token: one number for the choice of positions, then one for each digit's value.

    Clip k's noise is a function of (seed, k) alone, whatever the batch it is decoded in.
    """
    shape = (config.steps, length, 1 + sum(levels))
    draws = [np.random.Generator(np.random.Philox(key=[seed, clip])).random(shape, np.float32) for clip in clips]
    uniform = np.clip(np.stack(draws), 1e-7, 1 - 1e-7)
    return -np.log(-np.log(uniform))


@torch.no_grad()
def decode(
    transformer: MaskedTransformer, prompt: Prompt, config: DecodingConfig, noise: Float[Tensor, "B steps L n"] | None
) -> Sequence:
    """Fill the grid in `config.steps` passes, the most confident tokens first; tokens (B, L).

    Padding positions start masked. Positions with interior condition tokens hold those and are replaced by the
    model's own tokens gradually, along the same schedule. `noise` may be None when both temperatures are 0.
    """
    mask_token = transformer.config.mask_token
    tokens = torch.where(prompt.interior, prompt.condition, mask_token)
    stand_in, open_ = tokens, torch.ones_like(prompt.interior)
    for step in range(config.steps):
        gumbel = None if noise is None else noise[:, step]
        features = _features(transformer, tokens, prompt, config.guidance)
        drawn, confidence = _draw(transformer, features, config, gumbel)
        if config.choice_temperature:
            confidence = confidence + config.choice_temperature * (1 - (step + 1) / config.steps) * gumbel[..., 0]
        drawn = torch.where(open_, drawn, tokens)
        confidence = confidence.masked_fill(~open_, torch.inf)
        share = cosine_schedule((step + 1) / config.steps) if step + 1 < config.steps else torch.tensor(0.0)
        open_ = _least_confident(confidence, prompt.interior, share) | _least_confident(confidence, ~prompt.interior, share)
        tokens = torch.where(open_, stand_in, drawn)
    return tokens


def _least_confident(confidence: Float[Tensor, "B L"], group: Bool[Tensor, "B L"], share: Tensor) -> Bool[Tensor, "B L"]:
    """The least confident `share` of a group of positions in each row."""
    rank = confidence.masked_fill(~group, torch.inf).argsort(1).argsort(1)
    return group & (rank < (group.sum(1, keepdim=True) * share).floor())


def _features(transformer: MaskedTransformer, tokens: Sequence, prompt: Prompt, guidance: float) -> list[tuple[float, Tensor]]:
    """Features (B, L, D) with the weight of their logits: one entry, or two under class guidance."""
    conditional, _ = transformer(tokens, prompt.task, prompt.label)
    if not guidance:
        return [(1.0, conditional)]
    unconditional, _ = transformer(tokens, prompt.task, torch.full_like(prompt.label, transformer.config.no_class))
    return [(1 + guidance, conditional), (-guidance, unconditional)]


def _draw(transformer: MaskedTransformer, features, config: DecodingConfig, gumbel: Tensor | None):
    """Tokens (B, L) drawn digit by digit, and the log probability (B, L) the model gave each."""
    levels = transformer.config.levels
    digits, log_probability, offset = [], 0.0, 1
    for level in levels:
        logits = sum(weight * transformer.digit_heads.logits(part, digits) for weight, part in features).float()
        scores = logits
        if config.temperature:
            scores = logits / config.temperature + gumbel[..., offset : offset + level]
        digit = scores.argmax(-1)
        log_probability = log_probability + logits.log_softmax(-1).gather(-1, digit[..., None])[..., 0]
        digits.append(digit)
        offset += level
    return from_digits(torch.stack(digits, dim=-1), levels), log_probability
