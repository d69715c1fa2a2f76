"""What MAGVIT can do with a clip that it has not seen: rebuild it, name its family, tell how it goes on, fill it in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from trajvit.datasets.loading import to_frames, to_video
from trajvit.evaluation.baselines import CentrePredictor, blank, centres_of, constant_velocity, copy_last
from trajvit.evaluation.measure import Metric, named_right
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.decoding import ENSEMBLE, DecodingConfig
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS, Clip, Task, condition, given_frames
from trajvit.metrics.calibration import Reliability, reliability
from trajvit.metrics.centres import ball_centres, centre_error, find_balls
from trajvit.metrics.codes import code_perplexity, code_usage
from trajvit.metrics.fidelity import WINDOW, foreground_psnr, psnr, ssim
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips

Frames = UInt8[np.ndarray, "N T H W C"]
Known = Float[np.ndarray, "N ahead 2"]  # the oracle's centres of the frames ahead, px
KEPT = 3  # clips of each task, to be looked at


@dataclass(frozen=True)
class Reconstruction:
    metrics: dict[str, Metric]
    frames: Frames
    tokens: Int[np.ndarray, "N t h w"]


def score_reconstruction(model: MAGVIT, clips: Clips) -> Reconstruction:
    """Encode and decode every clip. The limit of the centre error is that of finding the ball in the real frames; of the codes used,
    how many as many tokens would show that were drawn evenly."""
    tokens = model.encode(to_video(clips.frames))
    frames = to_frames(model.decode(tokens))
    black, codes = blank(clips.frames), model.config.tokenizer.codes
    error = {
        name: centre_error(f, clips.pixels).mean(1) for name, f in (("model", frames), ("blank", black), ("real", clips.frames))
    }
    usage, perplexity = code_usage(tokens.cpu().numpy(), codes), code_perplexity(tokens.cpu().numpy(), codes)
    metrics = {
        "centre_error_px": Metric.mean(error["model"], "px", {"blank": error["blank"]}, float(error["real"].mean())),
        "psnr_db": Metric.mean(psnr(frames, clips.frames), "dB", {"blank": psnr(black, clips.frames)}, more_is_better=True),
        "foreground_psnr_db": Metric.mean(
            foreground_psnr(frames, clips.frames), "dB", {"blank": foreground_psnr(black, clips.frames)}, more_is_better=True
        ),
        "code_usage": Metric(
            value=usage,
            unit="share of codes",
            baselines={"one_code": 1 / codes},
            limit=1 - (1 - 1 / codes) ** tokens.numel(),
            more_is_better=True,
        ),
        "code_perplexity": Metric(
            value=perplexity,
            unit="codes",
            baselines={"one_code": 1.0},
            limit=float(min(codes, tokens.numel())),
            more_is_better=True,
        ),
        **balls_shown(frames),
    }
    if min(frames.shape[2:4]) >= WINDOW.size:
        alike, blank_alike = ssim(frames, clips.frames), ssim(black, clips.frames)
        metrics["ssim"] = Metric.mean(alike, "of 1", {"blank": blank_alike}, 1.0, more_is_better=True)
    return Reconstruction(metrics, frames, tokens.cpu().numpy())


def balls_shown(frames: Frames) -> dict[str, Metric]:
    """The share of all frames that show a ball, and the share that show two or more: neither is dropped from any figure."""
    balls = find_balls(frames)
    return {
        "ball_found": Metric.mean(1 - balls.missing, "share of frames", {"blank": 0.0}, 1.0, more_is_better=True),
        "ball_doubled": Metric.mean(balls.doubled, "share of frames", {}, 0.0),
    }


@dataclass(frozen=True)
class Classification:
    """`confusion` counts clips by true class, then MAGVIT's. `by_frames` is the accuracy from the first k frames, by k,
    of `magvit` and, where the world is known, of `bayes`."""

    metrics: dict[str, Metric]
    confusion: Int[np.ndarray, "K K"]
    reliability: Reliability
    by_frames: dict[str, dict[int, Metric]]


def score_classification(
    model: MAGVIT, clips: Clips, cnns: Sequence[VideoClassifier] = (), bayes: Mapping[int, Metric] | None = None
) -> Classification:
    """Name the family of every clip, whole and from its first frames, beside chance and `cnns`, the 3-D CNNs on pixels,
    each from as many frames as it sees.

    `bayes` is how often the oracle names it after k frames.
    """
    video, label, bayes = to_video(clips.frames), clips.label.astype(np.int64), bayes or {}
    whole, stride = clips.frames.shape[1], model.config.tokenizer.stride[0]
    sure = {given: model.class_probabilities(video, given).cpu().numpy() for given in range(stride, whole + 1, stride)}
    cnn_sure = {cnn.frames: cnn.probabilities(video[:, :, : cnn.frames]).numpy() for cnn in cnns}
    calibration = reliability(sure[whole], label)
    cnn_calibration = {"cnn_on_pixels": reliability(cnn_sure[whole], label).error} if whole in cnn_sure else {}
    accuracy = {}
    for given, probabilities in sure.items():
        baselines = {"chance": 1 / len(NAMES)} | (
            {"cnn_on_pixels": named_right(cnn_sure[given], label)} if given in cnn_sure else {}
        )
        limit = bayes[given].value if given in bayes else None
        accuracy[given] = Metric.mean(named_right(probabilities, label), "share", baselines, limit, more_is_better=True)
    metrics = {"accuracy": accuracy[whole]}
    if (half := given_frames(whole)) in accuracy:
        metrics["accuracy_from_half"] = accuracy[half]
    metrics["calibration_error"] = Metric(value=calibration.error, unit="share", baselines=cnn_calibration, limit=0.0)
    confusion = np.zeros((len(NAMES), len(NAMES)), np.int64)
    np.add.at(confusion, (label, sure[whole].argmax(1)), 1)
    by_frames = {"magvit": accuracy} | ({"bayes": dict(bayes)} if bayes else {})
    return Classification(metrics, confusion, calibration, by_frames)


@dataclass(frozen=True)
class Prediction:
    """`error_px` (N, T) are the centre errors of MAGVIT, of its rivals and of the oracle, by name."""

    metrics: dict[str, Metric]
    frames: Frames
    given: int
    error_px: dict[str, Float[np.ndarray, "N T"]]

    @property
    def error_by_frame(self) -> dict[str, Float[np.ndarray, " T"]]:
        """The mean over clips."""
        return {name: error.mean(0) for name, error in self.error_px.items()}

    @property
    def ahead_px(self) -> dict[str, Float[np.ndarray, " N"]]:
        """The mean over the predicted frames, of each clip."""
        return _ahead(self.error_px, self.given)

    def worst(self, count: int) -> Int[np.ndarray, " count"]:
        """The rows of the clips whose ball MAGVIT predicts farthest off, the worst first."""
        return np.argsort(-self.ahead_px["magvit"], kind="stable")[:count]


# What prediction stands beside everywhere; notebook 04 adds those that have to be trained.
TRIVIAL: dict[str, CentrePredictor] = {"copy_last": centres_of(copy_last), "constant_velocity": constant_velocity}


def score_prediction(
    model: MAGVIT,
    clips: Clips,
    rivals: Mapping[str, CentrePredictor] = TRIVIAL,
    known: Known | None = None,
    decoding: DecodingConfig = ENSEMBLE,
) -> Prediction:
    """Predict the second half of every clip's frames from the first; errors are over the predicted frames.

    `rivals` predict the ball's centres from the same frames; `known` are those of the oracle, which make the limit.
    """
    given = given_frames(clips.frames.shape[1])
    video = to_video(clips.frames)
    frames = to_frames(model.predict(video[:, :, :given], decoding=decoding))
    error = {"magvit": centre_error(frames, clips.pixels)} | {
        name: np.linalg.norm(rival(clips.frames, given) - clips.pixels, axis=-1) for name, rival in rivals.items()
    }  # each (N, T)
    if known is not None:
        found = ball_centres(clips.frames[:, :given])[0]
        error["oracle"] = np.linalg.norm(np.concatenate([found, known], axis=1) - clips.pixels, axis=-1)
    ahead = _ahead(error, given)
    truth, shown = clips.frames[:, given:], frames[:, given:]
    trivial = {"blank": blank(truth), "copy_last": copy_last(clips.frames, given)[:, given:]}
    metrics = {
        "centre_error_px": Metric.mean(ahead["magvit"], "px", {name: ahead[name] for name in rivals}, _known_px(clips, known)),
        "foreground_psnr_db": Metric.mean(
            foreground_psnr(shown, truth),
            "dB",
            {name: foreground_psnr(made, truth) for name, made in trivial.items()},
            more_is_better=True,
        ),
        **balls_shown(shown),
    }
    return Prediction(metrics, frames, given, error)


def _ahead(error: Mapping[str, Float[np.ndarray, "N T"]], given: int) -> dict[str, Float[np.ndarray, " N"]]:
    return {name: values[:, given:].mean(1) for name, values in error.items()}


def _known_px(clips: Clips, known: Known | None) -> float | None:
    """The error of the oracle's centres of the frames ahead."""
    if known is None:
        return None
    return float(np.linalg.norm(known - clips.pixels[:, -known.shape[1] :], axis=-1).mean())


