"""MAGVIT: the tokenizer and the transformer as one model that classifies, generates and predicts."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trajvit.datasets.files import to_json
from trajvit.datasets.folders import open_folder, write_file
from trajvit.magvit.commit import interior, own_tokens, shown_digits
from trajvit.magvit.decoding import ENSEMBLE, DecodingConfig, Prompt, decode, noise_of_clips, noise_shape
from trajvit.magvit.ensemble import self_ensemble, with_mirror_image
from trajvit.magvit.generation import SAMPLING, ClipDrawer, GenerationConfig
from trajvit.magvit.precision import precision_on
from trajvit.magvit.published import located, published
from trajvit.magvit.tasks import TASK_NAMES, TASKS, Task, condition, given_frames, prediction_from, task_number
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.settings import InputError, Settings

FORMAT, FORMAT_VERSION = "trajvit.MAGVIT", 5
CHUNK = 64  # clips that go through the model at a time
NOISE = 2**25  # random numbers that are held at a time, which are many where a token is one of thousands: fewer clips then

Video = Float[Tensor, "B C T H W"]


class MAGVITConfig(Settings):
    """What a saved model needs to be built again."""

    tokenizer: TokenizerConfig
    transformer: TransformerConfig
    classes: tuple[str, ...] = Field(description="names of the classes, in label order")
    tasks: tuple[str, ...] = TASK_NAMES
    mirrored: bool = Field(False, description="it learnt from mirror images too, of a world that looks alike in a mirror")


@dataclass(frozen=True)
class Passes:
    """How a clip is generated: what is there of it after each of K passes, and which tokens are still masked."""

    video: Float[Tensor, "K C T H W"]
    masked: Bool[Tensor, "K t h w"]


class MAGVIT(nn.Module):
    """The whole model. Videos are (B, C, T, H, W) float32 in [0, 1], tokens (B, t, h, w) int64, labels (B,) int64."""

    tasks = TASK_NAMES

    def __init__(self, tokenizer: Tokenizer, transformer: MaskedTransformer, classes: tuple[str, ...], mirrored: bool = False):
        super().__init__()
        self.tokenizer, self.transformer = tokenizer, transformer
        self.config = MAGVITConfig(tokenizer=tokenizer.config, transformer=transformer.config, classes=classes, mirrored=mirrored)
        self.eval()

    def encode(self, videos: Video) -> Int[Tensor, "B t h w"]:
        """Tokens of videos."""
        self._check_clip(videos, self.config.tokenizer.frames)
        return self._in_chunks(self.tokenizer.encode, videos)

    def decode(self, tokens: Int[Tensor, "B t h w"]) -> Video:
        """Videos of tokens. Raises `InputError` for tokens of another grid or outside the codebook."""
        grid, codes = self.config.tokenizer.grid, self.config.tokenizer.codes
        if tuple(tokens.shape[1:]) != grid or (tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < codes):
            raise InputError(f"tokens of shape {tuple(tokens.shape)} were given; this model takes (B, {grid}) in 0..{codes - 1}")
        return self._in_chunks(self.tokenizer.decode, tokens)

    def shown(self, task: Task, videos: Video) -> Float[Tensor, "B L n"]:
        """The digits of what a task shows of videos, before they are rounded to tokens; NaN where it shows nothing (COMMIT's
        interior tokens, here as the transformer reads them)."""
        digits = self.tokenizer.digits(condition(task, videos), self.config.transformer.levels)
        return shown_digits(digits.flatten(1, 3), self._given(task))

    def class_probabilities(self, videos: Video, given: int | None = None) -> Float[Tensor, "B K"]:
        """How probable each class is: the class is a masked token, predicted from the whole clip (task CLS), or
        from its first `given` frames, a multiple of the frames that a token spans (task FP, which learns it too).

        Raises `InputError` for another number of frames.
        """
        shape = self.config.tokenizer
        self._check_clip(videos, shape.frames)
        allowed = range(shape.stride[0], shape.frames + 1, shape.stride[0])
        if given is not None and given not in allowed:
            raise InputError(f"given = {given} frames; this model names the class from {', '.join(map(str, allowed))}")
        if given in (None, shape.frames):
            task, label = TASKS[task_number("CLS")], self.config.transformer.asked_class
        else:
            task, label = prediction_from(given), self.config.transformer.no_class

        def read_class(rows: Video) -> Float[Tensor, "B K"]:
            return self.transformer.class_probabilities(self.shown(task, rows), *self._prefix(len(rows), task.name, label))

        return self._in_chunks(read_class, videos)

    def classify(self, videos: Video, given: int | None = None) -> Int[Tensor, " B"]:
        """The likeliest class of each video, or of its first `given` frames, as a label."""
        return self.class_probabilities(videos, given).argmax(-1)

    def generate(self, labels: Int[Tensor, " B"] | list[int], seed: int = 0, decoding: DecodingConfig = SAMPLING) -> Video:
        """New videos of the given classes (task CG). Clip k depends on (seed, k, its label) alone.

        By a `GenerationConfig` the first half of the frames is drawn, one time slice after the other, and the rest is its likeliest
        continuation. Then each part is set to its likeliest given the others. A clip is drawn again until
        the model holds the class asked for at least `SURE` probable. Last, `predict` makes the second half anew. A plain
        `DecodingConfig` draws all at once, as the paper does.
        """
        labels = self._checked_labels(labels)
        if not isinstance(decoding, GenerationConfig):
            return self._completed(
                TASKS[task_number("CG")], torch.zeros(len(labels), *self._clip_shape()), labels, seed, decoding
            )
        self._check_seed(seed)
        of, shape = labels.to(self.device), self.config.tokenizer

        def generated(rows: Int[Tensor, " B"]) -> Video:
            return self.tokenizer.decode(self._drawer().draw(rows, of[rows], seed, decoding).unflatten(1, shape.grid))

        clips = self._in_chunks(generated, torch.arange(len(labels)), self._at_once(decoding))
        return self.predict(clips[:, :, : given_frames(shape.frames)], labels=labels)

    def generation_passes(self, label: int, seed: int = 0) -> Passes:
        """How `generate([label], seed)` comes to its clip's tokens, at the first try. Masked ones are decoded as a black clip's.

        What `generate` does besides is left out: to draw again where the class was missed, and to predict the second half once more.
        """
        labels = self._checked_labels([label]).to(self.device)
        self._check_seed(seed)
        with precision_on(self.device):
            passes = torch.cat([*self._drawer().passes(torch.zeros_like(labels), labels, seed, SAMPLING)])
        passes = passes.unflatten(1, self.config.tokenizer.grid)
        masked = passes == self.config.transformer.mask_token
        video = self.decode(torch.where(masked, self.encode(torch.zeros(1, *self._clip_shape())), passes))
        return Passes(video.cpu(), masked.cpu())

    def predict(
        self,
        context: Float[Tensor, "B C given H W"],
        frames: int | None = None,
        labels: Int[Tensor, " B"] | list[int] | None = None,
        seed: int = 0,
        decoding: DecodingConfig = ENSEMBLE,
    ) -> Video:
        """All `frames` of the clips whose first frames are `context`, which are returned as given (tasks FP and CFP).

        `context` holds a multiple of the frames that a token spans; training shows half of the clip's frames, so that is
        what the model does best. With `labels` the class is given too. By default the mean of the likeliest futures of five
        views of the clip (`self_ensemble`), and of their mirror images where it learnt from such; one of many by `DRAWING`.
        """
        whole, stride, given = self.config.tokenizer.frames, self.config.tokenizer.stride[0], context.shape[2]
        if frames not in (None, whole):
            raise InputError(f"frames = {frames} was asked; this model makes clips of {whole} frames")
        if given not in range(stride, whole, stride):
            raise InputError(
                f"a context of {given} frames was given; this model goes on from {', '.join(map(str, range(stride, whole, stride)))}"
            )
        self._check_clip(context, given)
        video = torch.zeros(len(context), *self._clip_shape())
        video[:, :, :given] = context
        return self._completed(prediction_from(given, "FP" if labels is None else "CFP"), video, labels, seed, decoding)

    def complete(
        self,
        video: Video,
        task: str,
        labels: Int[Tensor, " B"] | list[int] | None = None,
        seed: int = 0,
        decoding: DecodingConfig | None = None,
    ) -> Video:
        """Clips in which everything that a task hides is the model's, and everything it shows is as in `video`.

        `task` is one of `MAGVIT.tasks`; hidden pixels of `video` play no part. `labels` are for the tasks that are
        given the class, CG and CFP, and for no other. Clip k depends on (seed, k, its label and what it shows) alone. By default
        the likeliest clip, the mean over views of it where there are any (`self_ensemble`); for CG, which shows nothing, `generate`.
        Raises `InputError` for an unknown task, wrong shapes, values outside [0, 1] and labels out of range.
        """
        asked = TASKS[task_number(task)]
        if labels is not None and not self._given(asked).any():
            self._check_clip(video, self.config.tokenizer.frames)
            return self.generate(self._checked_labels(labels, len(video)), seed, decoding or SAMPLING)
        return self._completed(asked, video, labels, seed, decoding or ENSEMBLE)

    def save_pretrained(self, path: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into the folder or `s3://bucket/prefix`; the config goes last."""
        weights = save({name: value.contiguous() for name, value in self.state_dict().items()})
        described = {"format": FORMAT, "format_version": FORMAT_VERSION} | self.config.model_dump(mode="json")
        write_file(path, "model.safetensors", weights)
        write_file(path, "config.json", to_json(described))

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "MAGVIT":
        """Load a model saved by `save_pretrained`, from its folder or `s3://bucket/prefix`, or one that comes with the
        repository, by its name: `compact-30k`, `compact-30k-varied`, `classic-5k`.

        Raises `InputError` for a missing, foreign or damaged one.
        """
        root = open_folder(located(path))
        content = root.read("config.json")
        if content is None:
            names = "".join(f", {name}" for name in published())
            raise InputError(f"there is no model at {root} (no config.json): train one, or name another folder{names}")
        try:
            described = json.loads(content)
        except ValueError as error:
            raise InputError(f"{root}/config.json cannot be read ({error}): save the model again") from None
        if not isinstance(described, dict) or described.pop("format", None) != FORMAT:
            raise InputError(f"{root} holds something else than a trajvit MAGVIT: name another folder")
        if (version := described.pop("format_version", None)) != FORMAT_VERSION:
            raise InputError(f"{root} has format version {version}; this trajvit reads {FORMAT_VERSION}: train again")
        config = MAGVITConfig(**described)
        if config.tasks != TASK_NAMES:
            raise InputError(
                f"{root} knows the tasks {', '.join(config.tasks)}; here they are {', '.join(TASK_NAMES)}: train again"
            )
        model = cls(Tokenizer(config.tokenizer), MaskedTransformer(config.transformer), config.classes, config.mirrored)
        try:
            model.load_state_dict(load(root.read("model.safetensors") or b""))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{root}/model.safetensors does not fit its config.json ({reason}): save the model again") from None
        return model

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _completed(
        self, task: Task, video: Video, labels: Int[Tensor, " B"] | list[int] | None, seed: int, decoding: DecodingConfig
    ) -> Video:
        """`complete` for a task that need not be one of the table's."""
        self._check_clip(video, self.config.tokenizer.frames)
        if (labels is not None) != (task.label == "given"):
            raise InputError(
                f"labels were {'not given' if labels is None else 'given'} for task {task.name} ({task.meaning}); "
                f"{', '.join(other.name for other in TASKS if other.label == 'given')} take them, and no other task"
            )
        if labels is None:
            labels = torch.full((len(video),), self.config.transformer.no_class)
        else:
            labels = self._checked_labels(labels, len(video))
        self._check_seed(seed)
        return self._of_all_views(task, video.to(self.device), labels.to(self.device), seed, decoding)

    def _of_all_views(self, task: Task, video: Video, labels: Int[Tensor, " B"], seed: int, decoding: DecodingConfig) -> Video:
        """Clips as in `video` where the task shows them, and the model's elsewhere, of one view or the mean over several.

        Moving a clip leaves the task as it is only where that shows whole frames; mirroring it, where what it shows is symmetric.
        """
        clip = self.config.tokenizer.clip
        visible = task.visible(clip).to(self.device)

        def of_one(videos: Video) -> Video:
            return torch.where(visible, videos, self._filled(task, videos, labels, seed, decoding))

        if not decoding.self_ensemble or not visible.any():
            return of_one(video)
        alike = self.config.mirrored and torch.equal(visible, visible.flip(2))
        of_both = with_mirror_image(of_one) if alike else of_one
        return torch.where(visible, video, self_ensemble(of_both, video)) if task.shows_frames(clip) else of_both(video)

    def _filled(self, task: Task, videos: Video, labels: Int[Tensor, " B"], seed: int, decoding: DecodingConfig) -> Video:
        """What the transformer makes of the conditions that `videos` show, decoded; the clip's own tokens stay as they are."""
        wanted = ~own_tokens(task, self.config.tokenizer).to(self.device)

        def filled(rows: Int[Tensor, " B"]) -> Video:
            prompt = Prompt(self.shown(task, videos[rows]), *self._prefix(len(rows), task.name, labels[rows]))
            noise = noise_of_clips(seed, rows, decoding, self.config.transformer, self.device)
            tokens = decode(self.transformer, prompt, decoding, noise, wanted.expand(len(rows), -1))
            return self.tokenizer.decode(tokens.unflatten(1, self.config.tokenizer.grid))

        return self._in_chunks(filled, torch.arange(len(videos)), self._at_once(decoding))

    def _drawer(self) -> ClipDrawer:
        first, ends = (self._given(TASKS[task_number(name)]) for name in ("CFP", "FI"))
        return ClipDrawer(self.transformer, first, ends)

    def _at_once(self, decoding: DecodingConfig) -> int:
        """How many clips are decoded at a time."""
        numbers = prod(noise_shape(decoding, self.config.transformer.length, self.config.transformer.levels))
        return max(1, min(CHUNK, NOISE // numbers)) if decoding.draws else CHUNK

    def _given(self, task: Task) -> Bool[Tensor, " L"]:
        """The tokens of which a task shows something, on the model's device."""
        shape = self.config.tokenizer
        return interior(task, shape.clip, shape.stride).to(self.device)

    def _checked_labels(self, labels: Int[Tensor, " B"] | list[int], count: int | None = None) -> Int[Tensor, " B"]:
        """Labels of `count` clips, or of however many, as a tensor. Raises `InputError` for what are none."""
        classes, given = len(self.config.classes), np.asarray(labels.cpu() if torch.is_tensor(labels) else labels)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise InputError(
                f"labels {given.tolist()!r:.80} were given; give whole numbers 0..{classes - 1} in a row, one a clip"
            )
        if count not in (None, len(given)):
            raise InputError(f"{len(given)} labels were given for {count} clips: give one a clip")
        if given.size and not 0 <= int(given.min()) <= int(given.max()) < classes:
            raise InputError(f"labels {sorted(set(given.tolist()))} were given; this model knows 0..{classes - 1}")
        return torch.from_numpy(given.astype(np.int64))

    def _check_seed(self, seed: int) -> None:
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
            raise InputError(f"seed = {seed!r} was given; give a whole number from 0 to 2^64 - 1")

    def _prefix(self, rows: int, task: str, label: int | Int[Tensor, " B"]):
        """The [task] and [class] of a batch."""
        numbers = torch.full((rows,), task_number(task), device=self.device)
        return numbers, torch.as_tensor(label, device=self.device).expand(rows)

    def _clip_shape(self) -> tuple[int, ...]:
        return self.config.tokenizer.channels, *self.config.tokenizer.clip

    def _check_clip(self, videos: Video, frames: int) -> None:
        channels, _, height, width = self._clip_shape()
        if tuple(videos.shape[1:]) != (channels, frames, height, width):
            raise InputError(
                f"videos of shape {tuple(videos.shape)} were given; this model takes (B, {channels}, {frames}, {height}, {width})"
            )
        if not ((videos >= 0) & (videos <= 1)).all():  # NaN is neither
            low, high = float(videos.nan_to_num(torch.inf).min()), float(videos.nan_to_num(-torch.inf).max())
            nans = int(videos.isnan().sum())
            raise InputError(
                f"videos with values {low:.3g} to {high:.3g} and {nans} NaN were given; this model takes [0, 1]: "
                f"divide 8-bit frames by 255"
            )

    def _in_chunks(self, step, rows: Tensor, most: int = CHUNK) -> Tensor:
        """`step` applied to some rows at a time, at `most` so many, on the model's device and in the precision of its training."""
        if not len(rows):
            raise InputError("an empty batch was given; give at least one clip")
        with precision_on(self.device):
            made = torch.cat([step(chunk.to(self.device)) for chunk in rows.split(most)])
        return made.float() if made.is_floating_point() else made
