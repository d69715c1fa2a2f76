"""What MAGVIT can do, measured on clips it has not seen: reconstruct, classify, predict and generate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from trajvit.datasets.loading import to_frames, to_video
from trajvit.evaluation.baselines import CentrePredictor, blank, centres_of, constant_velocity, copy_last
from trajvit.evaluation.measure import Metric
from trajvit.magvit.classifier import VideoClassifier
from trajvit.magvit.decoding import GREEDY, SAMPLING, DecodingConfig
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS, condition, given_frames
from trajvit.metrics.centres import ball_centres, centre_error
from trajvit.metrics.codes import code_perplexity, code_usage
from trajvit.metrics.fidelity import foreground_psnr, psnr
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips

Frames = UInt8[np.ndarray, "N T H W C"]


@dataclass(frozen=True)
class Reconstruction:
    metrics: dict[str, Metric]
    frames: Frames
    tokens: Int[np.ndarray, "N t h w"]


def score_reconstruction(model: MAGVIT, clips: Clips) -> Reconstruction:
    """Encode and decode every clip. The limit of the centre error is that of finding the ball in the real frames."""
    tokens = model.encode(to_video(clips.frames))
    frames = to_frames(model.decode(tokens))
    black, codes = blank(clips.frames), model.config.tokenizer.codes
    error = {
        name: centre_error(f, clips.pixels).mean(1) for name, f in (("model", frames), ("blank", black), ("real", clips.frames))
    }
    found = ball_centres(frames)[1].mean(1)
    metrics = {
        "centre_error_px": Metric.mean(
            error["model"], "px", {"blank": float(error["blank"].mean())}, float(error["real"].mean())
        ),
        "psnr_db": Metric.mean(psnr(frames, clips.frames), "dB", {"blank": float(psnr(black, clips.frames).mean())}),
        "foreground_psnr_db": Metric.mean(
            foreground_psnr(frames, clips.frames), "dB", {"blank": float(foreground_psnr(black, clips.frames).mean())}
        ),
        "code_usage": Metric(
            value=code_usage(tokens.cpu().numpy(), codes), unit="share of codes", baselines={"one_code": 1 / codes}, limit=1.0
        ),
        "code_perplexity": Metric(
            value=code_perplexity(tokens.cpu().numpy(), codes), unit="codes", baselines={"one_code": 1.0}, limit=float(codes)
        ),
        "ball_found": Metric.mean(found, "share of frames", {"blank": 0.0}, 1.0),
    }
    return Reconstruction(metrics, frames, tokens.cpu().numpy())


@dataclass(frozen=True)
class Classification:
    metrics: dict[str, Metric]
    confusion: Int[np.ndarray, "K K"]  # true class, then MAGVIT's


def score_classification(model: MAGVIT, judge: VideoClassifier, clips: Clips, limit: float | None = None) -> Classification:
    """Name the family of every whole clip, beside chance and the 3-D CNN on pixels trained on the same clips.

    `limit` is how often the oracle names it.
    """
    video, label = to_video(clips.frames), clips.label.astype(np.int64)
    named = model.classify(video).cpu().numpy()
    cnn = float((judge.classify(video).numpy() == label).mean())
    confusion = np.zeros((len(NAMES), len(NAMES)), np.int64)
    np.add.at(confusion, (label, named), 1)
    accuracy = Metric.mean((named == label).astype(float), "share", {"chance": 1 / len(NAMES), "cnn_on_pixels": cnn}, limit)
    return Classification({"accuracy": accuracy}, confusion)


@dataclass(frozen=True)
class Prediction:
    metrics: dict[str, Metric]
    frames: Frames
    given: int
    error_by_frame: dict[str, Float[np.ndarray, " T"]]  # mean centre error in px of MAGVIT and of the baselines


# What prediction stands beside everywhere; notebook 04 adds those that have to be trained.
TRIVIAL: dict[str, CentrePredictor] = {"copy_last": centres_of(copy_last), "constant_velocity": constant_velocity}


def score_prediction(
    model: MAGVIT,
    clips: Clips,
    rivals: Mapping[str, CentrePredictor] = TRIVIAL,
    known: Float[np.ndarray, "N ahead 2"] | None = None,
    decoding: DecodingConfig = GREEDY,
) -> Prediction:
    """Predict the second half of every clip's frames from the first; errors are over the predicted frames.

    `rivals` predict the ball's centres from the same frames; `known` are those of the oracle, which make the limit.
    """
    given = given_frames(clips.frames.shape[1])
    video = to_video(clips.frames)
    frames = to_frames(model.predict(video[:, :, :given], decoding=decoding))
    copied = copy_last(clips.frames, given)
    error = {"magvit": centre_error(frames, clips.pixels)} | {
        name: np.linalg.norm(rival(clips.frames, given) - clips.pixels, axis=-1) for name, rival in rivals.items()
    }  # each (N, T)
    limit = None
    if known is not None:
        found = ball_centres(clips.frames[:, :given])[0]
        error["oracle"] = np.linalg.norm(np.concatenate([found, known], axis=1) - clips.pixels, axis=-1)
        limit = float(error["oracle"][:, given:].mean())
    ahead = {name: values[:, given:].mean(1) for name, values in error.items()}
    truth, black = clips.frames[:, given:], blank(clips.frames[:, given:])
    metrics = {
        "centre_error_px": Metric.mean(ahead["magvit"], "px", {name: float(ahead[name].mean()) for name in rivals}, limit),
        "foreground_psnr_db": Metric.mean(
            foreground_psnr(frames[:, given:], truth),
            "dB",
            {
                "blank": float(foreground_psnr(black, truth).mean()),
                "copy_last": float(foreground_psnr(copied[:, given:], truth).mean()),
            },
        ),
        "ball_found": Metric.mean(ball_centres(frames[:, given:])[1].mean(1), "share of frames", {"blank": 0.0}, 1.0),
    }
    return Prediction(metrics, frames, given, {name: values.mean(0) for name, values in error.items()})


def score_tasks(model: MAGVIT, clips: Clips) -> dict[str, Metric]:
    """The nine tasks that hide a part of the clip and show another: how far off the ball is in the frames that hide it.

    Hidden is a ball whose centre the task does not show. Beside it the condition itself, the visible part with its padding;
    the limit is that of finding the ball in the real frames.
    """
    video, labels = to_video(clips.frames), torch.from_numpy(clips.label).long()
    real = centre_error(clips.frames, clips.pixels)
    column, row = clips.pixels.round().astype(int).transpose(2, 0, 1)  # each (N, T)
    metrics = {}
    for task in TASKS:
        visible = task.visible(model.config.tokenizer.clip)
        if not visible.any() or visible.all():
            continue
        hidden = ~visible.numpy()[np.arange(column.shape[1]), row, column]
        some = hidden.any(1)  # clips that hide the ball at all
        completed = to_frames(model.complete(video, task.name, labels if task.label == "given" else None))
        errors = {
            "model": centre_error(completed, clips.pixels),
            "condition": centre_error(to_frames(condition(task, video)), clips.pixels),
            "real": real,
        }
        if some.any():
            means = {name: (error * hidden).sum(1)[some] / hidden.sum(1)[some] for name, error in errors.items()}
            metrics[task.name] = Metric.mean(
                means["model"], "px", {"condition": float(means["condition"].mean())}, float(means["real"].mean())
            )
    return metrics


@dataclass(frozen=True)
class Generation:
    metrics: dict[str, Metric]
    frames: Frames
    labels: Int[np.ndarray, " N"]
    judged: Int[np.ndarray, " N"]


def score_generation(
    model: MAGVIT, judge: VideoClassifier, clips: Clips, samples: int, seed: int = 0, decoding: DecodingConfig = SAMPLING
) -> Generation:
    """Generate clips of every class in turn; does the independent judge see the class that was asked for?

    The limit is how often the judge agrees with the labels of the real `clips`.
    """
    labels = np.arange(samples) % len(NAMES)
    video = model.generate(torch.from_numpy(labels), seed, decoding).cpu()
    judged = judge.classify(video).numpy()
    real = float((judge.classify(to_video(clips.frames)).numpy() == clips.label).mean())
    frames = to_frames(video)
    metrics = {
        "class_agreement": Metric.mean((judged == labels).astype(float), "share", {"chance": 1 / len(NAMES)}, real),
        "ball_found": Metric.mean(ball_centres(frames)[1].mean(1), "share of frames", {"blank": 0.0}, 1.0),
    }
    return Generation(metrics, frames, labels, judged)
