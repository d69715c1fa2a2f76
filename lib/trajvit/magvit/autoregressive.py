"""The comparison that MAGVIT is measured against: the same tokens, one after the other (as in arXiv:2104.10157).

[class], then the token grid in raster order; each token from the class and the tokens before it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajvit.magvit.commit import FlatTokens
from trajvit.magvit.quantizers import from_digits, to_digits
from trajvit.magvit.transformer import (
    Block,
    DigitHeads,
    KeyValueCache,
    TokenEmbedding,
    TransformerConfig,
    initialize,
)


class AutoregressiveTransformer(nn.Module):
    """A causal transformer of the same parts, width and depth as `MaskedTransformer`, but for the convolutions over a slice, which
    would see tokens that come later."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config)
        self.class_embedding = nn.Embedding(config.classes + 1, config.width)
        self.blocks = nn.ModuleList(Block(config, causal=True) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.digit_heads = DigitHeads(config.width, config.levels)
        self.apply(initialize)

    def forward(
        self, tokens: Int[Tensor, "B S"], label: Int[Tensor, " B"], caches: list[KeyValueCache] | None = None
    ) -> Float[Tensor, "B P D"]:
        """Features from which the tokens 0..S can be told, each from those before it: P = S + 1, at most the grid's.

        With `caches`, of which each block has one, only those of positions that they have not seen: `tokens` are
        still all that are known.
        """
        digits = to_digits(tokens, self.config.levels).float()
        embedded = torch.cat([self.class_embedding(label)[:, None], self.tokens(digits)], dim=1)  # (B, 1+S, D)
        # A position is told which token it is to foretell.
        x = embedded + self.tokens.positions()[: embedded.shape[1]]
        if caches is not None:
            seen = 0 if caches[0].keys is None else caches[0].keys.shape[2]
            x = x[:, seen:]
        for number, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[number])
        return self.norm(x)

    @torch.no_grad()
    def generate(self, label: Int[Tensor, " B"], temperature: float = 1.0, seed: int = 0, cached: bool = True) -> FlatTokens:
        """Tokens (B, L) of the given classes, drawn one by one; without the cache every step computes all anew."""
        generator = torch.Generator(label.device).manual_seed(seed)
        tokens = label.new_zeros(len(label), 0)
        caches = [KeyValueCache() for _ in self.blocks] if cached else None
        for _ in range(self.config.length):
            last = self(tokens, label, caches)[:, -1]
            digits: list[Tensor] = []
            for _ in self.config.levels:
                logits = self.digit_heads.logits(last, digits).float()
                if temperature:
                    digits.append(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0])
                else:
                    digits.append(logits.argmax(-1))
            tokens = torch.cat([tokens, from_digits(torch.stack(digits, dim=-1), self.config.levels)[:, None]], dim=1)
        return tokens
