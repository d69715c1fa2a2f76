"""The parameters of a run: one namespace for all notebooks, layered default < YAML < --set, checked before any work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from trajvit.magvit.tasks import given_frames
from trajvit.running.places import is_bucket, place
from trajvit.settings import InputError
from trajvit.training.recipe import COMPUTED, Recipe
from trajvit.worlds.config import WorldConfig

KEPT = "params.yaml"  # a run's parameters, all of them, in its folder
PUBLISHED = "published"  # as a checkpoint
# Where and how a run is computed, and whether it stops: it may go on with others.
OF_NO_RESULT = COMPUTED | {"run_dir", "processes", "enforce_gate", "ladder_hours"}
LEAST_GIVEN = 3  # frames, from which the simplest rivals of prediction tell an acceleration


class Parameters(Recipe):
    """What a run can be told: the recipe, its data and its notebooks. The defaults are smoke-size: they show that
    everything works, in seconds."""

    samples: int = Field(64, ge=4, description="training clips")
    eval_samples: int = Field(32, ge=4, description="clips of the val stream, and of the test stream")
    format: str = Field("compact", description="compact, classic or TxHxWxC")
    variety: Literal["textbook", "varied"] = Field("textbook", description="the world: how much its families vary")
    seed: int = Field(
        0, ge=0, lt=2**31 - 1, description="of data and trainings; the CNN that MAGVIT is compared with has the next"
    )
    data_dir: str = Field("data/smoke", description="holds the datasets train, val and test")
    checkpoint: str = Field(
        "",
        description="what notebook 04 evaluates: the folder, place in a bucket or name of a trained MAGVIT; published: the one that comes with the "
        "repository for such clips, where there is one; empty: the run's own",
    )
    run_dir: str = Field("reports/runs/interactive", description="holds what a run makes; set by the runner")
    tokenizer_steps: int = Field(12, ge=1)
    tokenizer_batch: int = Field(8, ge=1)
    transformer_steps: int = Field(12, ge=1)
    transformer_batch: int = Field(8, ge=1)
    processes: int = Field(1, ge=1, le=64, description="that train MAGVIT on this machine; several are started as torchrun does")
    judge_steps: int = Field(12, ge=1, description="training steps of the independent 3-D CNN")
    rival_steps: int = Field(12, ge=1, description="training steps of the perceptron that predicts from the balls found")
    pixel_steps: int = Field(12, ge=0, description="training steps of each network that predicts pixels; 0: none is trained")
    autoregressive_steps: int = Field(12, ge=0, description="training steps of the autoregressive transformer; 0: none")
    futures: int = Field(8, ge=1, description="test clips whose future is drawn ten times over")
    generated: int = Field(16, ge=4, description="clips generated for scoring")
    enforce_gate: bool = Field(False, description="does a NO-GO stop the run")
    ladder: tuple[int, ...] = Field((16, 32), min_length=1, description="numbers of training clips, ascending")
    ladder_tokenizer_steps: int = Field(8, ge=1, description="of each rung at equal compute; at full they grow to the run's")
    ladder_transformer_steps: int = Field(8, ge=1, description="likewise")
    ladder_hours: float = Field(1.0, gt=0, description="training that the ladder's gates let it take in all")

    @field_validator("data_dir")
    @classmethod
    def _on_this_disk(cls, data_dir: str) -> str:
        if is_bucket(data_dir):
            raise ValueError("it is in a bucket, and a run keeps its clips on the disk of its machine: name a folder")
        return data_dir

    @model_validator(mode="after")
    def _whole_plan_is_possible(self):
        tokenizer, _ = self.recipe().models(self.world())
        half = given_frames(tokenizer.frames)
        if half < LEAST_GIVEN:
            raise ValueError(
                f"clips of {tokenizer.frames} frames were asked for, of which {half} are given to be continued; from fewer than "
                f"{LEAST_GIVEN} no acceleration can be told: take at least {2 * LEAST_GIVEN} frames"
            )
        if list(self.ladder) != sorted(set(self.ladder)) or self.ladder[0] < 4:
            raise ValueError(f"ladder = {list(self.ladder)}: its sizes must rise, from 4 clips up")
        self.check_batches(self.samples, f"samples = {self.samples}")
        self.check_shares(self.processes)
        return self

    def check_ladder(self) -> None:
        """Raise `InputError` where the ladder of notebook 03 cannot be climbed."""
        if self.ladder[-1] > self.samples:
            raise InputError(f"ladder = {list(self.ladder)} climbs above samples = {self.samples}: raise samples")
        self.check_batches(self.ladder[0], f"the lowest rung of ladder = {list(self.ladder)}")

    def world(self) -> WorldConfig:
        """The world that is filmed."""
        return WorldConfig.named(self.format, variety=self.variety)

    def recipe(self) -> Recipe:
        """How MAGVIT is trained."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})

    def data(self, split: str) -> Path:
        """Where the dataset of a split is."""
        return place(self.data_dir) / split

    @property
    def run(self) -> Path:
        """Where this run's results go."""
        return place(self.run_dir)

    @classmethod
    def of_cell(cls, names: Mapping[str, Any]) -> "Parameters":
        """The parameters that a notebook's `parameters` cell has set: pass `globals()`.

        A cell holds the ones that people play with; in a run, the others are those that the runner has kept in its folder.
        """
        told = {name: names[name] for name in cls.model_fields if name in names}
        kept = place(told.get("run_dir", cls.model_fields["run_dir"].default)) / KEPT
        return cls(**(yaml.safe_load(kept.read_text()) if kept.exists() else {}) | told)


def read_parameters(path: str | Path, changes: list[str]) -> Parameters:
    """The parameters of a YAML file with `name=value` changes on top. Raises `InputError` for anything not allowed."""
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): name a file such as notebooks/params/validate.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}; it must hold names and values, one a line")
    if strange := [name for name in values if not isinstance(name, str)]:
        raise InputError(f"{path} names a parameter {strange[0]!r}, which YAML reads as no text: write the parameter's name")
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set {change!r} has no '='; write --set name=value")
        try:
            values[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {change!r}: the value is not YAML") from None
    return Parameters(**values)
