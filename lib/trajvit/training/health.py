"""The commonest failures of a training, named while they happen, with what to try."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EARLY = 0.1  # share of the steps before which a model may still be blank
BLANK_DB = 0.5  # foreground PSNR above a blank frame's that counts as nothing
COLLAPSED = 0.02  # share of the codes that a collapsed tokenizer uses at most
SMOOTHED, DIVERGED = 5, 2.0  # a median is of so many logged losses; all of the last ones are above the least so many times
UNLEARNT = 0.1  # share of the loss at the start below which a rise is noise: near nothing, all ratios are large
LOOKS, OVERFITTED = 3, 1.05  # looks in a row that show it; how many times its least the held-out loss then is


@dataclass(frozen=True)
class Ailment:
    """A failure: its name, what shows it, and what to try."""

    name: str
    shown: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.shown}; try {self.advice}"


def ailments(losses: Sequence[float], looks: Sequence[dict[str, float]], progress: float) -> list[Ailment]:
    """What ails a training that is `progress` (0 to 1) done, from its logged training `losses` and from `looks`, the
    figures of its validations, the newest last: `validation_loss` and `training_loss`, of one model on clips it does not
    learn from and on some that it does, and, of a tokenizer, `foreground_psnr_db`, `blank_psnr_db` and `code_usage`."""
    found = [_diverging(losses), _overfitting(looks)]
    if progress >= EARLY and looks:
        found += [_blank(looks[-1]), _collapsed(looks[-1])]
    return [one for one in found if one]


def _diverging(losses: Sequence[float]) -> Ailment | None:
    if len(losses) < 2 * SMOOTHED:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(losses, float), SMOOTHED)
    medians = np.median(windows, axis=1)
    most = max(DIVERGED * medians.min(), UNLEARNT * max(losses[:SMOOTHED]))
    if np.isfinite(medians[-1]) and not 0 < most < windows[-1].min():
        return None
    shown = f"the loss was {medians.min():.3g} and is {medians[-1]:.3g}"
    return Ailment("diverging", shown, "half the learning_rate")


def _overfitting(looks: Sequence[dict[str, float]]) -> Ailment | None:
    seen = [look for look in looks if "validation_loss" in look]
    if len(seen) <= LOOKS:
        return None
    held_out, learnt = (np.array([look[name] for look in seen]) for name in ("validation_loss", "training_loss"))
    best = int(held_out.argmin())
    rising = (np.diff(held_out[-LOOKS:]) > 0).all() and held_out[-1] > OVERFITTED * held_out[best]
    if not (rising and learnt[-1] < learnt[best]):
        return None
    shown = (
        f"on held-out clips the loss rose from {held_out[best]:.3g} to {held_out[-1]:.3g}, on its own it fell to {learnt[-1]:.3g}"
    )
    return Ailment("overfitting", shown, "more samples, fewer steps, dropout=0.1, or a smaller size")


def _blank(look: dict[str, float]) -> Ailment | None:
    if "blank_psnr_db" not in look or look["foreground_psnr_db"] > look["blank_psnr_db"] + BLANK_DB:
        return None
    shown = f"foreground PSNR {look['foreground_psnr_db']:.1f} dB, a blank frame's {look['blank_psnr_db']:.1f}"
    return Ailment("blank output", shown, "a higher foreground_weight or learning_rate, and more steps")


def _collapsed(look: dict[str, float]) -> Ailment | None:
    if look.get("code_usage", 1.0) > COLLAPSED:
        return None
    shown = f"{look['code_usage']:.1%} of the codes are used"
    return Ailment("code collapse", shown, "quantizer=fsq, or a lower learning_rate")
