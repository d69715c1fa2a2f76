"""What the two stages of MAGVIT learn from: each a model with its loss, as the training loop takes them."""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.classifier import VideoClassifier, perceptual_loss
from trajvit.magvit.commit import commit_mask, interior, masked_positions, own_tokens, shown_digits, shown_tokens
from trajvit.magvit.discriminator import Discriminator, discriminator_loss, generator_loss
from trajvit.magvit.precision import float32_on
from trajvit.magvit.quantizers import rounded, to_digits
from trajvit.magvit.tasks import TASKS, condition, task_number
from trajvit.magvit.tokenizer import PaddedConv3d, Tokenizer, Video, reconstruction_loss
from trajvit.magvit.transformer import MaskedTransformer
from trajvit.metrics.centres import HAZE
from trajvit.training import processes
from trajvit.training.devices import sent
from trajvit.training.processes import average, averaged, mine

LABEL_SMOOTHING = 1e-4
LABEL_DROPOUT = 0.1
# Share of the samples with a condition that are masked wholly: the condition alone has to tell the rest. Without
# them the model learns to fill gaps from their neighbours first and to predict late (docs/tried.md).
WHOLLY_MASKED = 0.7
# Share of the others that are masked from the end, as futures are decoded, slice by slice, and of those that generate.
FROM_THE_END, GENERATING_FROM_THE_END = 0.7, 0.85
CHUNK = 128
COMMIT_PARTS = ("refine", "mask", "reconstruct")


def relative_light_centres(video: Video) -> Float[Tensor, "B T 2"]:
    """The centre of light (x, y) of each frame, -1 to 1 across it; of light above `HAZE`, and 0 where there is none.

    Not in bfloat16, whatever the precision around it, which would round it to a tenth of a pixel.
    """
    with float32_on(video.device):
        light = (video.float().amax(1) - HAZE).clamp(min=0)  # (B, T, H, W)
        across, down = (torch.linspace(-1, 1, size, device=video.device) for size in (video.shape[4], video.shape[3]))
        sums = torch.stack([light.sum(2) @ across, light.sum(3) @ down], dim=-1)
        return sums / light.sum((2, 3)).clamp(min=1e-3)[..., None]


class LightReader(nn.Module):
    """Reads the centres of light of a time slice's frames off its positions: a linear layer, summed over them.

    What it costs to be wrong makes position easy to read, in the tokenizer's codes as in the transformer's features. The
    target is computed from the pixels; no label is used. As those are, it is read in float32.
    """

    def __init__(self, width: int, grid: tuple[int, int, int], frames: int):
        super().__init__()
        self.grid, per_slice = grid, frames // grid[0]
        self.weight = nn.Parameter(torch.zeros(grid[1] * grid[2], width, 2 * per_slice))

    def forward(self, features: Float[Tensor, "B L D"], centres: Float[Tensor, "B T 2"]) -> Float[Tensor, " B"]:
        """The mean distance along an axis of what is read from `centres`, of each sample."""
        with float32_on(features.device):
            slices = features.float().unflatten(1, (self.grid[0], -1))  # (B, t, h w, D)
            read = torch.einsum("btpd,pdk->btk", slices, self.weight)
        return (read.flatten(1) - centres.flatten(1)).abs().mean(1)


class Reconstruction(nn.Module):
    """Stage one: the tokenizer, its foreground-weighted reconstruction loss and the parts that `extra_losses` add to it.

    Where `light_weight` is not zero, the centre of light of each frame has to be right in the reconstruction and readable
    from the codes. An extra loss is called with the reconstruction, not clamped, and the clip.
    """

    def __init__(
        self,
        model: Tokenizer,
        clips: TrainingClips,
        foreground_weight: float,
        light_weight: float = 0.0,
        extra_losses: Sequence[nn.Module] = (),
    ):
        super().__init__()
        self.model, self.clips, self.foreground_weight, self.light_weight = model, clips, foreground_weight, light_weight
        self.extra_losses = nn.ModuleList(extra_losses)
        self.reader = LightReader(model.config.quantizer.features, model.config.grid, model.config.frames)
        self.samples, self.block = len(clips), clips.block

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video = sent(self.clips.videos(rows), self.reader.weight.device)
        output, quantized = self.model(video)
        parts = {"reconstruction": reconstruction_loss(output.float(), video, self.foreground_weight)}
        if quantized.loss is not None:
            parts["quantizer"] = quantized.loss
        if self.light_weight:
            centres = relative_light_centres(video)
            parts["light"] = self.light_weight * (relative_light_centres(output) - centres).abs().mean()
            codes = quantized.features.flatten(2).transpose(1, 2)  # (B, L, D)
            parts["reading"] = self.light_weight * self.reader(codes, centres).mean()
        for extra in self.extra_losses:
            parts |= extra(output, video)
        return parts

    @property
    def matrices(self) -> list[nn.Parameter]:
        """The kernels of the 3-D convolutions."""
        return [module.weight for module in self.model.modules() if isinstance(module, PaddedConv3d)]

    @property
    def opponents(self) -> list["DiscriminatorObjective"]:
        """The objectives that take a step after each of the tokenizer's."""
        return [extra.opponent for extra in self.extra_losses if isinstance(extra, AdversarialLoss)]


