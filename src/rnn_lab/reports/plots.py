"""Plot a finished run from the files in its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_lab.iteration import pick_evenly
from rnn_lab.reports import plot_style as style
from rnn_lab.reports.evaluation_curves import (
    MACRO,
    NOT_MULTILABEL,
    Curve,
    class_curves,
    length_bins,
    reliability,
    wilson_interval,
)
from rnn_lab.reports.formatting import (
    distance_label,
    format_count,
    format_metric,
    format_percent,
    format_run,
    is_language_model,
    is_share,
    plot_label,
)
from rnn_lab.reports.learning_curves import read_learning_curves
from rnn_lab.runs.gradient_flow import GradientFlowCurve, by_place, read_gradient_flow
from rnn_lab.runs.jobs import MONITORED
from rnn_lab.runs.metrics import (
    GRAD_NORM,
    LEARNING_RATE,
    by_epoch,
    by_step,
)
from rnn_lab.runs.predictions import Predictions, read_predictions
from rnn_lab.runs.result_json import read_result, recorded_mode

MAX_NAMED_CURVES = len(style.COLOURS)  # with more, colours are too similar
MAX_LABELLED_CLASSES = 25  # with more, the numbers in a confusion matrix are too small
FLOAT32_MIN = 1.2e-38  # the smallest normal number of float32, in which a model is trained
MAX_NAMED_STEPS = 6  # of a gradient flow: the first, the last and some between


def draw_plots(run_folder: Path) -> list[Path]:
    """Draw every plot of a run, or of an evaluation of one, into its folder `plots`.

    Returns:
        the paths of the plots.

    Raises:
        CheckpointError: a file of the run is missing or malformed.
    """
    folder = run_folder / "plots"
    plots = make_plots(run_folder)
    return [style.save_png(plot, folder / f"{name}.png") for name, plot in plots.items()]


def make_plots(run_folder: Path) -> dict[str, Figure]:
    """Return every plot of a run by name.

    An evaluation, whose result.json names a `checkpoint`, has no learning curves. A run that was
    not tested has no plots of predictions. Where a text has any number of labels, there are no
    plots of NOT_MULTILABEL.
    """
    result = read_result(run_folder)
    run = format_run(result)
    plots = {}
    if "checkpoint" not in result:
        monitor = str(result.get(MONITORED))
        metrics = read_learning_curves(run_folder, monitor, recorded_mode(result))
        curves = ("loss", "perplexity" if is_language_model(result) else "accuracy")
        plots["learning_curves"] = plot_learning_curves(
            run, metrics, result["best_epoch"], curves=curves
        )
    if flows := read_gradient_flow(run_folder):
        plots["gradient_flow"] = plot_gradient_flow(run, flows)
    is_tested = any(name.startswith("test/") for name in result)
    if is_tested and not is_language_model(result):
        predictions = read_predictions(run_folder)
        makers: dict[str, Callable[[str, Predictions], Figure]] = {
            "confusion_matrix": plot_confusion_matrix,
            "roc_and_precision_recall": plot_roc_and_precision_recall,
            "length_and_accuracy": plot_length_and_accuracy,
            "calibration": plot_calibration,
        }
        omitted = NOT_MULTILABEL if predictions.is_multilabel else ()
        plots |= {n: make(run, predictions) for n, make in makers.items() if n not in omitted}
    return plots


def plot_learning_curves(
    run: str,
    metrics: dict[str, np.ndarray],
    best_epoch: int | None,
    *,
    curves: tuple[str, str] = ("loss", "accuracy"),
) -> Figure:
    """Plot `curves` by epoch; learning rate and gradient norm by step, if logged.

    The headline has the last of the curves at the best epoch.
    """
    columns = (
        ("Learning rate", LEARNING_RATE, style.GREEN),
        ("Gradient norm", GRAD_NORM, style.PINK),
    )
    lower = [column for column in columns if column[1] in metrics]

    headline = "Learning curves"
    epochs, values = by_epoch(metrics, f"val/{curves[-1]}")
    is_percentage = is_share(curves[-1])
    if best_epoch in epochs:
        at_best = values[epochs == best_epoch][0]
        shown = format_percent(at_best) if is_percentage else format_metric(curves[-1], at_best)
        headline += f": best epoch {best_epoch}, validation {curves[-1]} {shown}"
    figure = style.make_figure(10, 7.2 if lower else 4.4, headline, run)
    heights = [3, 2] if lower else [3]
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for column, name in enumerate(curves):
        axes = style.make_axes(figure, grid[0, column], name.capitalize(), "epoch")
        _plot_by_epoch(axes, metrics, name, best_epoch)
    if is_percentage:
        style.use_percent_ticks(axes.yaxis)
    for column, (title, name, colour) in enumerate(lower):
        place = grid[1, column] if len(lower) == 2 else grid[1, :]
        axes = style.make_axes(figure, place, title, "optimizer step")
        axes.plot(*by_step(metrics, name), color=colour, linewidth=1.4)
        axes.set_ylim(bottom=0)
        style.use_integer_ticks(axes.xaxis)
    return figure


def _plot_by_epoch(
    axes: Axes, metrics: dict[str, np.ndarray], name: str, best_epoch: int | None
) -> None:
    train, (epochs, values) = (by_epoch(metrics, f"{split}/{name}") for split in ("train", "val"))
    axes.plot(*train, "o-", color=style.ORANGE, ms=4, label="train")
    axes.plot(epochs, values, "o-", color=style.BLUE, ms=4, label="validation")
    if best_epoch is not None and best_epoch in epochs:
        axes.axvline(best_epoch, color=style.GREY, linestyle=":", zorder=0)
        best = values[epochs == best_epoch]
        ring: dict[str, Any] = {"ms": 11, "fillstyle": "none", "markeredgewidth": 1.8}
        axes.plot([best_epoch], best, "o", color=style.BLUE, label="best epoch", **ring)
    if len(epochs):
        axes.set_xlim(epochs[0] - 0.3, epochs[-1] + 0.3)
    style.use_integer_ticks(axes.xaxis)
    style.add_legend(axes)


def plot_gradient_flow(run: str, flows: list[GradientFlowCurve]) -> Figure:
    """Plot the norm of dL/dh_t by distance, axes per layer and direction, a curve per step."""
    places = by_place(flows)
    rows = len({layer for layer, _ in places})
    columns = len(places) // rows
    headline = "Gradient flow: gradient of the loss with respect to each hidden state"
    figure = style.make_figure(5.2 + 4.0 * columns, 1.6 + 3.4 * rows, headline, run)
    grid = figure.add_gridspec(rows, columns)
    for i, ((layer, direction), curves) in enumerate(places.items()):
        title = f"Layer {layer + 1}, {direction}" if len(places) > 1 else ""
        axes = style.make_axes(figure, grid[i], title, distance_label(direction), "norm of dL/dh")
        _plot_steps(axes, curves)
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}
    style.add_legend(figure.axes[columns - 1], title="optimizer steps", **place)
    return figure


def _plot_steps(axes: Axes, flows: list[GradientFlowCurve]) -> None:
    """Plot a curve per step, from yellow at the start to dark blue at the end."""
    last = max(len(flows) - 1, 1)
    named = set(pick_evenly(len(flows), MAX_NAMED_STEPS))
    for i, flow in enumerate(flows):
        axes.plot(
            flow.distances,
            flow.norms,
            color=colormaps["viridis_r"](0.08 + 0.92 * i / last),
            linewidth=2.2 if i in (0, last) else 1.2,
            linestyle="--" if i == 0 else "-",
            label=f"{flow.step:,}" if i in named else None,
        )
    use_flow_scales(axes, flows)


def use_flow_scales(axes: Axes, flows: Sequence[GradientFlowCurve]) -> None:
    """Scale axes of gradient flows: norms logarithmically, cut off where float32 underflows."""
    style.use_integer_ticks(axes.xaxis)
    axes.set_yscale("log")
    norms = np.concatenate([flow.norms for flow in flows])
    norms = norms[np.isfinite(norms) & (norms > 0)]
    if not len(norms):
        return
    lowest, highest = max(norms.min(), FLOAT32_MIN), max(norms.max(), FLOAT32_MIN)
    axes.set_ylim(lowest / 3, highest * 3)
    if norms.min() < FLOAT32_MIN:
        axes.axhline(FLOAT32_MIN, color=style.GREY, linestyle=":", linewidth=1.2)
        axes.text(
            0.99, FLOAT32_MIN * 2, "below this, float32 underflows", color=style.GREY, fontsize=9,
            ha="right", va="bottom", transform=axes.get_yaxis_transform(),
            bbox={"color": "white", "alpha": 0.8, "pad": 1},
        )  # fmt: skip


def plot_confusion_matrix(run: str, predictions: Predictions) -> Figure:
    """Plot counts and shares of each true class (a row), the share as depth of colour."""
    size = len(predictions.class_names)
    pairs = predictions.labels * size + predictions.predicted
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [plot_label(name) for name in predictions.class_names]
    labelled = size <= MAX_LABELLED_CLASSES
    slanted = size > 6 or max(map(len, names)) > 14

    side = float(np.clip(size * 0.4, 3.8, 9.5))
    headline = f"Confusion matrix: {_format_accuracy(predictions)}"
    width = max(side + (2 if labelled else 3), 6.4)
    figure = style.make_figure(width, side + (2.1 if slanted else 1.5), headline, run)
    place = figure.add_gridspec(1, 1)[0]
    axes = style.make_axes(figure, place, "", "predicted class", "true class")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5 if labelled else 6)
    axes.set_yticks(range(size), names)
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(size), names, **(slant if slanted else {}))
    if not labelled:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row")
        style.use_percent_ticks(bar.ax.yaxis)
        return figure
    font_size = 13 if size <= 4 else 10 if size <= 8 else 7.5
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        text = f"{counts[row, column]:,}\n{format_percent(share, 1 if size <= 8 else 0)}"
        colour = "white" if share > 0.7 else style.INK
        axes.text(column, row, text, ha="center", va="center", fontsize=font_size, color=colour)
    return figure


def plot_roc_and_precision_recall(run: str, predictions: Predictions) -> Figure:
    """Plot both curves of each class against the rest; of two classes, of the second alone."""
    curves = class_curves(predictions)
    headline = "ROC and precision-recall"
    if curves:
        last = curves[-1]
        macro = "macro " if last.name == MACRO else ""
        headline += f": {macro}AUROC {last.auroc:.3f}"
        headline += f", {macro}average precision {last.average_precision:.3f}"
    named = len(curves) if len(curves) <= MAX_NAMED_CURVES + 1 else 2
    figure = style.make_figure(11, 5.6 + 0.2 * named, headline, run)  # a line of legend for each
    grid = figure.add_gridspec(1, 2)
    each = ", each class against the rest" if len(curves) > 1 else ""
    rates = "false-positive rate", "true-positive rate"
    left = style.make_axes(figure, grid[0], f"ROC{each}", *rates)
    right = style.make_axes(figure, grid[1], f"Precision-recall{each}", "recall", "precision")
    for axes in (left, right):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        if not curves:
            note = "no curve: all test examples\nhave the same class"
            axes.text(0.5, 0.5, note, ha="center", va="center", color=style.GREY)
    if not curves:
        return figure
    chance: dict[str, Any] = {"color": style.GREY, "linestyle": ":", "linewidth": 1.2}
    left.plot([0, 1], [0, 1], label="chance: 0.500", **chance)
    right.axhline(last.base_rate, label=f"base rate: {last.base_rate:.3f}", **chance)
    for one, name, colour, linewidth in _styled(curves):
        line: dict[str, Any] = {"color": colour, "linewidth": linewidth}
        areas = one.auroc, one.average_precision
        roc, pr = (f"{name}: {area:.3f}" if name else None for area in areas)
        left.plot(one.false_positive_rate, one.true_positive_rate, label=roc, **line)
        right.plot(one.recall, one.precision, drawstyle="steps-pre", label=pr, **line)
    for axes, title in ((left, "area under the curve"), (right, "average precision")):
        style.add_legend(axes, title=title, loc="upper left", bbox_to_anchor=(-0.03, -0.12))
    return figure


def _styled(curves: list[Curve]) -> list[tuple[Curve, str | None, str, float]]:
    """Return each curve, its label, colour and width; with many classes, highlight the weakest."""
    *classes, last = curves
    if last.name != MACRO:
        return [(last, plot_label(last.name), style.BLUE, 2)]
    if len(classes) <= MAX_NAMED_CURVES:
        named = zip(classes, style.COLOURS, strict=False)
        each = [(one, plot_label(one.name), colour, 1.4) for one, colour in named]
        return [*each, (last, MACRO, style.INK, 2.4)]
    weakest = min(classes, key=lambda one: one.auroc)
    return [
        *((one, None, style.PALE, 1) for one in classes if one is not weakest),
        (weakest, f"weakest, {plot_label(weakest.name)}", style.ORANGE, 1.6),
        (last, MACRO, style.BLUE, 2.4),
    ]


def plot_length_and_accuracy(run: str, predictions: Predictions) -> Figure:
    """Plot the accuracy in bins of length, with 95 % Wilson intervals and counts."""
    longest, position = length_bins(predictions.lengths)
    shortest = [int(predictions.lengths[position == i].min()) for i in range(len(longest))]
    counts, hits = np.bincount(position), np.bincount(position, predictions.correct)
    x = np.arange(len(longest))
    median = float(np.median(predictions.lengths))
    # Bins are one unit wide, whatever they span; a bin of a single length has it in the middle.
    edges = np.stack([np.subtract(shortest, 0.5), np.add(longest, 0.5)], axis=1)
    median_x = float(np.interp(median, edges.ravel(), np.stack([x - 0.5, x + 0.5], axis=1).ravel()))

    headline = f"Accuracy by length: {_format_accuracy(predictions)}"
    figure = style.make_figure(10, 6.2, headline, run)
    grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
    upper = style.make_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    lower = style.make_axes(figure, grid[1], "", "length in tokens", "test examples")
    _plot_shares(upper, x, hits, counts, fmt="o")
    overall = predictions.correct.mean()
    upper.axhline(overall, color=style.GREY, linewidth=1, zorder=0)
    upper.set_xticks(x, [])
    bars = lower.bar(x, counts, color=style.SKY, width=0.7)
    labels = [f"{count:,}" for count in counts]
    # The line of the median may be in the middle of a bar, whose count has to stay readable.
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    lower.bar_label(bars, labels, fontsize=9, color=style.INK, padding=2, bbox=behind)
    lower.set_yticks([])
    lower.margins(y=0.25)
    ends = zip(shortest, longest, strict=True)
    lower.set_xticks(x, [f"{a:,}\N{EN DASH}{b:,}" if a < b else f"{a:,}" for a, b in ends])
    for axes in (upper, lower):
        axes.grid(False, axis="x")
        axes.set_xlim(-0.6, len(x) - 0.4)
        axes.axvline(median_x, color=style.AMBER, linestyle="--", linewidth=1.4, zorder=0)
    at_top, at_right = upper.get_xaxis_transform(), upper.get_yaxis_transform()
    label = f"median: {median:,.10g} tokens"
    upper.text(median_x, 1.01, label, transform=at_top, ha="center", va="bottom", color=style.INK)
    upper.text(1.005, overall, "all", transform=at_right, va="center", color=style.INK)
    return figure


def plot_calibration(run: str, predictions: Predictions) -> Figure:
    """Plot a reliability diagram: accuracy by the probability of the predicted class."""
    bins = reliability(predictions)
    headline = f"Calibration: expected calibration error {bins.error:.3f}"
    figure = style.make_figure(7.4, 6.6, headline, run)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    upper = style.make_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    labels = "probability of the predicted class", "test examples"
    lower = style.make_axes(figure, grid[1], "", *labels)
    upper.plot([0, 1], [0, 1], color=style.GREY, linestyle=":", label="perfectly calibrated")
    _plot_shares(upper, bins.confidence, bins.hits, bins.counts, fmt="o-", label="this model")
    upper.set_ylim(-0.02, 1.02)
    upper.tick_params(labelbottom=False)
    style.add_legend(upper)
    bars: dict[str, Any] = {"align": "edge", "color": style.SKY, "edgecolor": "white"}
    lower.bar(bins.starts, bins.counts, bins.width, **bars)
    style.use_integer_ticks(lower.yaxis)
    for axes in (upper, lower):
        axes.set_xlim(1 / len(predictions.class_names) - 0.04, 1.02)
        style.use_percent_ticks(axes.xaxis)
    return figure


def _format_accuracy(predictions: Predictions) -> str:
    examples = format_count(len(predictions.labels), "test example")
    return f"{format_percent(predictions.correct.mean())} of {examples} correct"


def _plot_shares(
    axes: Axes, x: np.ndarray, hits: np.ndarray, counts: np.ndarray, **options: Any
) -> None:
    """Plot hits / counts in percent with Wilson intervals."""
    share, (low, high) = hits / counts, wilson_interval(hits, counts)
    # Rounding can put an end of the interval 1e-17 inside a share of 0 or 1.
    ends = np.maximum([share - low, high - share], 0)
    axes.errorbar(x, share, ends, color=style.BLUE, ms=6.5, capsize=4, elinewidth=1.5, **options)
    style.use_percent_ticks(axes.yaxis)
