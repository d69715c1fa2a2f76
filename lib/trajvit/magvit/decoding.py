"""Non-autoregressive decoding: a masked grid becomes tokens in a few steps (arXiv:2212.05199, Algorithm 2)."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from trajvit.magvit.commit import FlatTokens, Schedule, masked_share, shown_tokens
from trajvit.magvit.quantizers import from_digits
from trajvit.magvit.transformer import TransformerConfig
from trajvit.settings import Settings


class DecodingConfig(Settings):
    """How a token grid is decoded.

    `sampler` chooses the positions that each step fills: those of which the model is surest (the paper's), random ones,
    ones spread evenly over the grid by a Halton sequence (arXiv:2503.17076), or one time slice after the other, in each those
    of which the model is surest. The defaults are those of MAGVIT's code, without guidance.
    """

    steps: int = Field(12, ge=1, description="forward passes K")
    schedule: Schedule = Field("cosine", description="how many positions each step leaves open")
    sampler: Literal["confidence", "random", "halton", "slices"] = "confidence"
    temperature: float = Field(1.0, ge=0, description="of the digits drawn; 0 takes the likeliest")
    choice_temperature: float = Field(
        4.5, ge=0, description="T of the Gumbel noise on the confidence, log p + T (1 - k/K) g; of confidence and slices alone"
    )
    guidance: float = Field(0.0, ge=0, description="w in (1 + w) conditional - w unconditional logits")
    self_ensemble: bool = Field(
        False,
        description="tasks that show whole frames alone: the mean of the likeliest completions of the clip and of four copies of it, "
        "moved by a pixel; by a model that learnt from mirror images over both, of each task that looks alike in a mirror",
    )

    @model_validator(mode="after")
    def _mean_of_the_likeliest(self):
        if self.self_ensemble and self.draws:
            raise ValueError(
                "self_ensemble is the mean over views, which would blur what is drawn at random: set it to false, or "
                "temperature and choice_temperature to 0"
            )
        return self

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random."""
        by_confidence = self.sampler in ("confidence", "slices")
        return bool(self.temperature) or self.sampler == "random" or (by_confidence and bool(self.choice_temperature))


# For one of many futures, a sample of the model's own distribution: few tokens at a time, from the given frames on, in nearly any
# order. The surest first would spread the samples too little, and any order a little too much in a world that is learnt less
# well (docs/tried.md).
DRAWING = DecodingConfig(steps=16, schedule="uniform", sampler="slices", choice_temperature=15.0)
# For what all but follows from the condition: the likeliest tokens, in one pass. More passes commit to the black background
# first, of which the model is surest (docs/tried.md).
GREEDY = DecodingConfig(steps=1, temperature=0.0, choice_temperature=0.0)
# For prediction and what is filled in: the same of several views, of which the tokenizer tells differently wrong where the ball was.
ENSEMBLE = DecodingConfig(**GREEDY.model_dump() | {"self_ensemble": True})


# More than the confidences of two tokens ever differ, and more than the Gumbel noise on them does, of which T is the scale.
CONFIDENCES_APART, NOISE_APART = 1e4, 20.0


@runtime_checkable
class Predictor(Protocol):
    """What decoding asks of a model: features of every position, and from them a token's digits one by one."""

    config: TransformerConfig

    def __call__(
        self, tokens: FlatTokens, task: Int[Tensor, " B"], label: Int[Tensor, " B"], shown: Float[Tensor, "B L n"]
    ) -> tuple: ...

    def digit_logits(self, features: Tensor, digits: list[Tensor]) -> Tensor: ...


@dataclass(frozen=True)
class Prompt:
    """What a batch of clips is decoded from; rows are independent of one another."""

    shown: Float[Tensor, "B L n"]  # the digits of what the task shows, rounded or not; NaN where it shows nothing
    task: Int[Tensor, " B"]
    label: Int[Tensor, " B"]


def noise_shape(config: DecodingConfig, length: int, levels: tuple[int, ...]) -> tuple[int, int, int]:
    """The random numbers of a clip: for each step and token one for the choice of positions, then one for each digit's value."""
    return config.steps, length, 1 + sum(levels)


def clip_noise(
    seed: int, clips: Iterable[int], config: DecodingConfig, length: int, levels: tuple[int, ...], again: int = 0
) -> Float[np.ndarray, "B steps L n"]:
    """Gumbel noise for each step and token: one number for the choice of positions, then one for each digit's value.

    Clip k's noise is a function of (seed, k) alone, whatever the batch it is decoded in; another one when it is drawn `again`.
    """
    shape = noise_shape(config, length, levels)
    generators = [
        np.random.Generator(np.random.Philox(key=np.array([seed, clip], np.uint64), counter=[0, 0, 0, again])) for clip in clips
    ]
    draws = [generator.random(shape, np.float32) for generator in generators]
    uniform = np.clip(np.stack(draws), 1e-7, 1 - 1e-7)
    return -np.log(-np.log(uniform))


def noise_of_clips(
    seed: int, clips: Int[Tensor, " B"], config: DecodingConfig, shape: TransformerConfig, device: torch.device, again: int = 0
) -> Float[Tensor, "B steps L n"] | None:
    """`clip_noise` for a transformer's grid, where decoding draws anything."""
    if not config.draws:
        return None
    return torch.from_numpy(clip_noise(seed, clips.tolist(), config, shape.length, shape.levels, again)).to(device)


def decode(
    transformer: Predictor,
    prompt: Prompt,
    config: DecodingConfig,
    noise: Float[Tensor, "B steps L n"] | None,
    wanted: Bool[Tensor, "B L"] | None = None,
) -> FlatTokens:
    """Fill the grid, or the `wanted` positions of it, in `config.steps` passes: tokens (B, L), which elsewhere are the condition's
    where that is interior, and masked where not.

    Padding positions start masked. Wanted positions with interior condition tokens hold those and are replaced by the
    model's own tokens gradually, along the same schedule, of which each of the two kinds has its own share (the paper ranks
    all positions together). `noise` may be None where nothing is drawn at random.
    """
    return last_pass(decoding_passes(transformer, prompt, config, noise, wanted))


def last_pass(passes: Iterator[FlatTokens]) -> FlatTokens:
    """What is there after the last pass."""
    return deque(passes, maxlen=1).pop()


@torch.no_grad()
def decoding_passes(
    transformer: Predictor,
    prompt: Prompt,
    config: DecodingConfig,
    noise: Float[Tensor, "B steps L n"] | None,
    wanted: Bool[Tensor, "B L"] | None = None,
) -> Iterator[FlatTokens]:
    """What `decode` has after each pass."""
    mask_token, length = transformer.config.mask_token, prompt.shown.shape[1]
    tokens = shown_tokens(prompt.shown, transformer.config.levels, mask_token)
    interior = tokens != mask_token
    wanted = torch.ones_like(interior) if wanted is None else wanted
    stand_in, open_ = tokens, wanted
    for step in range(config.steps):
        gumbel = None if noise is None else noise[:, step]
        features = _features(transformer, tokens, prompt, config.guidance)
        drawn, log_probability = _draw(transformer, features, config, gumbel)
        drawn = torch.where(open_, drawn, tokens)
        progress = (step + 1) / config.steps
        preference = _preference(config, transformer.config.grid, log_probability, noise, step, progress)
        preference = preference.masked_fill(~open_, torch.inf)
        share = masked_share(progress, length, config.schedule) if step + 1 < config.steps else torch.tensor(0.0)
        groups = (wanted & interior, wanted & ~interior)
        open_ = _least_preferred(preference, groups[0], share) | _least_preferred(preference, groups[1], share)
        tokens = torch.where(open_, stand_in, drawn)
        yield tokens


def _preference(
    config: DecodingConfig,
    grid: tuple[int, int, int],
    log_probability: Float[Tensor, "B L"],
    noise: Float[Tensor, "B steps L n"] | None,
    step: int,
    progress: float,
) -> Float[Tensor, "B L"]:
    """How much each position is to be filled before others."""
    if config.sampler == "halton":
        return -halton_rank(grid).to(log_probability).expand_as(log_probability)
    if config.sampler == "random":
        return noise[:, 0, :, 0]  # one order for all steps
    if config.choice_temperature:
        log_probability = log_probability + config.choice_temperature * (1 - progress) * noise[:, step, :, 0]
    if config.sampler == "slices":
        apart = CONFIDENCES_APART + NOISE_APART * config.choice_temperature
        return log_probability - apart * (torch.arange(prod(grid), device=log_probability.device) // (grid[1] * grid[2]))
    return log_probability


@lru_cache(maxsize=8)
def halton_rank(grid: tuple[int, int, int]) -> Int[Tensor, " L"]:
    """The place of each position of a grid, flattened, in the order of a 3-D Halton sequence with the bases 2, 3 and 5."""
    rank, found, i = torch.full((prod(grid),), -1), 0, 0
    while found < len(rank):
        t, h, w = (int(_radical_inverse(i, base) * size) for base, size in zip((2, 3, 5), grid, strict=True))
        position = (t * grid[1] + h) * grid[2] + w
        if rank[position] < 0:
            rank[position], found = found, found + 1
        i += 1
    return rank


def _radical_inverse(i: int, base: int) -> float:
    """The digits of i in a base, mirrored at the point: van der Corput's sequence."""
    value, place = 0.0, 1 / base
    while i:
        i, digit = divmod(i, base)
        value, place = value + digit * place, place / base
    return value


def _least_preferred(preference: Float[Tensor, "B L"], group: Bool[Tensor, "B L"], share: Tensor) -> Bool[Tensor, "B L"]:
    """The least preferred `share` of a group of positions in each row."""
    rank = preference.masked_fill(~group, torch.inf).argsort(1).argsort(1)
    return group & (rank < (group.sum(1, keepdim=True) * share.float()).floor())


def _features(transformer: Predictor, tokens: FlatTokens, prompt: Prompt, guidance: float) -> list[tuple[float, Tensor]]:
    """Features (B, L, D) with the weight of their logits: one entry, or two under class guidance."""
    conditional, _ = transformer(tokens, prompt.task, prompt.label, prompt.shown)
    if not guidance:
        return [(1.0, conditional)]
    no_class = torch.full_like(prompt.label, transformer.config.no_class)
    unconditional, _ = transformer(tokens, prompt.task, no_class, prompt.shown)
    return [(1 + guidance, conditional), (-guidance, unconditional)]


def _draw(transformer: Predictor, features, config: DecodingConfig, gumbel: Tensor | None):
    """Tokens (B, L) drawn digit by digit, and the log probability (B, L) the model gave each."""
    levels = transformer.config.levels
    digits, log_probability, offset = [], 0.0, 1
    for level in levels:
        logits = sum(weight * transformer.digit_logits(part, digits).float() for weight, part in features)
        scores = logits
        if config.temperature:
            scores = logits / config.temperature + gumbel[..., offset : offset + level]
        digit = scores.argmax(-1)
        log_probability = log_probability + logits.log_softmax(-1).gather(-1, digit[..., None])[..., 0]
        digits.append(digit)
        offset += level
    return from_digits(torch.stack(digits, dim=-1), levels), log_probability
