"""Every figure of the notebooks: arrays in, one matplotlib figure out."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator
from mpl_toolkits.mplot3d import Axes3D

from trajvit.evaluation.ladder import EQUAL, ERRORS, FULL, Ladder
from trajvit.evaluation.measure import Metric
from trajvit.evaluation.scores import Completion
from trajvit.magvit.commit import interior
from trajvit.magvit.tasks import TASKS, task_number
from trajvit.magvit.tokenizer import TokenizerConfig
from trajvit.metrics.calibration import Coverage, Reliability
from trajvit.metrics.lawfulness import Lawfulness
from trajvit.worlds.camera import Camera
from trajvit.worlds.families import NAMES
from trajvit.worlds.film import Clips

COLOURS = ("#3b6fb6", "#d1743a", "#3f9160", "#8a5aa8")
MAGVIT_COLOUR, BASELINE_COLOURS = "#3b6fb6", ("#8c8c8c", "#bfa25a")
VEIL_COLOUR = "#5d7fb0"
SIDE_M = 1.6  # how far from the camera's axis paths are shown

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "image.cmap": "gray",
    }
)


def film_strips(
    rows: dict[str, UInt8[np.ndarray, "T H W C"]], given: int = 0, masked: dict[str, Bool[np.ndarray, "t h w"]] | None = None
) -> Figure:
    """One clip a row, one frame a column; the first `given` frames have coloured edges, and tokens of a row that are `masked` are veiled."""
    times = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), times, figsize=(times * 0.95, len(rows) * 1.0), squeeze=False)
    for line, (title, clip) in zip(axes, rows.items(), strict=True):
        for k, (axis, frame) in enumerate(zip(line, clip, strict=True)):
            axis.imshow(frame.squeeze(), vmin=0, vmax=255)
            if title in (masked or {}):
                _veil(axis, masked[title][k * len(masked[title]) // times], frame.shape[:2])
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            for spine in axis.spines.values():
                spine.set(visible=True, color="#d1743a" if k < given else "#555555", linewidth=1.5 if k < given else 0.5)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    for k, axis in enumerate(axes[0]):
        axis.set_title("given" if k < given else f"t = {k / max(times - 1, 1):.2f} s", fontsize=7, color="#777777")
    return figure


def _veil(axis: plt.Axes, masked: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> None:
    """Cover the squares of a frame whose tokens are masked."""
    height, width = (side / tokens for side, tokens in zip(size, masked.shape, strict=True))
    for row, column in np.argwhere(masked):
        corner = (column * width - 0.5, row * height - 0.5)
        axis.add_patch(Rectangle(corner, width, height, facecolor=VEIL_COLOUR, edgecolor="white", linewidth=0.3))


def generation_passes(frames: UInt8[np.ndarray, "K T H W C"], masked: Bool[np.ndarray, "K t h w"]) -> Figure:
    """How MAGVIT generates a clip: what is there after some of its K passes (`MAGVIT.generation_passes`), veiled where tokens are masked."""
    there = (~masked).sum(axis=(1, 2, 3))
    half = int(there[there < masked[0].size].max(initial=0))
    looks = dict.fromkeys(int((there >= max(1, half * part // 8)).argmax()) for part in (1, 2, 4, 8))
    titles = {f"{there[k]} of {masked[0].size} tokens": k for k in looks if there[k] <= half}
    titles |= {"the rest predicted": int((there == masked[0].size).argmax()), "settled": len(frames) - 1}
    return film_strips(
        {title: frames[k] for title, k in titles.items()}, masked={title: masked[k] for title, k in titles.items()}
    )


def commit_conditions(by_task: dict[str, Completion], shape: TokenizerConfig) -> Figure:
    """What the transformer is given of a clip in some tasks, and what it makes of it: under the veil is [MASK]; elsewhere stands what
    is shown, with its padding."""
    rows, masked = {}, {}
    for name, found in by_task.items():
        rows |= {f"{name}: given": found.shown[0], f"{name}: filled in": found.completed[0]}
        masked[f"{name}: given"] = ~interior(TASKS[task_number(name)], shape.clip, shape.stride).unflatten(0, shape.grid).numpy()
    return film_strips(rows, masked=masked)


def trajectories(clips: Clips) -> Figure:
    """Paths of a few clips a family, seen in 3-D, depth to the back."""
    rows = (len(NAMES) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(8, 3.4 * rows), subplot_kw={"projection": "3d"}, layout="none")
    figure.subplots_adjust(left=0, right=0.96, bottom=0.03, top=0.97, wspace=0.02, hspace=0.1)
    for label, (axis, name) in enumerate(zip(axes.flat, NAMES, strict=False)):
        for path in clips.points[clips.label == label][:6]:
            axis.plot(path[:, 0], path[:, 2], -path[:, 1], ".-", color=COLOURS[label], alpha=0.6, linewidth=1, markersize=3)
        axis.set_title(name)
        _span_the_world(axis)
    return figure


def _span_the_world(axis: Axes3D) -> None:
    """Axes over where balls fly: x to the right, z to the back, up upwards."""
    axis.set(xlabel="x (m)", ylabel="z (m)", zlabel="up (m)", xlim=(-SIDE_M, SIDE_M), zlim=(-SIDE_M, SIDE_M))
    axis.set(ylim=(Camera.NEAREST_M, Camera.FARTHEST_M), xticks=[-1, 0, 1], yticks=[2, 3, 4], zticks=[-1, 0, 1])
    axis.tick_params(labelsize=7, pad=0)
    for each in (axis.xaxis, axis.yaxis, axis.zaxis):
        each.labelpad = -4


def path_in_space(curve: Float[np.ndarray, "S 3"], points: Float[np.ndarray, "T 3"], label: int) -> Figure:
    """One path in 3-D: the smooth curve, the ball at each frame (hollow in the first), and its shadow on the ground.
    Pyplot does not know the figure, so that it can be drawn again and again."""
    figure = Figure(figsize=(3.3, 2.9), layout="none")
    axis = figure.add_axes((0.0, 0.02, 0.94, 0.98), projection="3d")
    colour = COLOURS[label % len(COLOURS)]
    axis.plot(curve[:, 0], curve[:, 2], -SIDE_M, color="#bbbbbb", linewidth=1)
    axis.plot(curve[:, 0], curve[:, 2], -curve[:, 1], color=colour, linewidth=1.5)
    axis.plot(points[1:, 0], points[1:, 2], -points[1:, 1], "o", color=colour, markersize=4)
    axis.plot(points[:1, 0], points[:1, 2], -points[:1, 1], "o", color=colour, markersize=5, markerfacecolor="white")
    _span_the_world(axis)
    return figure


def throughput(rates: dict[str, float]) -> Figure:
    """Clips a second of several ways, by name; the first is the baseline and the last the limit."""
    names, values = list(rates), np.array(list(rates.values()))
    colours = [BASELINE_COLOURS[0], *[MAGVIT_COLOUR] * (len(names) - 2), BASELINE_COLOURS[1]]
    figure, axis = plt.subplots(figsize=(7, 0.5 + 0.42 * len(names)))
    bars = axis.barh(names, values, color=colours, height=0.65)
    said = [f"{value:,.0f} /s ({value / values[0]:.3g} x)" for value in values]
    axis.bar_label(bars, said, padding=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    axis.axvline(values[-1], color=BASELINE_COLOURS[1], linestyle="--", linewidth=1, zorder=0)
    axis.set(xscale="log", xlabel="clips a second", xlim=(values.min() / 3, values.max() * 12))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    return figure


def class_balance(label: Int[np.ndarray, " N"] | UInt8[np.ndarray, " N"]) -> Figure:
    """How many clips there are of each family."""
    counts = np.bincount(label, minlength=len(NAMES))
    figure, axis = plt.subplots(figsize=(4.5, 2.2))
    axis.bar_label(axis.bar(NAMES, counts, color=COLOURS, width=0.6))
    axis.set(ylabel="clips", ylim=(0, counts.max() * 1.2))
    axis.grid(axis="x", visible=False)
    return figure


def where_balls_are(clips: Clips) -> Figure:
    """Where in the frame each family's balls fly: all clips laid over each other."""
    figure, axes = plt.subplots(1, len(NAMES), figsize=(8, 2.3))
    light = [clips.frames[clips.label == label].max(axis=-1).astype(np.float32).mean(axis=(0, 1)) for label in range(len(NAMES))]
    for axis, name, one in zip(axes, NAMES, light, strict=True):
        axis.imshow(one, cmap="magma", vmin=0, vmax=np.max(light))
        axis.set(title=name, xticks=[], yticks=[])
        axis.grid(False)
    return figure


