"""Notebook 03's station: the ladder is climbed, each rung trained unless it is there, gated and scored."""

from dataclasses import replace
from pathlib import Path

import torch

from trajvit.datasets.folders import open_folder
from trajvit.datasets.labour import at_once
from trajvit.datasets.progress import Listener, silent, watch
from trajvit.datasets.store import Dataset
from trajvit.evaluation.ladder import (
    EQUAL,
    FULL,
    FURTHER,
    Ladder,
    Limits,
    Plan,
    Rung,
    already_trained,
    judge_rung,
    score_rung,
    steps_at,
)
from trajvit.evaluation.oracle import bayes_limit, oracle_by_frames
from trajvit.magvit.tasks import given_frames
from trajvit.running import prices
from trajvit.running.parameters import Parameters
from trajvit.running.renting import DISK_GB
from trajvit.running.stations import known_world, train_magvit

# Virtual CPUs up to which each type is held to be like this machine.
LIKE_THIS = ((2, "c7i.large"), (4, "c7i.xlarge"), (8, "c7i.2xlarge"), (16, "c7i.4xlarge"), (32, "c7i.8xlarge"))


def climb(parameters: Parameters, dataset: Dataset, val: Dataset, on_progress: Listener = silent) -> Ladder:
    """The ladder, rung by rung on prefixes of `dataset`: at equal compute, then at full, each scored on `val`.

    Full compute begins at the lowest rung's and ends at the run's own, so the lowest rung is one training at both, and the
    top one at full compute, where it takes all samples, is notebook 02's. Where `enforce_gate` says so, a NO-GO ends the
    climb at that compute.
    """
    parameters.check_ladder()
    clips, world = val.read(), known_world(val)
    limits = Limits()
    if world:
        found = at_once("oracle", oracle_by_frames(clips, world, parameters.run / "oracle"), len(val), on_progress)
        known = {one.given: one for one in found.values()}
        limits = Limits(known[given_frames(world.frames)].median, bayes_limit(known.values(), clips.label))
    rungs: list[Rung] = []
    gates = []
    speed = speed_of(parameters.run / "magvit")
    for compute in (EQUAL, FULL):
        for samples in parameters.ladder:
            plan = _plan(parameters, samples, compute)
            before = [rung for rung in rungs if rung.plan.compute == compute]
            again = next((rung for rung in rungs if rung.plan.training == plan.training), None)
            if again:
                rungs.append(replace(again, plan=plan))
                continue
            out, spent = rung_folder(parameters, plan), sum((rung.hours for rung in _trained(rungs)), 0.0)
            there = (out / "training.json").exists()
            gates.append(already_trained(plan) if there else judge_rung(plan, before, speed, spent, parameters.ladder_hours))
            if parameters.enforce_gate and gates[-1].verdict == "NO-GO":
                break
            steps = {"tokenizer_steps": plan.tokenizer_steps, "transformer_steps": plan.transformer_steps}
            model = train_magvit(parameters.model_copy(update=steps), dataset, out, samples, on_progress).model
            speed = speed_of(out) or speed
            rungs.append(score_rung(model, clips, plan, speed, limits))
    further = tuple(_plan(parameters, many * parameters.ladder[-1], FULL) for many in FURTHER)
    return Ladder(tuple(rungs), tuple(gates), further, *_rented())


def ladder_plans(parameters: Parameters) -> list[Plan]:
    """The trainings of the ladder, each once."""
    plans = [_plan(parameters, samples, compute) for compute in (EQUAL, FULL) for samples in parameters.ladder]
    return list({plan.training: plan for plan in plans}.values())


def _plan(parameters: Parameters, samples: int, compute: str) -> Plan:
    few = parameters.ladder_tokenizer_steps, parameters.ladder_transformer_steps
    if compute == EQUAL:
        return Plan(samples, compute, *few)
    ends = parameters.ladder[0], parameters.samples
    many = parameters.tokenizer_steps, parameters.transformer_steps
    return Plan(samples, compute, *(steps_at(samples, *ends, *steps) for steps in zip(few, many, strict=True)))


def rung_folder(parameters: Parameters, plan: Plan) -> Path:
    """Where a rung is trained: notebook 02's folder where it is that training, so that whoever comes second loads it."""
    whole = parameters.samples, parameters.tokenizer_steps, parameters.transformer_steps
    if plan.training == whole:
        return parameters.run / "magvit"
    return parameters.run / "ladder" / "-".join(map(str, plan.training))


def _trained(rungs: list[Rung]) -> list[Rung]:
    """The rungs without those that are the same training as an earlier one."""
    return list({rung.plan.training: rung for rung in rungs}.values())


def speed_of(folder: Path) -> dict[str, float] | None:
    """The steps/s of each stage of a training, from its progress files; None where none is known of one."""
    speed = {}
    for stage in ("tokenizer", "transformer"):
        if not (folder / stage / "PROGRESS.json").exists():
            return None
        speed[stage] = next(watch(open_folder(folder / stage)))[0].progress.rate
        if not speed[stage]:  # nothing but preparations were reported
            return None
    return speed


def _rented() -> tuple[str, float]:
    """A machine for rent that is like this one, and its dollars an hour with disk and address."""
    cores = torch.get_num_threads()
    kind = "g6.xlarge" if torch.cuda.is_available() else next((n for most, n in LIKE_THIS if cores <= most), LIKE_THIS[-1][1])
    return kind, prices.hourly(kind, None, DISK_GB)