class Perceptual(nn.Module):
    """A loss that looks at what a frozen classifier sees in a reconstruction."""

    def __init__(self, weight: float, classifier: VideoClassifier):
        super().__init__()
        self.weight, self.classifier = weight, classifier.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Stays as it is: the features are frozen."""
        return self

    def forward(self, output: Video, video: Video) -> dict[str, Float[Tensor, ""]]:
        return {"perceptual": self.weight * perceptual_loss(self.classifier, output.float(), video)}


class DiscriminatorObjective(nn.Module):
    """The discriminator's objective: to tell the reconstructions of the last batch from the clips."""

    def __init__(self, model: Discriminator, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.matrices = model, clips, len(clips), clips.block, []
        self.shown: tuple[Video, Video] | None = None  # the clips of the batch, and their reconstructions

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video, output = self.shown
        real, fake = self.model(video), self.model(output)
        restraint = self.model.restraint(self.model, video, real, fake)
        average(list(self.model.restraint.buffers()))  # what it remembers of logits is of the whole batch's
        return {"discriminator": discriminator_loss(real, fake), "restraint": restraint}


class AdversarialLoss(nn.Module):
    """A loss that asks for reconstructions that the discriminator takes for clips, and shows it each batch."""

    def __init__(self, weight: float, opponent: DiscriminatorObjective):
        super().__init__()
        self.weight, self.opponent = weight, opponent

    def forward(self, output: Video, video: Video) -> dict[str, Float[Tensor, ""]]:
        self.opponent.shown = video, output.detach().float()
        return {"adversarial": self.weight * generator_loss(self.opponent.model(output))}


class Classification(nn.Module):
    """The classifier of whole clips and its cross-entropy."""

    def __init__(self, model: VideoClassifier, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.matrices = model, clips, len(clips), clips.block, []

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        device = next(self.model.parameters()).device
        logits = self.model(sent(self.clips.videos(rows), device))
        return {"class": F.cross_entropy(logits.float(), sent(self.clips.labels[rows], device))}


def masks_told() -> dict[str, float | dict[str, float]]:
    """How stage two draws and masks its samples, and reads what they show, as JSON: all trainings of now do so alike, and those
    of other times otherwise."""
    return {
        "wholly_masked": WHOLLY_MASKED,
        "from_the_end": FROM_THE_END,
        "generating_from_the_end": GENERATING_FROM_THE_END,
        "label_dropout": LABEL_DROPOUT,
        "label_smoothing": LABEL_SMOOTHING,
        "conditions": "unrounded",
        "tasks": {task.name: task.share for task in TASKS},
    }


class MaskedModelling(nn.Module):
    """Stage two: the transformer on the frozen tokenizer's tokens, by COMMIT over all tasks (arXiv:2212.05199, Eq. 6).

    Each sample draws its task, its mask ratio and, where the class is given, whether it is dropped for guidance. The class is one
    more masked token wherever it is not given: also frame prediction learns to name it. `loss_parts` are those of COMMIT's three
    that are learnt from. Where `light_weight` is not zero, the centre of light of each frame has to be readable from the
    features, given frames and predicted ones alike. Of every `copies` rows in turn the first is the unmoved clip, from which
    samples of tasks that show nothing learn: where their balls are is for the model to know. The digits of every clip's tokens
    are computed once, by `prepare`; a condition's, which are seldom the clip's own, when it is drawn. What is shown is read
    before it is rounded, and of tokens that are `known`, since they are the clip's own, nothing is learnt.
    """

    def __init__(
        self,
        model: MaskedTransformer,
        tokenizer: Tokenizer,
        clips: TrainingClips,
        loss_parts: Sequence[str] = COMMIT_PARTS,
        light_weight: float = 0.0,
        copies: int = 1,
    ):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.copies = model, clips, len(clips), clips.block, copies
        self.loss_parts, self.light_weight = tuple(loss_parts), light_weight
        self.reader = LightReader(model.config.width, model.config.grid, tokenizer.config.frames)
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        shape = tokenizer.config
        self.register_buffer("digits", None, persistent=False)  # (N, L, n)
        inside = torch.stack([interior(task, shape.clip, shape.stride) for task in TASKS])
        self.register_buffer("interior", inside, persistent=False)  # (tasks, L)
        self.begun = float(inside[task_number("CFP")].float().mean())  # of a clip's tokens generation draws these; CFP follows
        known = torch.stack([own_tokens(task, shape) for task in TASKS])
        self.register_buffer("known", known, persistent=False)  # (tasks, L)
        # These stay on the CPU, where tasks are drawn and the conditions to encode are chosen.
        self.shares = torch.tensor([task.share for task in TASKS])
        self.shows, self.shows_others = inside.any(1), (inside & ~known).any(1)
        self.register_buffer("label_given", torch.tensor([task.label == "given" for task in TASKS]), persistent=False)
        self.register_buffer("label_asked", torch.tensor([task.label == "asked" for task in TASKS]), persistent=False)
        self.register_buffer("labels", clips.labels, persistent=False)

    def prepare(self, on_prepared: Callable[[int], None] = lambda done: None) -> None:
        """Encode the clips; all processes meet here."""
        self.digits = encode_clips(self.tokenizer, self.clips, self.model.config.levels, on_prepared)

    @property
    def matrices(self) -> list[nn.Parameter]:
        """The matrices and kernels between embeddings and heads."""
        hidden = (*self.model.neighbours.parameters(), *self.model.blocks.parameters())
        return [weight for weight in hidden if weight.ndim > 1]

    def train(self, mode: bool = True) -> "MaskedModelling":
        """The tokenizer stays as it is."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        config, device, everyone = self.model.config, self.labels.device, len(rows) * processes.count()
        drawn = mine(torch.multinomial(self.shares, everyone, replacement=True))  # (B,), on the CPU
        task, generates = sent(drawn, device), ~self.shows[drawn]
        rows = torch.where(generates, rows - rows % self.copies, rows)
        digits, label = self._looked_up(rows)
        tokens = rounded(digits, config.levels)  # (B, L)
        shown = shown_digits(self._conditions(drawn, rows, digits), self.interior[task])
        stand_ins = shown_tokens(shown, config.levels, config.mask_token)
        masked = commit_mask(tokens, stand_ins, self.known[task], config.mask_token, self._positions(generates, everyone))
        class_hidden = ~self.label_given[task]
        kept = sent(mine(torch.rand(everyone)) >= LABEL_DROPOUT, device)
        features, class_logits = self.model(masked.tokens, task, self._label_input(task, label, kept), shown)

        negative_log_likelihood = token_loss(self.model.digit_logits, features, tokens, config.levels)  # (B, L)
        wrong_class = F.cross_entropy(class_logits.float(), label, reduction="none")
        parts = {name: (negative_log_likelihood * getattr(masked, name)).mean() for name in self.loss_parts}
        # Over the samples of all processes: their mean is not the mean of the processes' means.
        parts["class"] = (wrong_class * class_hidden).sum() / averaged(class_hidden.sum()).clamp(min=1 / processes.count())
        if self.light_weight:
            misread = self.reader(features, relative_light_centres(sent(self.clips.videos(rows), device)))
            tellable = sent(~generates, device)  # where nothing is shown, who could tell
            parts["reading"] = self.light_weight * (misread * tellable).mean()
        return parts

    def _positions(self, generates: Bool[Tensor, " B"], everyone: int) -> Bool[Tensor, "B L"]:
        """Which positions of this process's samples are masked; drawn for `everyone`, the samples of all processes."""
        config = self.model.config
        whole = ~generates & (mine(torch.rand(everyone)) < WHOLLY_MASKED)
        draws = mine(torch.rand(everyone, 1 + config.length))
        from_the_end = mine(torch.rand(everyone)) < torch.where(generates, GENERATING_FROM_THE_END, FROM_THE_END)
        per_slice = config.grid[1] * config.grid[2]
        return masked_positions(draws, whole, from_the_end, generates, self.begun, per_slice, self.labels.device)

    def _looked_up(self, rows: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B L n"], Int[Tensor, " B"]]:
        """The digits of clips' tokens, not rounded, and labels."""
        there = sent(rows, self.labels.device)
        return self.digits[there], self.labels[there]

    def _conditions(
        self, task: Int[Tensor, " B"], rows: Int[Tensor, " B"], own: Float[Tensor, "B L n"]
    ) -> Float[Tensor, "B L n"]:
        """The digits of each sample's condition, not rounded, of which `own` are the clip's."""
        (encoded,) = self.shows_others[task].nonzero(as_tuple=True)
        if not len(encoded):
            return own
        videos = self.clips.videos(rows[encoded])
        shown = [condition(TASKS[number], video[None]) for number, video in zip(task[encoded].tolist(), videos, strict=True)]
        others = self.tokenizer.digits(sent(torch.cat(shown), own.device), self.model.config.levels).flatten(1, 3)
        return own.index_copy(0, sent(encoded, own.device), others)

    def _label_input(self, task: Int[Tensor, " B"], label: Int[Tensor, " B"], kept: Bool[Tensor, " B"]) -> Int[Tensor, " B"]:
        """What stands at [class]: the label where it is given and `kept`, else one of the two non-classes."""
        without = torch.where(self.label_asked[task], self.model.config.asked_class, self.model.config.no_class)
        return torch.where(self.label_given[task] & kept, label, without)


class NextToken(nn.Module):
    """The comparison's stage two: each token from the class and the tokens before it."""

    def __init__(self, model: AutoregressiveTransformer, tokenizer: Tokenizer, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block = model, clips, len(clips), len(clips)
        tokens = rounded(encode_clips(tokenizer, clips, model.config.levels), model.config.levels)
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("labels", clips.labels, persistent=False)

    @property
    def matrices(self) -> list[nn.Parameter]:
        """The matrices of the blocks."""
        return [weight for weight in self.model.blocks.parameters() if weight.ndim == 2]

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        there = sent(rows, self.tokens.device)
        tokens, label = self.tokens[there], self.labels[there]
        dropped = sent(mine(torch.rand(len(rows) * processes.count())) < LABEL_DROPOUT, tokens.device)
        features = self.model(tokens[:, :-1], label.masked_fill(dropped, self.model.config.no_class))
        return {"next": token_loss(self.model.digit_heads.logits, features, tokens, self.model.config.levels).mean()}


def token_loss(
    logits: Callable, features: Float[Tensor, "B L D"], tokens: Int[Tensor, "B L"], levels: tuple[int, ...]
) -> Float[Tensor, "B L"]:
    """The negative log likelihood of each token, the sum of its digits', from `logits(features, earlier digits)`."""
    digits = to_digits(tokens, levels)  # (B, L, places)
    loss = torch.zeros_like(tokens, dtype=torch.float)
    for place in range(len(levels)):
        scores = logits(features, [digits[..., earlier] for earlier in range(place)])
        loss = loss + F.cross_entropy(
            scores.float().movedim(-1, 1), digits[..., place], reduction="none", label_smoothing=LABEL_SMOOTHING
        )
    return loss


def encode_clips(
    tokenizer: Tokenizer, clips: TrainingClips, levels: tuple[int, ...], on_encoded: Callable[[int], None] = lambda done: None
) -> Float[Tensor, "N L n"]:
    """The digits of every clip's tokens (`Tokenizer.digits`), of which each process encodes its share; all meet here. It is told
    how many are done."""
    digits = torch.zeros(len(clips), prod(tokenizer.config.grid), len(levels), device=next(tokenizer.parameters()).device)
    for chunk in torch.arange(len(clips)).split(CHUNK)[processes.number() :: processes.count()]:
        digits[chunk] = tokenizer.digits(sent(clips.videos(chunk), digits.device), levels).flatten(1, 3)
        on_encoded(int(chunk[-1]) + 1)
    return processes.summed(digits)
