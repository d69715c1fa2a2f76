"""What the two stages of MAGVIT learn from: each a model with its loss, as the training loop takes them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.commit import commit_mask, interior
from trajvit.magvit.tasks import TASKS, Task, condition, task_number
from trajvit.magvit.tokenizer import Tokenizer, reconstruction_loss
from trajvit.magvit.transformer import MaskedTransformer, to_digits

LABEL_SMOOTHING = 1e-4
LABEL_DROPOUT = 0.1
# Share of the samples with a condition that are masked wholly: the condition alone has to tell the rest. Without
# them the model learns to fill gaps from their neighbours first and to predict late (README, "What was tried").
WHOLLY_MASKED = 0.7
CHUNK = 128


class Reconstruction(nn.Module):
    """Stage one: the tokenizer and its foreground-weighted reconstruction loss."""

    def __init__(self, model: Tokenizer, clips: TrainingClips, foreground_weight: float):
        super().__init__()
        self.model, self.clips, self.foreground_weight = model, clips, foreground_weight
        self.samples, self.block, self.matrices = len(clips), clips.block, []

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        video = self.clips.videos(rows.cpu()).to(rows.device)
        output, quantized = self.model(video)
        parts = {"reconstruction": reconstruction_loss(output.float(), video, self.foreground_weight)}
        return parts if quantized.loss is None else parts | {"quantizer": quantized.loss}


class MaskedModelling(nn.Module):
    """Stage two: the transformer on the frozen tokenizer's tokens, by COMMIT over all tasks (arXiv:2212.05199, Eq. 6).

    Each sample draws its task, its mask ratio and, where the class is given, whether it is dropped for guidance. The
    class is one more masked token wherever it is not given: also frame prediction learns to name it.
    Tokens of every clip and of every task's condition are computed once, here.
    """

    def __init__(self, model: MaskedTransformer, tokenizer: Tokenizer, clips: TrainingClips):
        super().__init__()
        self.model, self.clips, self.samples, self.block = model, clips, len(clips), len(clips)
        self.matrices = [weight for weight in model.blocks.parameters() if weight.ndim == 2]
        shape = tokenizer.config
        # Tasks that show and pad alike have the same condition: FP and CFP. CG shows nothing, of any clip.
        known: dict[tuple, Int[Tensor, "N L"]] = {}
        for task in TASKS:
            if (task.visible, task.pad) not in known:
                known[task.visible, task.pad] = encode_condition(tokenizer, task, clips)
        conditions = torch.stack([known[task.visible, task.pad] for task in TASKS])
        self.register_buffer("conditions", conditions, persistent=False)  # (tasks, N, L)
        self.register_buffer("tokens", self.conditions[task_number("CLS")], persistent=False)  # (N, L), the whole clip
        self.register_buffer(
            "interior", torch.stack([interior(task, shape.clip, shape.stride) for task in TASKS]), persistent=False
        )
        self.register_buffer("shares", torch.tensor([task.share for task in TASKS]), persistent=False)
        self.register_buffer("label_given", torch.tensor([task.label == "given" for task in TASKS]), persistent=False)
        self.register_buffer("label_asked", torch.tensor([task.label == "asked" for task in TASKS]), persistent=False)
        self.register_buffer("labels", clips.labels, persistent=False)

    def forward(self, rows: Int[Tensor, " B"]) -> dict[str, Float[Tensor, ""]]:
        config = self.model.config
        tokens, label = self.tokens[rows], self.labels[rows]
        task = torch.multinomial(self.shares, len(rows), replacement=True)  # (B,)
        inside = self.interior[task]
        whole = inside.any(1) & (torch.rand(len(rows), device=rows.device) < WHOLLY_MASKED)
        masked = commit_mask(tokens, self.conditions[task, rows], inside, config.mask_token, whole)
        unknown = ~self.label_given[task]
        features, class_logits = self.model(masked.tokens, task, self._label_input(task, label))

        negative_log_likelihood = token_loss(self.model.digit_logits, features, tokens, config.levels)  # (B, L)
        wrong_class = F.cross_entropy(class_logits.float(), label, reduction="none")
        return {
            "refine": (negative_log_likelihood * masked.refine).mean(),
            "mask": (negative_log_likelihood * masked.mask).mean(),
            "reconstruct": (negative_log_likelihood * masked.reconstruct).mean(),
            "class": (wrong_class * unknown).sum() / unknown.sum().clamp(min=1),
        }

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
        self.register_buffer("tokens", encode_condition(tokenizer, TASKS[task_number("CLS")], clips), persistent=False)
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


def encode_condition(tokenizer: Tokenizer, task: Task, clips: TrainingClips) -> Int[Tensor, "N L"]:
    """The tokens of a task's condition of every clip."""
    device = next(tokenizer.parameters()).device
    shows_any = task.visible(tokenizer.config.clip).any()
    rows = torch.arange(len(clips) if shows_any else 1).split(CHUNK)
    tokens = [tokenizer.encode(condition(task, clips.videos(chunk).to(device))).flatten(1) for chunk in rows]
    return torch.cat(tokens).expand(len(clips), -1)