@dataclass(frozen=True)
class Completion:
    """What MAGVIT makes of a task's conditions; of the first clips both are kept, to be looked at. There is no `metric` where no
    clip's ball is hidden."""

    metric: Metric | None
    shown: Frames
    completed: Frames


@dataclass(frozen=True)
class Tasks:
    by_task: dict[str, Completion]

    @property
    def metrics(self) -> dict[str, Metric]:
        return {name: scored.metric for name, scored in self.by_task.items() if scored.metric}


def partly_shown(clip: Clip) -> list[Task]:
    """The tasks that hide a part of a clip and show another: nine, of clips of more than two frames."""
    return [task for task in TASKS if (visible := task.visible(clip)).any() and not visible.all()]


def score_task(model: MAGVIT, clips: Clips, task: Task, known: Known | None = None) -> Completion:
    """What the model makes of a task's conditions, held against the clips as by `score_completion`."""
    labels = torch.from_numpy(clips.label).long() if task.label == "given" else None
    return score_completion(clips, task, to_frames(model.complete(to_video(clips.frames), task.name, labels)), known)


def score_completion(clips: Clips, task: Task, completed: Frames, known: Known | None = None) -> Completion:
    """How far off the ball is in the frames that hide it, where the task does not show its centre.

    Beside it the condition itself, the visible part with its padding. Where the second half of the frames is asked for, `known`, the
    oracle's centres there, make the limit: the first half tells the class. For the other tasks none is known.
    """
    shown = to_frames(condition(task, to_video(clips.frames)))
    column, row = clips.pixels.round().astype(int).transpose(2, 0, 1)  # each (N, T)
    hidden = ~task.visible(clips.frames.shape[1:4]).numpy()[np.arange(column.shape[1]), row, column]
    some, metric = hidden.any(1), None  # clips that hide the ball at all
    if some.any():
        model_px, condition_px = (
            (centre_error(frames, clips.pixels) * hidden).sum(1)[some] / hidden.sum(1)[some] for frames in (completed, shown)
        )
        limit = _known_px(clips, known) if task.name in ("FP", "CFP") else None
        metric = Metric.mean(model_px, "px", {"condition": condition_px}, limit)
    return Completion(metric, shown[:KEPT], completed[:KEPT])
