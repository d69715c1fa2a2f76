"""The masked transformer: bidirectional, [task][class] before the tokens, one softmax a digit of a token.

After MAGVIT (arXiv:2212.05199, section 3.2 and appendix B) with MAGVIT-v2's "token factorization for efficient prediction"
(arXiv:2310.05737): FSQ's code of L1 x L2 x ... values is predicted as its digits; that each is conditioned on the
token's earlier ones, so that digits of one token agree, is ours.
"""

from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from trajvit.magvit.commit import shown_tokens
from trajvit.magvit.quantizers import to_digits
from trajvit.settings import InputError, Settings

SIZES = {
    "nano": {"layers": 4, "width": 128, "heads": 4},
    "small": {"layers": 12, "width": 384, "heads": 6},
    "base": {"layers": 12, "width": 768, "heads": 12},
    "large": {"layers": 24, "width": 1024, "heads": 16},
}


class TransformerConfig(Settings):
    """The shape of a transformer over a token grid."""

    grid: tuple[int, int, int] = Field(description="tokens along (time, height, width)")
    levels: tuple[int, ...] = Field(min_length=1, description="values of each digit of a token")
    classes: int = Field(ge=1)
    tasks: int = Field(ge=1)
    layers: int = Field(4, ge=1)
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def named(cls, size: str, **shape) -> "TransformerConfig":
        """A size by name: nano, small, base (the paper's B) or large (the paper's L)."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; there are {', '.join(SIZES)}")
        return cls(**SIZES[size], **shape)

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} does not divide into {self.heads} heads")
        return self

    @property
    def length(self) -> int:
        return prod(self.grid)

    @property
    def codes(self) -> int:
        return prod(self.levels)

    @property
    def mask_token(self) -> int:
        """The number that stands for [MASK]: one past the codebook."""
        return self.codes

    @property
    def no_class(self) -> int:
        """The class input where the label plays no part, or is dropped for guidance."""
        return self.classes

    @property
    def asked_class(self) -> int:
        """The class input where the label is to be predicted."""
        return self.classes + 1


def attention(
    q: Float[Tensor, "B h Q d"], k: Float[Tensor, "B h S d"], v: Float[Tensor, "B h S d"], causal: bool = False
) -> Float[Tensor, "B h Q d"]:
    """softmax(q k' / sqrt d) v; when causal, the queries are the last of the S positions and see none after their own.

    Written out on a CPU: there PyTorch 2.13's fused kernel takes 6 times as long in bfloat16, forward and backward,
    at 66 tokens (35 ms against 5 ms for 64 clips on 2 cores).
    """
    queries, positions = q.shape[-2], k.shape[-2]
    seen = torch.ones(queries, positions, dtype=torch.bool, device=q.device).tril(positions - queries) if causal else None
    if q.device.type == "cpu":
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        scores = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
        return scores.softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, seen)


class KeyValueCache:
    """The keys and values (B, h, S, d) of the positions that a causal block has seen."""

    def __init__(self):
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Remember more positions; all of them so far."""
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: TransformerConfig, causal: bool = False):
        super().__init__()
        self.heads, self.dropout, self.causal = config.heads, config.dropout, causal
        self.attention_norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Float[Tensor, "B S D"], cache: KeyValueCache | None = None) -> Float[Tensor, "B S D"]:
        q, k, v = rearrange(self.qkv(self.attention_norm(x)), "b s (n h d) -> n b h s d", n=3, h=self.heads)
        if cache is not None:
            k, v = cache.extend(k, v)
        heads = attention(q, k, v, self.causal)  # (B, h, S, d)
        attended = self.out(rearrange(heads, "b h s d -> b s (h d)"))
        x = x + F.dropout(attended, self.dropout, self.training)
        return x + self.mlp(self.mlp_norm(x))


class DigitHeads(nn.Module):
    """p(token) = p(d1) p(d2 | d1) p(d3 | d1, d2) ..., from a position's features."""

    def __init__(self, width: int, levels: tuple[int, ...]):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in levels)
        self.heads = nn.ModuleList(nn.Linear(width, level) for level in levels)
        self.earlier = nn.ModuleList(nn.Embedding(level, width) for level in levels[:-1])

    def logits(self, features: Float[Tensor, "*shape D"], digits: list[Int[Tensor, "*shape"]]) -> Float[Tensor, "*shape level"]:
        """Logits of the next digit after the earlier `digits`."""
        for embedding, digit in zip(self.earlier, digits, strict=False):
            features = features + embedding(digit)
        place = len(digits)
        return self.heads[place](F.silu(self.norms[place](features)))