def losses(history: dict[str, dict[str, list[float]]]) -> Figure:
    """The logged parts of each stage's loss against the step, each the mean over the last 4 % of what was logged."""
    figure, axes = plt.subplots(1, len(history), figsize=(5.2 * len(history), 2.8), squeeze=False, layout="constrained")
    for axis, (stage, scalars) in zip(axes[0], history.items(), strict=True):
        for name, values in scalars.items():
            if name not in ("step", "loss", "gradient_norm", "learning_rate"):
                axis.plot(scalars["step"], _smooth(values), label=name, linewidth=1.3)
        parts = [value for line in axis.lines for value in line.get_ydata()]
        scale = "log" if min(parts, default=1) > 0 else "symlog"  # an entropy loss falls below zero
        axis.set(title=stage, xlabel="step", ylabel="loss", yscale=scale)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)  # beside the curves, which fill the axes
    return figure


def _smooth(values: list[float]) -> Float[np.ndarray, " n"]:
    width = max(1, len(values) // 25)
    padded = np.pad(np.asarray(values, float), (width - 1, 0), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def code_frequencies(tokens: Int[np.ndarray, "N t h w"], codes: int) -> Figure:
    """How often each code occurs, commonest first; a flat line would be a codebook in full use."""
    counts = np.sort(np.bincount(tokens.ravel(), minlength=codes))[::-1]
    figure, axis = plt.subplots(figsize=(4.5, 2.4))
    axis.fill_between(np.arange(codes), np.maximum(counts, 0.5), 0.5, step="mid", color=MAGVIT_COLOUR, alpha=0.8)
    axis.axhline(tokens.size / codes, color="#d1743a", linestyle="--", linewidth=1)
    axis.annotate("all codes alike", (codes, tokens.size / codes), ha="right", va="bottom", color="#d1743a", fontsize=7)
    axis.set(yscale="log", xlabel="code, by rank", ylabel="tokens", xlim=(0, codes))
    return figure


def confusion(matrix: Int[np.ndarray, "K K"]) -> Figure:
    """True class down, named class across."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(3.6, 3.2))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    for row, column in np.ndindex(*matrix.shape):
        dark = share[row, column] > 0.6
        axis.text(column, row, matrix[row, column], ha="center", va="center", color="white" if dark else "#333333")
    ticks = range(len(NAMES))
    axis.set(xticks=ticks, yticks=ticks, xlabel="MAGVIT says", ylabel="true family")
    axis.set_xticklabels(NAMES, rotation=30, ha="right")
    axis.set_yticklabels(NAMES)
    return figure


def error_by_frame(error: dict[str, Float[np.ndarray, " T"]], given: int) -> Figure:
    """Mean centre error of each predicted frame, of MAGVIT, of its rivals and of the oracle, named where each line ends."""
    figure, axis = plt.subplots(figsize=(6, 3.2))
    frames = np.arange(given, len(next(iter(error.values())))) + 1
    for name, values in sorted(error.items(), key=lambda item: -item[1][-1]):
        colour = {"magvit": MAGVIT_COLOUR, "oracle": "black"}.get(name, BASELINE_COLOURS[0])
        axis.plot(frames, values[given:], "o-", color=colour, label=name.replace("_", " "), markersize=3)
    _label_ends(axis, frames[-1])
    axis.set(xlabel=f"frame (the first {given} are given)", ylabel="centre error (px)", xticks=frames, yscale="log")
    return figure


def _label_ends(axis: plt.Axes, last: float) -> None:
    """Each line's name beside its end, moved as little as keeps them apart, with a thin line to it; the axis is logarithmic."""
    lines = sorted(axis.lines, key=lambda line: line.get_ydata()[-1])
    ends = [float(np.log10(max(line.get_ydata()[-1], 1e-3))) for line in lines]
    for line, end, place in zip(lines, ends, _apart(ends, 0.13), strict=True):
        axis.annotate(
            line.get_label(),
            (last, 10**end),
            (last + 0.3, 10**place),
            color=line.get_color(),
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.5},
        )
    axis.set_xlim(right=last + 1.4)


def _apart(ends: list[float], gap: float) -> list[float]:
    """Rising `ends`, each moved as little as leaves `gap` between neighbours (isotonic regression, by pooling)."""
    pools: list[list[float]] = []
    for number, end in enumerate(ends):
        pools.append([end - gap * number])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return [float(np.mean(pool)) + gap * number for number, pool in enumerate(pool for pool in pools for _ in pool)]


def accuracy_by_frames(by_frames: dict[str, dict[int, Metric]]) -> Figure:
    """How often the family is named after the first k frames, with 95 % intervals: MAGVIT and Bayes."""
    figure, axis = plt.subplots(figsize=(5, 2.8))
    for name, metrics in by_frames.items():
        frames, value = list(metrics), np.array([metric.value for metric in metrics.values()])
        spread = np.abs(np.array([metric.ci95 for metric in metrics.values()]).T - value)
        colour = MAGVIT_COLOUR if name == "magvit" else "black"
        axis.errorbar(frames, value, yerr=spread, fmt="o-", capsize=3, markersize=4, color=colour, label=name)
    axis.axhline(1 / len(NAMES), color=BASELINE_COLOURS[0], linestyle="--", linewidth=1, label="chance")
    axis.set(
        xlabel="frames seen", ylabel="families named rightly", xticks=sorted(set().union(*by_frames.values())), ylim=(0, 1.03)
    )
    axis.legend()
    return figure


def calibration(sure: Reliability, coverage: dict[str, Coverage]) -> Figure:
    """Left, how right MAGVIT is against how sure it is of the family; right, how often the truth lies in the regions that
    its samples span against how often it should."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    for axis in (left, right):
        axis.plot([0, 1], [0, 1], color=BASELINE_COLOURS[0], linestyle="--", linewidth=1, label="as it should be")
        axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    some = sure.count > 0
    left.scatter(sure.confidence[some], sure.accuracy[some], s=8 + 120 * sure.count[some] / sure.count.sum(), color=MAGVIT_COLOUR)
    left.set(xlabel="how sure of the family (a dot's size: how many clips)", ylabel="how often right", title="family")
    colours = {"magvit": MAGVIT_COLOUR, "oracle": "black", "one_answer": BASELINE_COLOURS[1]}
    for name, one in coverage.items():
        level, covered = np.insert(one.level, 0, 0), np.insert(one.covered, 0, 0)
        right.plot(level, covered, "o-", markersize=3, color=colours[name], label=name.replace("_", " "))
    right.set(xlabel="nominal coverage", ylabel="observed coverage", title="the ball's place in ten futures")
    right.legend(fontsize=7)
    return figure


def lawful_paths(laws: Lawfulness, frames: UInt8[np.ndarray, "N T H W C"], labels: Int[np.ndarray, " N"]) -> Figure:
    """Five generated clips of each family, all frames of each laid over one another, with the nearest path of its family drawn through
    and how far the ball is from it; what is too far, or no one ball, is marked."""
    curves, each = laws.curves(), 5
    figure, axes = plt.subplots(len(NAMES), each, figsize=(1.5 * each, 1.6 * len(NAMES)), squeeze=False)
    for label, (line, name) in enumerate(zip(axes, NAMES, strict=True)):
        for axis, row in zip(line, np.flatnonzero(labels == label), strict=False):
            axis.imshow(frames[row].max(axis=(0, -1)), vmin=0, vmax=255)
            axis.plot(*curves[row].T, color=COLOURS[1], linewidth=1)
            axis.set(xlim=(-0.5, frames.shape[3] - 0.5), ylim=(frames.shape[2] - 0.5, -0.5))
            said = f"{'' if laws.lawful[row] else '✗ '}{laws.residual[row]:.2f} px" if laws.single[row] else "✗ not one ball"
            axis.set_title(said, fontsize=7, color=COLOURS[2] if laws.lawful[row] else "#b3261e")
        line[0].set_ylabel(name)
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    return figure


def ladder(climbed: Ladder) -> Figure:
    """Errors, both axes logarithmic, and accuracy against the number of training clips: the curves of equal and of full
    compute with 95 % intervals, the law through each, and what is reached by simple answers and at best."""
    rungs = climbed.rungs
    if not rungs:
        figure = plt.figure(figsize=(4, 1))
        figure.text(0.5, 0.5, "no rung was climbed", ha="center", va="center")
        return figure
    samples = sorted({rung.plan.samples for rung in rungs})
    beyond = np.unique(np.geomspace(samples[0], max(plan.samples for plan in climbed.further), 40).astype(int))
    figure, axes = plt.subplots(1, len(rungs[0].metrics), figsize=(4.2 * len(rungs[0].metrics), 3.6))
    for axis, (name, metric) in zip(axes, rungs[0].metrics.items(), strict=True):
        for compute, colour, marker in ((EQUAL, COLOURS[1], "s"), (FULL, MAGVIT_COLOUR, "o")):
            some = climbed.at(compute)
            law = climbed.law(compute, name) if name in ERRORS else None
            if law is not None:
                low, high = np.array([law.ci95_at(int(size)) for size in beyond]).T
                style = "-" if law.determined else ":"
                axis.plot(beyond, [law.at(int(size)) for size in beyond], style, color=colour, linewidth=0.9)
                axis.fill_between(beyond, low, high, color=colour, alpha=0.12, linewidth=0)
            x, metrics = [rung.plan.samples for rung in some], [rung.metrics[name] for rung in some]
            value = np.array([one.value for one in metrics])
            spread = np.abs(np.array([one.ci95 for one in metrics]).reshape(-1, 2).T - value)
            joined = "" if law is not None else "-"
            axis.errorbar(
                x, value, yerr=spread, fmt=marker + joined, capsize=3, markersize=4, color=colour, label=f"{compute} compute"
            )
        for (baseline, level), colour in zip(metric.baselines.items(), BASELINE_COLOURS, strict=False):
            axis.axhline(level, color=colour, linestyle="--", linewidth=1, label=baseline.replace("_", " "))
        if metric.limit is not None:
            axis.axhline(metric.limit, color="black", linewidth=1, label="limit")
        axis.set(xscale="log", xlabel="training clips", title=name.replace("_", " "), xticks=samples)
        axis.set_xticklabels([f"{size:,}" for size in samples])
        axis.minorticks_off()
        if metric.more_is_better:
            axis.set_ylim(0, 1.03)
        else:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
        axis.legend(fontsize=7)
    return figure
