"""How MAGVIT learned in a run, as few numbers as a small picture needs."""

from math import isfinite
from pathlib import Path

POINTS = 60


def training_curve(run_dir: Path) -> list[float]:
    """The losses of the run's transformer in the order of its steps, thinned to at most `POINTS`; empty where there are none."""
    folder = run_dir / "magvit" / "transformer" / "tensorboard"
    if not folder.is_dir():
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    if "loss" not in events.Tags()["scalars"]:
        return []
    losses = [round(event.value, 5) for event in events.Scalars("loss") if isfinite(event.value)]
    return [losses[k * len(losses) // POINTS] for k in range(POINTS)] if len(losses) > POINTS else losses
