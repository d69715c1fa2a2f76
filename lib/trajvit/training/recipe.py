"""Both stages of MAGVIT, one after the other: from a dataset to a saved model."""

import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from trajvit.datasets.files import to_json
from trajvit.datasets.folders import open_folder, write_file
from trajvit.datasets.loading import SingleFrames, TrainingClips, WithMirrored, WithShifted, load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.discriminator import RESTRAINTS, Discriminator
from trajvit.magvit.inflation import image_config, inflate
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.quantizers import KINDS
from trajvit.magvit.tasks import TASKS, given_frames
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.settings import InputError, Settings
from trajvit.training import processes
from trajvit.training.devices import Choice, pick_device
from trajvit.training.looks import held_out, look_at_tokenizer, look_at_transformer
from trajvit.training.loop import FitConfig, Fitted, fit
from trajvit.training.objectives import (
    COMMIT_PARTS,
    AdversarialLoss,
    Classification,
    DiscriminatorObjective,
    MaskedModelling,
    Perceptual,
    Reconstruction,
    masks_told,
)
from trajvit.worlds.config import ClipShape, WorldConfig
from trajvit.worlds.families import FAMILIES, NAMES
from trajvit.worlds.film import Clips

# The folders of a training, as far as it has them.
STAGES = ("image_tokenizer", "perceptual_features", "tokenizer", "transformer")
# Where and how weights are computed, which does not decide them.
COMPUTED = frozenset({"device", "compile", "shard"})


class Recipe(Settings):
    """Everything that decides a training besides its data."""

    size: Literal["nano", "small", "base", "large"] = Field("nano", description="of both networks; see SIZES in magvit")
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None,
        description="frames, rows and columns that the tokenizer's first layer folds into one position; empty: the size's own",
    )
    quantizer: Literal["fsq", "vq", "lfq"] = Field("fsq", description="what makes whole numbers of the tokenizer's features")
    one_softmax: bool = Field(False, description="predict a token as one of all codes, not digit by digit")
    loss_parts: tuple[Literal["refine", "mask", "reconstruct"], ...] = Field(COMMIT_PARTS, description="of COMMIT's three")
    tokenizer_steps: int = Field(1500, ge=1, description="of stage one, each with tokenizer_batch clips")
    tokenizer_batch: int = Field(16, ge=1, description="clips in a step of stage one, over all processes")
    transformer_steps: int = Field(2500, ge=1, description="of stage two, each with transformer_batch clips")
    transformer_batch: int = Field(64, ge=1, description="clips in a step of stage two, over all processes")
    learning_rate: float = Field(4e-3, ge=0, le=1, description="the transformer's peak; the tokenizer's is half of it")
    foreground_weight: float = Field(
        6.0, ge=0, description="of stage one: a white pixel counts 1 + so many times as much as a black one"
    )
    tokenizer_light: float = Field(0.05, ge=0, description="weight of each frame's centre of light in stage one")
    transformer_light: float = Field(20.0, ge=0, description="the same in stage two, where it pays in the long run alone")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a block's outputs that the transformer forgoes in training")
    mirrored: bool = Field(
        False, description="the transformer learns from each clip and its mirror image, for worlds that look alike in a mirror"
    )
    shifts: int = Field(
        0, ge=0, description="the transformer learns from so many copies of each clip besides, moved to anywhere in view"
    )
    image_steps: int = Field(0, ge=0, description="steps of an image tokenizer, from which the video tokenizer is inflated")
    gan_weight: float = Field(0.0, ge=0, description="weight of the adversarial loss; 0.1 in the paper")
    gan_restraint: Literal["r1", "lecam"] = Field("r1", description="what holds the discriminator")
    perceptual_weight: float = Field(0.0, ge=0, description="weight of the perceptual loss; 0.1 in the paper")
    perceptual_steps: int = Field(400, ge=1, description="steps of the classifier whose features that loss is measured in")
    checkpoint_every: int = Field(200, ge=1, description="steps; what is killed goes on from the last")
    seed: int = Field(0, ge=0, lt=2**32)
    device: Choice = Field("auto", description="where it is trained; auto: on a GPU where there is one")
    compile: bool = Field(False, description="by torch.compile; does not pay on a CPU")
    shard: bool = Field(False, description="spread each model over the processes that train it (FSDP)")

    def fit(self, steps: int, batch_size: int, learning_rate: float) -> FitConfig:
        """How a model of this recipe is trained."""
        return FitConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=self.seed,
            checkpoint_every=self.checkpoint_every,
            device=self.device,
            compile=self.compile,
            shard=self.shard,
        )

    def of_tokenizer(self) -> dict:
        """The part that decides the first stage, as JSON: the second stage may change without it being trained again."""
        second = {
            "one_softmax",
            "loss_parts",
            "transformer_light",
            "dropout",
            "mirrored",
            "shifts",
            "transformer_steps",
            "transformer_batch",
        }
        return {name: value for name, value in self.of_model().items() if name not in second}

    def of_model(self) -> dict:
        """What decides the weights, as JSON: all but where and how they are computed; a training may go on otherwise."""
        return self.model_dump(mode="json", exclude=COMPUTED)

    @property
    def views(self) -> int:
        """How many views of each clip the transformer learns from."""
        return (1 + self.mirrored) * (1 + self.shifts)

    def learnt(self, clips: TrainingClips) -> TrainingClips:
        """What the transformer learns from: `clips`, with their mirror images and moved copies where the recipe asks for them."""
        learnt = WithMirrored(clips) if self.mirrored else clips
        if self.shifts:
            movable = torch.tensor([label for label, family in enumerate(FAMILIES) if family.movable])
            learnt = WithShifted(learnt, self.shifts, self.seed, movable)
        return learnt

    def check_shares(self, among: int) -> None:
        """Raise `InputError` unless each stage's batch divides among so many processes, and where a quantizer takes but one: of LFQ's
        entropy vector-quantize-pytorch 1.32 throws away what `all_reduce` returns, so that each process would learn from its own."""
        if self.quantizer == "lfq" and among > 1:
            raise InputError(
                f"quantizer = lfq was asked for in {among} processes, and learns in one alone: set processes=1, or another quantizer"
            )
        for name in ("tokenizer_batch", "transformer_batch"):
            processes.check_shares(getattr(self, name), name, among)

    def check_batches(self, clips: int, of: str) -> None:
        """Raise `InputError` where a stage's batch is larger than the number of `clips`, those `of` what is told."""
        for name in ("tokenizer_batch", "transformer_batch"):
            if (batch := getattr(self, name)) > clips:
                raise InputError(f"{name} = {batch} is larger than {of}: use at most {clips}, or more clips")

    def models(self, world: ClipShape) -> tuple[TokenizerConfig, TransformerConfig]:
        """The two configurations for clips of a shape. Raises `InputError` when the clips, or their halves, do not divide into tokens,
        and where mirror images would be of another world."""
        if self.mirrored and isinstance(world, WorldConfig) and not world.mirrors:
            raise InputError(
                f"mirrored = True was asked for the {world.variety} world, in which balls turn and fly one way: set mirrored=false, "
                "or variety=varied"
            )
        frames, height, width, channels = world.shape
        quantizer = KINDS[self.quantizer]()
        shape = {"frames": frames, "height": height, "width": width, "channels": channels, "quantizer": quantizer}
        tokenizer = TokenizerConfig.named(self.size, **shape | ({"patch": self.patch} if self.patch else {}))
        half, stride = given_frames(frames), tokenizer.stride[0]
        if half % stride:
            raise InputError(
                f"clips of {frames} frames were asked for, of which {half} are given to be continued: that is no whole "
                f"number of tokens of {stride} frames; take a multiple of {2 * stride} frames"
            )
        levels = (tokenizer.codes,) if self.one_softmax else tokenizer.quantizer.digits
        grid = {"grid": tokenizer.grid, "levels": levels, "classes": len(NAMES), "tasks": len(TASKS)}
        return tokenizer, TransformerConfig.named(self.size, dropout=self.dropout, **grid)


