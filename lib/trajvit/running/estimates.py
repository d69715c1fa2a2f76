"""How long a notebook will take: as long as the same took here before, or else what the rates measured once come to."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from socket import gethostname
from statistics import median

import yaml

from trajvit.datasets.folders import Disk
from trajvit.evaluation.futures import SAMPLES
from trajvit.evaluation.pixel_predictors import KINDS as PIXEL_PREDICTORS
from trajvit.magvit.ensemble import MOVES
from trajvit.magvit.tokenizer import SIZES
from trajvit.running.ladder import ladder_plans, rung_folder
from trajvit.running.manifest import Manifest, read_manifest, this_machine
from trajvit.running.parameters import KEPT, Parameters
from trajvit.settings import InputError

# Seconds on 2 cores (AMD EPYC), of `compact` clips and `nano` models.
START_S = {"01_generate_data": 25.0, "02_validate_magvit": 15.0, "03_scale_up": 15.0, "04_evaluate": 25.0}
TOKENIZER_S, TRANSFORMER_S, JUDGE_S, PIXEL_S = 5.4e-3, 3.4e-3, 1e-3, 3e-3  # a clip, once, in a step
TOKENIZED_S = 1.3e-3  # a view of a clip, before the transformer's first step
PASS_S, ORACLE_S = 3.1e-3, 25e-3  # a clip through both networks; what can be known of it
GENERATED_S, FUTURE_S = 0.09, 0.02  # a clip that is drawn, from nothing and from half of its frames
RIVAL_STEP_S, FILMED_S, JUDGE_BATCH = 8e-3, 1e-5, 32
SMALL = (7.2, 11.2)  # times as long as nano the networks of small take, as measured (docs/results.md, "Speed")
OF_NO_EFFECT = ("seed", "run_dir", "data_dir")


@dataclass(frozen=True)
class Estimate:
    """Seconds, and where they are from."""

    seconds: float
    origin: str

    def __str__(self) -> str:
        return f"{in_units(self.seconds)} ({self.origin})"


def estimate(notebook: str, parameters: Parameters, runs: Path, of: Collection[str] = ()) -> Estimate:
    """How long a notebook takes with these parameters on this machine, as one `of` a run's."""
    here = gethostname(), this_machine()
    took = [
        state.seconds
        for manifest, told in _former(runs)
        if (manifest.host, manifest.machine) == here and told == _telling(parameters)
        for state in manifest.notebooks
        if (state.name, state.state) == (notebook, "done")
    ]
    if took:
        return Estimate(median(took), f"measured here in {len(took)} run{'s' if len(took) > 1 else ''}")
    return Estimate(START_S.get(notebook, 15.0) + _computed(notebook, parameters, of), "computed from rates on 2 cores")


def in_units(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _former(runs: Path) -> Iterator[tuple[Manifest, dict]]:
    """The runs that were made here, and what decided how long they took."""
    for file in sorted(runs.glob("*/manifest.json")):
        try:
            told = Parameters(**yaml.safe_load((file.parent / KEPT).read_text()))
            yield read_manifest(Disk(file.parent)), _telling(told)
        except (
            InputError,
            OSError,
            UnicodeDecodeError,
            TypeError,
            yaml.YAMLError,
        ):  # of another format, or not whole: it tells nothing
            continue


def _telling(parameters: Parameters) -> dict:
    return parameters.model_dump(mode="json", exclude=set(OF_NO_EFFECT))


def _computed(notebook: str, p: Parameters, of: Collection[str]) -> float:
    tokenizer, transformer = _sizes(p)
    per_tokenizer_step = TOKENIZER_S * tokenizer * p.tokenizer_batch
    per_transformer_step = TRANSFORMER_S * transformer * p.transformer_batch
    judge = JUDGE_S * JUDGE_BATCH * p.judge_steps
    views = (1 + len(MOVES)) * (1 + p.mirrored)
    each_pass, known = PASS_S * tokenizer * p.eval_samples, ORACLE_S * p.eval_samples
    generated, scored = GENERATED_S * transformer * p.generated, (views + 5) * each_pass
    if notebook == "01_generate_data":
        return FILMED_S * (p.samples + 2 * p.eval_samples)
    if notebook == "02_validate_magvit":
        tokenized = p.samples * p.recipe().views * TOKENIZED_S * tokenizer
        return (
            p.tokenizer_steps * per_tokenizer_step
            + tokenized
            + p.transformer_steps * per_transformer_step
            + judge
            + scored
            + generated
        )
    if notebook == "03_scale_up":
        return known + sum(
            plan.tokenizer_steps * per_tokenizer_step + plan.transformer_steps * per_transformer_step + scored
            for plan in ladder_plans(p)
            if "02_validate_magvit" not in of or rung_folder(p, plan) != p.run / "magvit"  # else 02 has trained it
        )
    if notebook == "04_evaluate":
        return (
            (2 if "02_validate_magvit" in of else 3) * judge  # its judge, if 02 has not trained it, and two rivals
            + RIVAL_STEP_S * p.rival_steps
            + len(PIXEL_PREDICTORS) * PIXEL_S * JUDGE_BATCH * p.pixel_steps
            + p.autoregressive_steps * per_transformer_step
            + known
            + (3 * views + 11) * each_pass  # FP, CFP and FI from all views
            + generated
            + FUTURE_S * transformer * SAMPLES * p.futures
        )
    return 0.0


def _sizes(p: Parameters) -> tuple[float, float]:
    """How many times the work of a `compact` clip in a `nano` tokenizer and transformer this one's is."""
    (tokenizer, transformer), (nano, little) = p.recipe().models(p.world()), Parameters().recipe().models(Parameters().world())
    if p.size == "small":
        per_position, per_token = SMALL
        usual = SIZES["small"]["patch"]
    else:
        per_position = (tokenizer.base_channels / nano.base_channels) ** 2
        per_token = transformer.layers * transformer.width**2 / (little.layers * little.width**2)
        usual = nano.patch
    positions = prod(tokenizer.clip) / prod(tokenizer.patch) / (prod(nano.clip) / prod(usual))
    return positions * per_position, transformer.length / little.length * per_token
