"""How fast MAGVIT learns and decodes here, each figure beside what the machine or the other way of decoding gives."""

import time

import torch

from trajvit.datasets.loading import ClipSet
from trajvit.magvit.autoregressive import AutoregressiveTransformer
from trajvit.magvit.decoding import DecodingConfig, Prompt, clip_noise, decode
from trajvit.magvit.quantizers import FSQConfig
from trajvit.magvit.tasks import TASKS, task_number
from trajvit.magvit.tokenizer import Tokenizer
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.training.loop import FitConfig, Training
from trajvit.training.objectives import MaskedModelling, Reconstruction
from trajvit.training.peak import flops, matmul_peak, seconds_a_call
from trajvit.training.recipe import Recipe
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.film import film

SIZES = ("nano", "small")
CLIPS = 128
GRIDS = {64: (4, 4, 4), 256: (4, 8, 8), 1024: (4, 16, 16)}
PERIOD_S = 3.0
LENGTHS_TIMED = 4  # of an uncached decoding, whose steps grow evenly


def bench_train() -> dict[str, float]:
    """Training steps of both stages on `compact` clips: samples a second, and the share of the machine's peak.

    The peak is that of a product of two 2048 x 2048 matrices in the same precision, `peak_gflops`, measured before and after. The
    arithmetic of a step is that of its products and convolutions, forward and backward; optimizer, norms and
    activations take time and count for nothing.
    """
    clips = film(WorldConfig(), 0, "train", 0, CLIPS)
    memory = ClipSet(torch.from_numpy(clips.frames), torch.from_numpy(clips.label).long())
    result: dict[str, float] = {"threads": torch.get_num_threads()}
    peak = matmul_peak()
    for size in SIZES:
        recipe = Recipe(size=size)
        tokenizer_config, transformer_config = recipe.models(WorldConfig())
        tokenizer = Tokenizer(tokenizer_config)
        for stage, batch, objective in (
            (
                "tokenizer",
                recipe.tokenizer_batch,
                Reconstruction(Tokenizer(tokenizer_config), memory, recipe.foreground_weight, recipe.tokenizer_light),
            ),
            (
                "transformer",
                recipe.transformer_batch,
                MaskedModelling(
                    MaskedTransformer(transformer_config), tokenizer, memory, recipe.loss_parts, recipe.transformer_light
                ),
            ),
        ):
            training = Training(objective, FitConfig(steps=10**6, batch_size=batch, learning_rate=1e-3, device="cpu"))
            training.prepare()
            work = flops(lambda training=training: training.step(0))
            work -= sum(flops(optimizer.step) for player in training.players for optimizer in player.optimizers)
            seconds = seconds_a_call(lambda training=training: training.step(1), PERIOD_S)
            result[f"{size}_{stage}_samples_per_s"] = batch / seconds
            result[f"{size}_{stage}_gflops"] = work / seconds / 1e9
    result["peak_gflops"] = (peak + matmul_peak()) / 2
    for name in [name for name in result if name.endswith("r_gflops")]:
        result[name.replace("gflops", "share_of_peak")] = result[name] / result["peak_gflops"]
    return {name: float(f"{value:.4g}") for name, value in result.items()}


def bench_decode() -> dict[str, float]:
    """Clips a second that are decoded in 12 steps, and token by token by a transformer of the same width and depth.

    The autoregressive one without its cache is timed at evenly spread lengths, since its steps grow evenly, and the
    sum of all is computed. Untrained weights: they do not change the time.
    """
    result: dict[str, float] = {"threads": torch.get_num_threads()}
    decoding = DecodingConfig()
    for length, grid in GRIDS.items():
        config = TransformerConfig.named("nano", grid=grid, levels=FSQConfig().levels, classes=4, tasks=len(TASKS))
        masked, autoregressive = MaskedTransformer(config).eval(), AutoregressiveTransformer(config).eval()
        for batch in (1, 64):
            label = torch.arange(batch) % 4
            nothing = torch.full((batch, length, len(config.levels)), torch.nan)
            prompt = Prompt(nothing, torch.full((batch,), task_number("CG")), label)
            noise = torch.from_numpy(clip_noise(0, range(batch), decoding, length, config.levels))
            seconds = {
                "12_steps": seconds_a_call(lambda m=masked, p=prompt, n=noise: decode(m, p, decoding, n), PERIOD_S),
                "cached": _cached_seconds(autoregressive, label),
                "uncached": _uncached_seconds(autoregressive, label),
            }
            for name, value in seconds.items():
                result[f"{length}_tokens_batch_{batch}_{name}_per_s"] = batch / value
            result[f"{length}_tokens_batch_{batch}_over_cached"] = seconds["cached"] / seconds["12_steps"]
            result[f"{length}_tokens_batch_{batch}_over_uncached"] = seconds["uncached"] / seconds["12_steps"]
    return {name: float(f"{value:.4g}") for name, value in result.items()}


def _cached_seconds(model: AutoregressiveTransformer, label) -> float:
    started = time.perf_counter()
    model.generate(label)
    return time.perf_counter() - started


@torch.no_grad()
def _uncached_seconds(model: AutoregressiveTransformer, label) -> float:
    """All of a decoding's steps from a few of them: the mean step at evenly spread lengths, times their number."""
    length, seconds = model.config.length, []
    for part in range(LENGTHS_TIMED):
        tokens = torch.zeros(len(label), int((part + 0.5) / LENGTHS_TIMED * length), dtype=torch.long)
        model(tokens, label)
        started = time.perf_counter()
        model(tokens, label)
        seconds.append(time.perf_counter() - started)
    return length * sum(seconds) / len(seconds)