@dataclass(frozen=True)
class Trained:
    """A trained MAGVIT and the logged scalars of each stage, `tokenizer` and `transformer`."""

    model: MAGVIT
    history: dict[str, dict[str, list[float]]]


def train(
    recipe: Recipe, dataset: Dataset, out: str | Path, samples: int | None = None, on_progress: Listener = silent
) -> Trained:
    """Train both stages on the first `samples` clips of `dataset` (all by default) and save the model in `out`.

    Beside the weights and their config goes `training.json`, which says what they were trained on and how. Run again it
    continues where it stopped; a finished training is loaded, not repeated. Raises `InputError`, before any training, when
    the clips do not fit the tokenizer, a batch is larger than the data or the device is not there, and before a stage whose folder in
    `out` holds another training.
    """
    root = open_folder(out).place
    processes.join()
    pick_device(recipe.device)
    recipe.check_shares(processes.count())
    tokenizer_config, transformer_config = recipe.models(dataset.config.world)
    clips = load_clips(dataset, samples)
    recipe.check_batches(len(clips), f"the data, {len(clips)} clips")
    data = dataset.origin(len(clips))
    val = held_out(dataset)
    tokenizer = train_tokenizer(recipe, tokenizer_config, clips, data, root, on_progress, val)
    transformer = train_transformer(recipe, transformer_config, tokenizer.model, clips, data, root, on_progress, val)
    model = MAGVIT(tokenizer.model, transformer.model, NAMES, recipe.mirrored)
    history = {"tokenizer": tokenizer.history, "transformer": transformer.history}
    if processes.number() == 0:
        _keep(model, _manifest(recipe, data, history), root)
    return Trained(model, history)


