"""What each part is worth: small trainings that differ from the recipe in one thing, on equal budgets and several seeds; and the
ways of decoding, which a small training is too little for, by the weights that come with the repository."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import Field

from trajvit.datasets.files import write_json
from trajvit.datasets.loading import TrainingClips, load_clips
from trajvit.datasets.progress import Listener, silent
from trajvit.datasets.store import Dataset
from trajvit.evaluation.generation import score_generation
from trajvit.evaluation.judge import JudgeConfig, train_judge
from trajvit.evaluation.scores import score_classification, score_prediction, score_reconstruction
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.decoding import GREEDY, DecodingConfig
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.published import located
from trajvit.magvit.tokenizer import Tokenizer
from trajvit.magvit.transformer import MaskedTransformer
from trajvit.metrics.intervals import seeds_ci95
from trajvit.settings import InputError, Settings
from trajvit.training.objectives import masks_told
from trajvit.training.recipe import Recipe, train_tokenizer, train_transformer
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips

FORMAT, FORMAT_VERSION = "trajvit.ablations", 1
SCORES_VERSION = 2  # of how a model is scored: scores that are kept of another are made anew


class Budget(Settings):
    """What each training may take, the same for all."""

    tokenizer_steps: int = Field(120, ge=1)
    transformer_steps: int = Field(160, ge=1)
    tokenizer_batch: int = Field(16, ge=1)
    transformer_batch: int = Field(32, ge=1)
    judge_steps: int = Field(400, ge=1)
    generated: int = Field(128, ge=4)
    seeds: int = Field(3, ge=2, le=10)


@dataclass(frozen=True)
class Variation:
    """A change of the recipe, or of how the published model is decoded."""

    group: str
    name: str
    recipe: dict = field(default_factory=dict)
    decoding: dict = field(default_factory=dict)


TOKENIZERS = (
    Variation("tokenizer", "the recipe: FSQ, foreground weighted"),
    Variation("tokenizer", "VQ", {"quantizer": "vq"}),
    Variation("tokenizer", "LFQ", {"quantizer": "lfq"}),
    Variation("tokenizer", "no foreground weight", {"foreground_weight": 0.0}),
    Variation("tokenizer", "centres of light not learnt from", {"tokenizer_light": 0.0}),
    Variation("tokenizer", "inflated from an image tokenizer of 150 steps", {"image_steps": 150}),
)
TRANSFORMERS = (
    Variation("transformer", "the recipe: digits of FSQ; refine, mask, reconstruct; centres of light"),
    Variation("transformer", "one softmax over all codes", {"one_softmax": True}),
    Variation("transformer", "loss on masked tokens only", {"loss_parts": ("mask",)}),
    Variation("transformer", "loss on masked tokens, reconstruct", {"loss_parts": ("mask", "reconstruct")}),
    Variation("transformer", "centres of light learnt from in the tokenizer alone", {"transformer_light": 0.0}),
    Variation("transformer", "centres of light not learnt from at all", {"transformer_light": 0.0, "tokenizer_light": 0.0}),
    Variation("transformer", "on VQ's tokens, one softmax", {"quantizer": "vq"}),
    Variation("transformer", "on LFQ's tokens, two digits", {"quantizer": "lfq"}),
)
PUBLISHED = {"textbook": "compact-30k", "varied": "compact-30k-varied"}
SAMPLERS = ("confidence", "random", "halton", "slices")
STEPS = (1, 4, 12, 24)
DECODINGS = tuple(
    Variation(f"decoding by {sampler}", f"{steps} steps", decoding={"sampler": sampler, "steps": steps})
    for sampler in SAMPLERS
    for steps in STEPS
)


@dataclass(frozen=True)
class Ablated:
    """A variation's metrics, each a value a seed in the seeds' order."""

    group: str
    name: str
    metrics: dict[str, list[float]]

    def mean(self, metric: str) -> float:
        return float(np.mean(self.metrics[metric]))

    def ci95(self, metric: str) -> tuple[float, float]:
        """The 95 % interval of the mean over seeds."""
        return seeds_ci95(np.array(self.metrics[metric]))

    def difference_ci95(self, metric: str, recipe: "Ablated") -> tuple[float, float]:
        """The same, of the difference to the recipe's own, seed by seed."""
        return seeds_ci95(np.array(self.metrics[metric]) - np.array(recipe.metrics[metric]))


def ablate(budget: Budget, dataset: Dataset, val: Dataset, out: str | Path, on_progress: Listener = silent) -> list[Ablated]:
    """Train and score every variation with every seed; what is finished in `out` is loaded, not repeated."""
    judge = train_judge(JudgeConfig(steps=budget.judge_steps), dataset, Path(out) / "judge", on_progress=on_progress)
    lab = Laboratory(budget, dataset, load_clips(dataset), val.read(), judge, Path(out), on_progress)
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for seed in range(budget.seeds):
        for variation, metrics in lab.measured(seed):
            for name, value in metrics.items():
                found.setdefault((variation.group, variation.name), {}).setdefault(name, []).append(value)
    return [Ablated(group, name, metrics) for (group, name), metrics in found.items()]


