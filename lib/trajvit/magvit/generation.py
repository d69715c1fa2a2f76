"""How `MAGVIT.generate` makes the tokens of a clip of a class: those of the first half of the frames are drawn, slice by slice,
the others follow from them, all are settled; and a clip of whose class the model itself is not sure is drawn again."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from trajvit.magvit.commit import FlatTokens, shown_digits
from trajvit.magvit.decoding import GREEDY, DecodingConfig, Prompt, decode, decoding_passes, last_pass, noise_of_clips
from trajvit.magvit.quantizers import to_digits
from trajvit.magvit.tasks import task_number
from trajvit.magvit.transformer import MaskedTransformer


class GenerationConfig(DecodingConfig):
    """How `MAGVIT.generate` draws the first half of a clip, from which the rest follows."""

    tries: int = Field(
        8, ge=1, description="how often a clip may be drawn until the model itself is `SURE` of the class that was asked for"
    )


# A token at a time (of larger grids than `compact` clips have, a few) and in each slice in any order, as the model is trained; and,
# instead of guidance, which narrows what is drawn, another draw where the class was missed (docs/tried.md).
SAMPLING = GenerationConfig(steps=32, schedule="uniform", sampler="slices", temperature=1.15, choice_temperature=1e3)
# How probable the model must hold the class of a clip that it has drawn, not to draw it again: as it does with all real clips of
# the textbook world, and with 997 of 1000 of the varied one.
SURE = 0.999


@dataclass(frozen=True)
class ClipDrawer:
    """Draws clips of a class by a transformer: `first` are the tokens of the first half of a clip's frames, `ends` those of the first
    and the last quarter."""

    transformer: MaskedTransformer
    first: Bool[Tensor, " L"]
    ends: Bool[Tensor, " L"]

    def draw(self, rows: Int[Tensor, " B"], label: Int[Tensor, " B"], seed: int, config: GenerationConfig) -> FlatTokens:
        """Tokens (B, L) of clips of the class asked for, as far as the model itself can tell: others are drawn again, and after so
        many `tries` the likeliest is kept (rejection by a classifier, Razavi et al., arXiv:1906.00446). Clip k of `rows` depends on
        (seed, k, its label) alone."""
        tokens = last_pass(self.passes(rows, label, seed, config))
        if config.tries == 1:
            return tokens
        sure = self.sure_of(tokens, label)
        for again in range(1, config.tries):
            (missed,) = (sure < SURE).nonzero(as_tuple=True)
            if not len(missed):
                break
            others = last_pass(self.passes(rows[missed], label[missed], seed, config, again))
            surer = self.sure_of(others, label[missed])
            better = surer > sure[missed]
            tokens[missed[better]], sure[missed[better]] = others[better], surer[better]
        return tokens

    def passes(
        self, rows: Int[Tensor, " B"], label: Int[Tensor, " B"], seed: int, config: GenerationConfig, again: int = 0
    ) -> Iterator[FlatTokens]:
        """Pass by pass: the tokens of the first half of the frames drawn, the likeliest of the rest, and all of them settled.

        Tokens that were drawn one by one say of the same ball what is likely, each a little different. To settle them, one
        block after the other is set to its likeliest given all the rest (iterated conditional modes, Besag 1986, JRSS B 48):
        of the first quarter of the frames every fourth token, then the middle half of the frames, then the second half again.
        """
        shape = self.transformer.config
        nothing = torch.full((len(rows), shape.length, len(shape.levels)), torch.nan, device=label.device)
        prompt = Prompt(nothing, torch.full_like(label, task_number("CG")), label)
        noise = noise_of_clips(seed, rows, config, shape, label.device, again)
        for tokens in decoding_passes(self.transformer, prompt, config, noise, self.first.expand(len(rows), -1)):
            yield tokens
        yield (tokens := self._likeliest(tokens, ~self.first, "CFP", label))
        for block in (*quarters(shape.grid, self.first & self.ends), ~self.ends):
            yield (tokens := self._likeliest(tokens, block, "CG", label))
        yield self._likeliest(tokens, ~self.first, "CFP", label)

    def sure_of(self, tokens: FlatTokens, label: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """How probable the model holds the class of clips."""
        asked = torch.full_like(label, self.transformer.config.asked_class)
        named = self.transformer.class_probabilities(self._digits(tokens), torch.full_like(label, task_number("CLS")), asked)
        return named.gather(1, label[:, None])[:, 0]

    def _likeliest(self, tokens: FlatTokens, block: Bool[Tensor, " L"], task: str, label: Int[Tensor, " B"]) -> FlatTokens:
        """Tokens whose `block` is the likeliest given the others."""
        block = block.expand_as(tokens)
        prompt = Prompt(shown_digits(self._digits(tokens), ~block), torch.full_like(label, task_number(task)), label)
        return decode(self.transformer, prompt, GREEDY, None, block)

    def _digits(self, tokens: FlatTokens) -> Float[Tensor, "B L n"]:
        return to_digits(tokens, self.transformer.config.levels).float()


def quarters(grid: tuple[int, int, int], of: Bool[Tensor, " L"]) -> list[Bool[Tensor, " L"]]:
    """Some positions of a grid, flattened, in four parts: no two of a part are neighbours in their slice."""
    _, row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    parity = (2 * (row % 2) + column % 2).to(of.device)
    return [of & (parity == part) for part in range(4)]