def train_tokenizer(
    recipe: Recipe,
    config: TokenizerConfig,
    clips: TrainingClips,
    data: dict,
    root: str | Path,
    on_progress: Listener,
    val: Clips | None = None,
) -> Fitted:
    """The first stage: inflated from an image tokenizer, and with a perceptual and an adversarial loss, where the recipe asks for
    them; looked at on `val`, where there are such clips."""
    identity = {"data": data, "recipe": recipe.of_tokenizer(), "tokenizer": config.model_dump(mode="json")}
    rate = recipe.learning_rate / 2
    torch.manual_seed(recipe.seed)
    tokenizer = Tokenizer(config)
    if recipe.image_steps:
        flat = image_config(config)
        image = fit(
            "image tokenizer",
            Reconstruction(Tokenizer(flat), SingleFrames(clips, config.frames), recipe.foreground_weight, recipe.tokenizer_light),
            recipe.fit(recipe.image_steps, recipe.tokenizer_batch * config.frames, rate),
            identity | {"tokenizer": flat.model_dump(mode="json")},
            f"{root}/image_tokenizer",
            on_progress,
        )
        tokenizer = inflate(image.model, config)
    extra_losses: list[nn.Module] = []
    if recipe.perceptual_weight:
        torch.manual_seed(recipe.seed)  # alike whether the stage before was trained just now or loaded
        classifier = VideoClassifier(config.channels, config.clip, len(NAMES))
        seen = fit(
            "perceptual features",
            Classification(classifier, clips),
            recipe.fit(recipe.perceptual_steps, recipe.tokenizer_batch, 2e-3),
            identity,
            f"{root}/perceptual_features",
            on_progress,
        )
        extra_losses.append(Perceptual(recipe.perceptual_weight, seen.model))
    if recipe.gan_weight:
        torch.manual_seed(recipe.seed)
        width = config.base_channels // 4  # at full resolution, where each channel costs most
        discriminator = Discriminator(config.channels, config.clip, RESTRAINTS[recipe.gan_restraint](), width)
        extra_losses.append(AdversarialLoss(recipe.gan_weight, DiscriminatorObjective(discriminator, clips)))
    return fit(
        "tokenizer",
        Reconstruction(tokenizer, clips, recipe.foreground_weight, recipe.tokenizer_light, extra_losses),
        recipe.fit(recipe.tokenizer_steps, recipe.tokenizer_batch, rate),
        identity,
        f"{root}/tokenizer",
        on_progress,
        val and look_at_tokenizer(val, clips, recipe.foreground_weight),
    )


def train_transformer(
    recipe: Recipe,
    config: TransformerConfig,
    tokenizer: Tokenizer,
    clips: TrainingClips,
    data: dict,
    root: str | Path,
    on_progress: Listener,
    val: Clips | None = None,
) -> Fitted:
    """The second stage, on the tokens of the first; looked at on `val`, where there are such clips."""
    torch.manual_seed(recipe.seed)
    learnt, model = recipe.learnt(clips), MaskedTransformer(config)
    return fit(
        "transformer",
        MaskedModelling(model, tokenizer, learnt, recipe.loss_parts, recipe.transformer_light, 1 + recipe.shifts),
        recipe.fit(recipe.transformer_steps, recipe.transformer_batch, recipe.learning_rate),
        {"data": data, "recipe": recipe.of_model(), "masks": masks_told(), "transformer": config.model_dump(mode="json")},
        f"{root}/transformer",
        on_progress,
        val and look_at_transformer(val, clips, tokenizer, recipe.mirrored),
    )


def _keep(model: MAGVIT, manifest: dict, root: str | Path) -> None:
    """Write a model and its manifest, unless they are there: a training that is loaded stays what the libraries of its time made."""
    folder = open_folder(root)
    if folder.names() >= {"config.json", "model.safetensors", "training.json"}:
        with suppress(ValueError, TypeError):  # damaged
            told, now = (json.loads(content) | {"libraries": {}} for content in (folder.read("training.json"), to_json(manifest)))
            if told == now:
                return
    model.save_pretrained(root)
    write_file(root, "training.json", to_json(manifest))


def _manifest(recipe: Recipe, data: dict, history: dict[str, dict[str, list[float]]]) -> dict:
    """What weights are the result of; the same training gives the same manifest."""
    return {
        "data": data,
        "recipe": recipe.of_model(),
        "masks": masks_told(),
        "libraries": {name: version(name) for name in ("trajvit", "torch", "vector-quantize-pytorch")},
        "last": {stage: {name: values[-1] for name, values in scalars.items()} for stage, scalars in history.items()},
    }
