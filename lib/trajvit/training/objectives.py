"""What the two stages of MAGVIT learn from: each a model with its loss, as the training loop takes them."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.classifier import VideoClassifier, perceptual_loss
from trajvit.magvit.commit import commit_mask, interior
from trajvit.magvit.discriminator import Discriminator, fooling_loss, telling_loss
from trajvit.magvit.tasks import TASKS, Task, condition
from trajvit.magvit.tokenizer import PaddedConv3d, Tokenizer, TokenizerConfig, Video, reconstruction_loss
from trajvit.magvit.transformer import MaskedTransformer, to_digits

LABEL_SMOOTHING = 1e-4
LABEL_DROPOUT = 0.1
# Share of the samples with a condition that are masked wholly: the condition alone has to tell the rest. Without
# them the model learns to fill gaps from their neighbours first and to predict late (README, "What was tried").
WHOLLY_MASKED = 0.7
CHUNK = 128
COMMIT_PARTS = ("refine", "mask", "reconstruct")


class Reconstruction(nn.Module):
    """Stage one: the tokenizer, its foreground-weighted reconstruction loss and the parts that `critics` add to it.

    A critic is called with the reconstruction, not clamped, and the clip.
    """

    def __init__(self, model: Tokenizer, clips: TrainingClips, foreground_weight: float, critics: Sequence[nn.Module] = ()):
        super().__init__()
        self.model, self.clips, self.foreground_weight = model, clips, foreground_weight
        self.critics = nn.ModuleList(critics)
        self.samples, self.block = len(clips), clips.block
        self.matrices = [module.weight for module in model.modules() if isinstance(module, PaddedConv3d)]

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video = self.clips.videos(rows.cpu()).to(rows.device)
        output, quantized = self.model(video)
        parts = {"reconstruction": reconstruction_loss(output.float(), video, self.foreground_weight)}
        if quantized.loss is not None:
            parts["quantizer"] = quantized.loss
        for critic in self.critics:
            parts |= critic(output, video)
        return parts

    @property
    def opponents(self) -> list["Telling"]:
        """The objectives that take a step after each of the tokenizer's."""
        return [critic.opponent for critic in self.critics if isinstance(critic, Fooling)]