@dataclass(frozen=True)
class Laboratory:
    """What all trainings share: budget, clips, the judge and a folder."""

    budget: Budget
    dataset: Dataset
    clips: TrainingClips
    held_out: Clips
    judge: VideoClassifier
    out: Path
    on_progress: Listener

    def measured(self, seed: int) -> Iterator[tuple[Variation, dict[str, float]]]:
        """Each variation with its metrics."""
        tokenizers: dict[str, Tokenizer] = {}  # by what decides them
        for variation in TOKENIZERS:
            tokenizer = self._train_tokenizer(seed, variation)
            tokenizers[str(self._recipe(seed, variation).of_tokenizer())] = tokenizer
            yield variation, self._once(seed, variation, partial(self._of_tokenizer, tokenizer))
        for variation in TRANSFORMERS:
            tokenizer = tokenizers[str(self._recipe(seed, variation).of_tokenizer())]
            model = self._train_transformer(seed, variation, tokenizer)
            yield variation, self._once(seed, variation, partial(self._of_model, model))
        folder = Path(located(PUBLISHED[self.dataset.config.world.variety]))
        published, weights = MAGVIT.from_pretrained(folder), sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        for variation in DECODINGS:
            sampling = DecodingConfig(**variation.decoding)
            score = partial(self._of_decoding, published, seed, sampling)
            yield variation, self._once(seed, variation, score, weights=weights, sampling=sampling.model_dump(mode="json"))

    def _once(
        self, seed: int, variation: Variation, score: Callable[[], dict[str, float]], **more: str | dict
    ) -> dict[str, float]:
        """A variation's scores, kept in its folder with what they were made on."""
        path = self._folder(seed, variation) / "scores.json"
        made_on = {"budget": self.budget.model_dump(mode="json"), "data": self._data(), "clips": len(self.held_out.label)}
        made_on |= {"masks": masks_told(), "scores_version": SCORES_VERSION} | more
        if path.exists() and (kept := json.loads(path.read_text()))["made_on"] == made_on:
            return kept["scores"]
        scores = score()
        write_json(path, {"made_on": made_on, "scores": scores})
        return scores

    def _recipe(self, seed: int, variation: Variation) -> Recipe:
        budget = self.budget
        steps = {"tokenizer_steps": budget.tokenizer_steps, "transformer_steps": budget.transformer_steps}
        same = {"seed": seed, "tokenizer_batch": budget.tokenizer_batch, "transformer_batch": budget.transformer_batch}
        return Recipe(**steps | same | variation.recipe)

    def _folder(self, seed: int, variation: Variation) -> Path:
        return self.out / f"seed {seed}" / f"{variation.group}, {variation.name}".replace("/", " ")

    def _data(self) -> dict:
        return self.dataset.origin(len(self.clips))

    def _train_tokenizer(self, seed: int, variation: Variation) -> Tokenizer:
        recipe, folder = self._recipe(seed, variation), self._folder(seed, variation)
        config, _ = recipe.models(self.dataset.config.world)
        return train_tokenizer(recipe, config, self.clips, self._data(), folder, self.on_progress).model

    def _train_transformer(self, seed: int, variation: Variation, tokenizer: Tokenizer) -> MAGVIT:
        recipe, folder = self._recipe(seed, variation), self._folder(seed, variation)
        _, config = recipe.models(self.dataset.config.world)
        fitted = train_transformer(recipe, config, tokenizer, self.clips, self._data(), folder, self.on_progress)
        return MAGVIT(tokenizer, fitted.model, NAMES)

    def _of_tokenizer(self, tokenizer: Tokenizer) -> dict[str, float]:
        # Only its tokenizer is asked for anything; the transformer is there because a MAGVIT has one.
        _, config = Recipe().models(self.dataset.config.world)
        model = MAGVIT(tokenizer, MaskedTransformer(config), NAMES)
        metrics = score_reconstruction(model, self.held_out).metrics
        return {name: metrics[name].value for name in ("centre_error_px", "psnr_db", "code_usage")}

    def _of_model(self, model: MAGVIT) -> dict[str, float]:
        return {
            "prediction_px": score_prediction(model, self.held_out).metrics["centre_error_px"].value,
            "accuracy": score_classification(model, self.held_out).metrics["accuracy"].value,
        }

    def _of_decoding(self, model: MAGVIT, seed: int, sampling: DecodingConfig) -> dict[str, float]:
        """Prediction draws nothing and is the same for all seeds."""
        greedy = DecodingConfig(**GREEDY.model_dump() | {"sampler": sampling.sampler, "steps": sampling.steps})
        world, count = self.dataset.config.world, self.budget.generated
        generation = score_generation(model, self.judge, self.held_out, count, seed, decoding=sampling, world=world).metrics
        return {
            "prediction_px": score_prediction(model, self.held_out, decoding=greedy).metrics["centre_error_px"].value,
            "class_agreement": generation["class_agreement"].value,
            "lawful": generation["lawful"].value,
        }


def write_ablations(path: Path, budget: Budget, dataset: Dataset, ablated: list[Ablated]) -> None:
    """Keep what was found, with what it was found on, as JSON."""
    described = {"format": FORMAT, "format_version": FORMAT_VERSION, "budget": budget.model_dump(mode="json")}
    rows = [{"group": row.group, "name": row.name, "metrics": row.metrics} for row in ablated]
    write_json(path, described | {"data": dataset.origin(len(dataset)), "rows": rows})


def read_ablations(path: Path) -> tuple[Budget, dict, list[Ablated]]:
    """The budget, the data and the rows that `write_ablations` kept. Raises `InputError` for a missing or foreign file."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    if not isinstance(kept, dict) or (kept.get("format"), kept.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(f"{path} holds no ablations of this version: python -m trajvit bench ablate --to {path}")
    return Budget(**kept["budget"]), kept["data"], [Ablated(**row) for row in kept["rows"]]