class TokenEmbedding(nn.Module):
    """A vector for each token, the sum of its digits', and one for each place of the grid.

    A digit that is not rounded has a vector between those of the two values that it lies between.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.digits = nn.ModuleList(nn.Embedding(level, config.width) for level in config.levels)
        self.axes = nn.ParameterList(nn.Parameter(0.02 * torch.randn(n, config.width)) for n in config.grid)

    def forward(self, digits: Float[Tensor, "*shape n"]) -> Float[Tensor, "*shape D"]:
        """The vectors of tokens of some digits, rounded or not, without those of their places."""
        return sum(self._between(table, digit) for table, digit in zip(self.digits, digits.unbind(-1), strict=True))

    def positions(self) -> Float[Tensor, "L D"]:
        t, h, w = self.axes
        return (t[:, None, None] + h[:, None] + w).flatten(0, 2)

    def _between(self, table: nn.Embedding, digit: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        below = digit.long().clamp(max=table.num_embeddings - 2)
        share = (digit - below)[..., None]
        return (1 - share) * table(below) + share * table(below + 1)


class Neighbours(nn.Module):
    """Two convolutions over the tokens of each time slice, added to them before the first block.

    Where the ball lies is said by all the tokens that it lies across. Attention has to find those neighbours at each place
    anew; a kernel learns it at all places at once (Xiao et al., arXiv:2106.14881; docs/tried.md). What they add
    is normalized (arXiv:2111.09883, section 3.2): else it grows to a hundred times what the blocks can add to it.
    """

    def __init__(self, width: int, grid: tuple[int, int, int]):
        super().__init__()
        self.grid = grid
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.convolutions = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        t, h, w = self.grid
        slices = rearrange(self.norm(x), "b (t h w) d -> (b t) d h w", t=t, h=h, w=w)
        return x + self.norm_after(rearrange(self.convolutions(slices), "(b t) d h w -> b (t h w) d", t=t))


class MaskedTransformer(nn.Module):
    """Features of every position from a partly masked token grid, and heads that read tokens and the class off them."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.tokens = TokenEmbedding(config)
        self.mask_embedding = nn.Parameter(0.02 * torch.randn(width))
        self.task_embedding = nn.Embedding(config.tasks, width)
        self.class_embedding = nn.Embedding(config.classes + 2, width)
        self.neighbours = Neighbours(width, config.grid)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.digit_heads = DigitHeads(width, config.levels)
        self.class_head = nn.Linear(width, config.classes)
        self.apply(initialize)

    def forward(
        self,
        tokens: Int[Tensor, "B L"],
        task: Int[Tensor, " B"],
        label: Int[Tensor, " B"],
        shown: Float[Tensor, "B L n"],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B K"]]:
        """Features of each token and logits of the class; `tokens` may hold `mask_token`, `label` the two non-classes.

        `shown` are the digits of what the task shows before they are rounded, NaN where it shows nothing. Where the token that
        they are rounded to stands, they are read in its place.
        """
        masked = tokens == self.config.mask_token
        digits = to_digits(tokens.masked_fill(masked, 0), self.config.levels).float()
        digits = torch.where((shown.round() == digits).all(-1, keepdim=True), shown, digits)
        body = torch.where(masked[..., None], self.mask_embedding, self.tokens(digits)) + self.tokens.positions()
        body = self.neighbours(body)
        x = torch.cat([self.task_embedding(task)[:, None], self.class_embedding(label)[:, None], body], dim=1)  # (B, 2+L, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 2:], self.class_head(x[:, 1])

    def digit_logits(
        self, features: Float[Tensor, "*shape D"], digits: list[Int[Tensor, "*shape"]]
    ) -> Float[Tensor, "*shape level"]:
        """Logits of a token's next digit, from its position's features and its earlier digits."""
        return self.digit_heads.logits(features, digits)

    @torch.no_grad()
    def class_probabilities(
        self, shown: Float[Tensor, "B L n"], task: Int[Tensor, " B"], label: Int[Tensor, " B"]
    ) -> Float[Tensor, "B K"]:
        """How probable each class is of what is `shown`, where `label`, one of the non-classes, stands in its place."""
        _, logits = self(shown_tokens(shown, self.config.levels, self.config.mask_token), task, label, shown)
        return logits.float().softmax(-1)


def initialize(module: nn.Module) -> None:
    """BERT's start: truncated normal weights, no biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