class Perceptual(nn.Module):
    """A critic that looks at what a frozen classifier sees in a reconstruction."""

    def __init__(self, weight: float, classifier: VideoClassifier):
        super().__init__()
        self.weight, self.classifier = weight, classifier.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Stays as it is: the features are frozen."""
        return self

    def forward(self, output: Video, video: Video) -> dict[str, Float[Tensor, ""]]:
        return {"perceptual": self.weight * perceptual_loss(self.classifier, output.float(), video)}


class Telling(nn.Module):
    """The discriminator's objective: to tell the reconstructions of the last batch from the clips."""

    def __init__(self, model: Discriminator, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.matrices = model, clips, len(clips), clips.block, []
        self.shown: tuple[Video, Video] | None = None  # the clips of the batch, and their reconstructions

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video, output = self.shown
        real, fake = self.model(video), self.model(output)
        return {"telling": telling_loss(real, fake), "restraint": self.model.restraint(self.model, video, real, fake)}


class Fooling(nn.Module):
    """A critic that asks for reconstructions that the discriminator takes for clips, and shows it each batch."""

    def __init__(self, weight: float, opponent: Telling):
        super().__init__()
        self.weight, self.opponent = weight, opponent

    def forward(self, output: Video, video: Video) -> dict[str, Float[Tensor, ""]]:
        self.opponent.shown = video, output.detach().float()
        return {"fooling": self.weight * fooling_loss(self.opponent.model(output))}


class Naming(nn.Module):
    """The classifier of whole clips and its cross-entropy."""

    def __init__(self, model: VideoClassifier, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block, self.matrices = model, clips, len(clips), clips.block, []

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        chosen = rows.cpu()
        logits = self.model(self.clips.videos(chosen).to(rows.device))
        return {"class": F.cross_entropy(logits.float(), self.clips.labels[chosen].to(rows.device))}


class MaskedModelling(nn.Module):
    """Stage two: the transformer on the frozen tokenizer's tokens, by COMMIT over all tasks (arXiv:2212.05199, Eq. 6).

    Each sample draws its task, its mask ratio and, where the class is given, whether it is dropped for guidance. The
    class is one more masked token wherever it is not given: also frame prediction learns to name it. `loss_parts` are
    those of COMMIT's three that are learnt from.
    Tokens of every clip are computed once, here; a condition's, which are seldom the clip's own, when they are drawn.
    """

    def __init__(
        self, model: MaskedTransformer, tokenizer: Tokenizer, clips: TrainingClips, loss_parts: Sequence[str] = COMMIT_PARTS
    ):
        super().__init__()
        self.model, self.clips, self.samples, self.block = model, clips, len(clips), clips.block
        self.matrices = [weight for weight in model.blocks.parameters() if weight.ndim == 2]
        self.loss_parts = tuple(loss_parts)
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        shape = tokenizer.config
        self.register_buffer("tokens", encode_clips(tokenizer, clips), persistent=False)  # (N, L)
        inside = torch.stack([interior(task, shape.clip, shape.stride) for task in TASKS])
        self.register_buffer("interior", inside, persistent=False)  # (tasks, L)
        self.register_buffer("shares", torch.tensor([task.share for task in TASKS]), persistent=False)
        self.register_buffer("label_given", torch.tensor([task.label == "given" for task in TASKS]), persistent=False)
        self.register_buffer("label_asked", torch.tensor([task.label == "asked" for task in TASKS]), persistent=False)
        self.register_buffer("labels", clips.labels, persistent=False)

    def train(self, mode: bool = True) -> "MaskedModelling":
        """The tokenizer stays as it is."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        config = self.model.config
        tokens, label = self.tokens[rows], self.labels[rows]
        task = torch.multinomial(self.shares, len(rows), replacement=True)  # (B,)
        inside = self.interior[task]
        whole = inside.any(1) & (torch.rand(len(rows), device=rows.device) < WHOLLY_MASKED)
        masked = commit_mask(tokens, self._conditions(task, rows), inside, config.mask_token, whole)
        unknown = ~self.label_given[task]
        features, class_logits = self.model(masked.tokens, task, self._label_input(task, label))

        negative_log_likelihood = token_loss(self.model.digit_logits, features, tokens, config.levels)  # (B, L)
        wrong_class = F.cross_entropy(class_logits.float(), label, reduction="none")
        parts = {name: (negative_log_likelihood * getattr(masked, name)).mean() for name in self.loss_parts}
        return parts | {"class": (wrong_class * unknown).sum() / unknown.sum().clamp(min=1)}

    def _conditions(self, task: Int[Tensor, " B"], rows: Int[Tensor, " B"]) -> Int[Tensor, "B L"]:
        """The tokens of each sample's condition."""
        tokens = self.tokens[rows]
        for number in task.unique().tolist():
            if not shows_own_tokens(TASKS[number], self.tokenizer.config):
                chosen = task == number
                video = self.clips.videos(rows[chosen].cpu()).to(rows.device)
                # In float32, as at inference: a feature near the border between two codes must fall to the same side.
                with torch.autocast(rows.device.type, enabled=False):
                    tokens[chosen] = self.tokenizer.encode(condition(TASKS[number], video)).flatten(1)
        return tokens

    def _label_input(self, task: Int[Tensor, " B"], label: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """What stands at [class]: the label where it is given and not dropped, else one of the two non-classes."""
        kept = self.label_given[task] & (torch.rand(len(task), device=task.device) >= LABEL_DROPOUT)
        without = torch.where(self.label_asked[task], self.model.config.asked_class, self.model.config.no_class)
        return torch.where(kept, label, without)


class NextToken(nn.Module):
    """The comparison's stage two: each token from the class and the tokens before it."""

    def __init__(self, model: AutoregressiveTransformer, tokenizer: Tokenizer, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block = model, clips, len(clips), len(clips)
        self.matrices = [weight for weight in model.blocks.parameters() if weight.ndim == 2]
        self.register_buffer("tokens", encode_clips(tokenizer, clips), persistent=False)
        self.register_buffer("labels", clips.labels, persistent=False)

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        tokens, label = self.tokens[rows], self.labels[rows]
        dropped = torch.rand(len(rows), device=rows.device) < LABEL_DROPOUT
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


def encode_clips(tokenizer: Tokenizer, clips: TrainingClips) -> Int[Tensor, "N L"]:
    """The tokens of every clip."""
    device = next(tokenizer.parameters()).device
    rows = torch.arange(len(clips)).split(CHUNK)
    return torch.cat([tokenizer.encode(clips.videos(chunk).to(device)).flatten(1) for chunk in rows])


def shows_own_tokens(task: Task, config: TokenizerConfig) -> bool:
    """Whether every interior token of a task's condition is the clip's own token.

    So it is where nothing is shown, or all, or first frames that fill tokens of a tokenizer that looks at no later ones.
    """
    visible = task.visible(config.clip).flatten(1)  # (T, H W)
    shown = int(visible.any(1).sum())
    if shown in (0, config.frames):
        return bool(visible.all()) or not shown
    return config.padding == "causal" and shown % config.stride[0] == 0 and bool(visible[:shown].all())
