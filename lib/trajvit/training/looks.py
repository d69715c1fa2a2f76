"""How the two stages of MAGVIT are looked at while they learn: a few held-out clips, beside as many that are learnt from."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajvit.datasets.loading import TrainingClips, to_frames, to_video
from trajvit.datasets.store import Dataset, ImportedConfig
from trajvit.magvit.commit import shown_tokens
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS, given_frames, task_number
from trajvit.magvit.tokenizer import Tokenizer, Video, reconstruction_loss
from trajvit.metrics.centres import centre_error
from trajvit.metrics.codes import code_usage
from trajvit.metrics.fidelity import foreground_psnr
from trajvit.training.journal import Look
from trajvit.training.objectives import token_loss
from trajvit.training.peak import flops
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips, film

CLIPS, SHOWN = 32, 4
BACKWARD = 3  # a step costs three times its forward pass, nearly: a gradient of the weights and one of the inputs


def held_out(dataset: Dataset) -> Clips | None:
    """The first clips of the `val` stream of a dataset's world; None for imported clips, which have none."""
    config = dataset.config
    return None if isinstance(config, ImportedConfig) else film(config.world, config.seed, "val", 0, CLIPS)


def look_at_tokenizer(val: Clips, clips: TrainingClips, foreground_weight: float) -> Callable[[nn.Module], Look]:
    """Reconstructs: the loss, foreground PSNR beside the blank frame's, where the ball is, and how many codes are used."""
    learnt, black = _learnt(clips), np.zeros_like(val.frames)
    blank = float(foreground_psnr(black, val.frames).mean())

    def look(model: Tokenizer) -> Look:
        model.eval()
        device = next(model.parameters()).device
        video = to_video(val.frames).to(device)
        losses, seen = [], []
        work = flops(lambda: seen.append(model(video)))
        output, quantized = seen[0]
        for own, made in ((video, output), (learnt.to(device), model(learnt.to(device))[0])):
            losses.append(float(reconstruction_loss(made.float(), own, foreground_weight)))
        frames = to_frames(output.float())
        figures = {
            "validation_loss": losses[0],
            "training_loss": losses[1],
            "foreground_psnr_db": float(foreground_psnr(frames, val.frames).mean()),
            "blank_psnr_db": blank,
            "centre_error_px": float(centre_error(frames, val.pixels).mean()),
            "code_usage": code_usage(quantized.tokens.cpu().numpy(), model.config.codes),
        }
        pairs = np.stack([val.frames[:SHOWN], frames[:SHOWN]], axis=1).reshape(-1, *frames.shape[1:])
        return Look(figures, {"reconstruction": pairs}, BACKWARD * work / len(video))

    return look


def look_at_transformer(val: Clips, clips: TrainingClips, tokenizer: Tokenizer, mirrored: bool) -> Callable[[nn.Module], Look]:
    """Predicts the second half from the first, names the family, and generates a clip of each, as the finished model will."""
    learnt = _learnt(clips)
    given, task = given_frames(val.frames.shape[1]), TASKS[task_number("FP")]

    def loss(model: nn.Module, shown: Float[Tensor, "B L n"], tokens: Int[Tensor, "B L"]) -> float:
        """Of the hidden tokens, given the first half of the frames."""
        config, number = model.config, torch.full((len(tokens),), task_number(task.name), device=tokens.device)
        seen = shown_tokens(shown, config.levels, config.mask_token)
        features, _ = model(seen, number, torch.full_like(number, config.no_class), shown)
        return float(token_loss(model.digit_logits, features, tokens, config.levels)[seen == config.mask_token].mean())

    def look(model: nn.Module) -> Look:
        device = next(model.parameters()).device
        whole = MAGVIT(tokenizer, model.eval(), NAMES, mirrored)
        video, losses = to_video(val.frames).to(device), []
        held, own = ((whole.shown(task, some), tokenizer.encode(some).flatten(1)) for some in (video, learnt.to(device)))
        work = flops(lambda: losses.append(loss(model, *held)))
        predicted = to_frames(whole.predict(video[:, :, :given]))
        figures = {
            "validation_loss": losses[0],
            "training_loss": loss(model, *own),
            "prediction_centre_error_px": float(centre_error(predicted, val.pixels)[:, given:].mean()),
            "accuracy": float((whole.classify(video).cpu().numpy() == val.label).mean()),
        }
        made = to_frames(whole.generate(list(range(len(NAMES)))))
        pairs = np.stack([val.frames[:SHOWN], predicted[:SHOWN]], axis=1).reshape(-1, *predicted.shape[1:])
        return Look(figures, {"prediction": pairs, "generation": made}, BACKWARD * work / len(video))

    return look


def _learnt(clips: TrainingClips) -> Video:
    return clips.videos(torch.arange(min(CLIPS, len(clips))))
