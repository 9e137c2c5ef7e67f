"""Plot a finished run from the files in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.evaluation_curves import (
    MACRO,
    Curve,
    class_curves,
    length_bins,
    reliability,
    wilson_interval,
)
from rnn_lab.reports.formatting import format_count, format_percent, format_run, plot_label
from rnn_lab.reports.gradient_flow import plot_gradient_flow
from rnn_lab.reports.plot_style import (
    AMBER,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PINK,
    SKY,
    add_legend,
    make_axes,
    make_figure,
    save_png,
    use_integer_ticks,
    use_percent_ticks,
)
from rnn_lab.reports.run_files import (
    Predictions,
    by_epoch,
    by_step,
    read_gradient_flow,
    read_metrics,
    read_predictions,
    read_result,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_CURVES = len(COLOURS)  # with more, colours are too similar
MAX_LABELLED_CLASSES = 25  # with more, the numbers in a confusion matrix are too small


def draw_plots(run_folder: Path) -> list[Path]:
    """Draw every plot of a run, or of an evaluation of one, into its folder `plots`.

    An evaluation, whose result.json names a `checkpoint`, has no learning curves. A run that was
    not tested has no plots of predictions.

    Returns:
        the paths of the plots.

    Raises:
        CheckpointError: a file of the run is missing or malformed.
    """
    folder = run_folder / "plots"
    return [save_png(plot, folder / f"{name}.png") for name, plot in make_plots(run_folder).items()]


def make_plots(run_folder: Path) -> dict[str, "Figure"]:
    """Return every plot of a run by name."""
    result = read_result(run_folder)
    run = format_run(result)
    plots = {}
    if "checkpoint" not in result:
        metrics = read_metrics(run_folder)
        plots["learning_curves"] = plot_learning_curves(run, metrics, result["best_epoch"])
    if flows := read_gradient_flow(run_folder):
        plots["gradient_flow"] = plot_gradient_flow(run, flows)
    if not any(name.startswith("test/") for name in result):
        return plots  # the run was not tested
    predictions = read_predictions(run_folder)
    return plots | {
        "confusion_matrix": plot_confusion_matrix(run, predictions),
        "roc_and_precision_recall": plot_roc_and_precision_recall(run, predictions),
        "length_and_accuracy": plot_length_and_accuracy(run, predictions),
        "calibration": plot_calibration(run, predictions),
    }


def plot_learning_curves(
    run: str, metrics: dict[str, np.ndarray], best_epoch: int | None
) -> "Figure":
    """Plot loss and accuracy by epoch; learning rate and gradient norm by step, if logged."""
    by_steps = {
        "Learning rate": [name for name in metrics if name.startswith("lr")],
        "Gradient norm": [name for name in metrics if "grad" in name and "norm" in name],
    }
    lower = [(title, columns[0]) for title, columns in by_steps.items() if columns]

    headline = "Learning curves"
    epochs, accuracy = by_epoch(metrics, "val/accuracy")
    if best_epoch in epochs:
        at_best = accuracy[epochs == best_epoch][0]
        headline += f": best epoch {best_epoch}, validation accuracy {format_percent(at_best)}"
    figure = make_figure(10, 7.2 if lower else 4.4, headline, run)
    heights = [3, 2] if lower else [3]
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    loss = make_axes(figure, grid[0, 0], "Loss", "epoch")
    right = make_axes(figure, grid[0, 1], "Accuracy", "epoch")
    _plot_by_epoch(loss, metrics, "loss", best_epoch)
    _plot_by_epoch(right, metrics, "accuracy", best_epoch)
    use_percent_ticks(right.yaxis)
    for column, (title, name) in enumerate(lower):
        place = grid[1, column] if len(lower) == 2 else grid[1, :]
        axes = make_axes(figure, place, title, "optimizer step")
        colour = GREEN if title == "Learning rate" else PINK
        axes.plot(*by_step(metrics, name), color=colour, linewidth=1.4)
        axes.set_ylim(bottom=0)
        use_integer_ticks(axes.xaxis)
    return figure


def _plot_by_epoch(
    axes: "Axes", metrics: dict[str, np.ndarray], name: str, best_epoch: int | None
) -> None:
    for split, colour, label in (("train", ORANGE, "train"), ("val", BLUE, "validation")):
        axes.plot(*by_epoch(metrics, f"{split}/{name}"), "o-", color=colour, ms=4, label=label)
    epochs, values = by_epoch(metrics, f"val/{name}")
    if best_epoch is not None and best_epoch in epochs:
        axes.axvline(best_epoch, color=GREY, linestyle=":", zorder=0)
        best = values[epochs == best_epoch]
        ring: dict[str, Any] = {"ms": 11, "fillstyle": "none", "markeredgewidth": 1.8}
        axes.plot([best_epoch], best, "o", color=BLUE, label="best epoch", **ring)
    if len(epochs):
        axes.set_xlim(epochs[0] - 0.3, epochs[-1] + 0.3)
    use_integer_ticks(axes.xaxis)
    add_legend(axes)


def plot_confusion_matrix(run: str, predictions: Predictions) -> "Figure":
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
    figure = make_figure(width, side + (2.1 if slanted else 1.5), headline, run)
    axes = make_axes(figure, figure.add_gridspec(1, 1)[0], "", "predicted class", "true class")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5 if labelled else 6)
    axes.set_yticks(range(size), names)
    axes.set_xticks(range(size), names)
    if slanted:
        axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    if not labelled:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row")
        use_percent_ticks(bar.ax.yaxis)
        return figure
    font_size = 13 if size <= 4 else 10 if size <= 8 else 7.5
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        shown = format_percent(share) if size <= 8 else f"{100 * share:.0f} %"
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}\n{shown}",
            ha="center",
            va="center",
            fontsize=font_size,
            color="white" if share > 0.7 else INK,
        )
    return figure


def plot_roc_and_precision_recall(run: str, predictions: Predictions) -> "Figure":
    """Plot both curves of each class against the rest; of two classes, of the second alone."""
    curves = class_curves(predictions)
    headline = "ROC and precision-recall"
    if curves:
        last = curves[-1]
        macro = "macro " if last.name == MACRO else ""
        headline += f": {macro}AUROC {last.auroc:.3f}"
        headline += f", {macro}average precision {last.average_precision:.3f}"
    named = len(curves) if len(curves) <= MAX_NAMED_CURVES + 1 else 2
    figure = make_figure(11, 5.6 + 0.2 * named, headline, run)  # a line of legend for each
    grid = figure.add_gridspec(1, 2)
    each = ", each class against the rest" if len(curves) > 1 else ""
    left = make_axes(figure, grid[0], f"ROC{each}", "false-positive rate", "true-positive rate")
    right = make_axes(figure, grid[1], f"Precision-recall{each}", "recall", "precision")
    for axes in (left, right):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        if not curves:
            note = "no curve: all test examples\nhave the same class"
            axes.text(0.5, 0.5, note, ha="center", va="center", color=GREY)
    if not curves:
        return figure
    chance: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.2}
    left.plot([0, 1], [0, 1], label="chance: 0.500", **chance)
    right.axhline(last.base_rate, label=f"base rate: {last.base_rate:.3f}", **chance)
    for one, name, style in _styled(curves):
        areas = one.auroc, one.average_precision
        roc, pr = (f"{name}: {area:.3f}" if name else None for area in areas)
        left.plot(one.false_positive_rate, one.true_positive_rate, label=roc, **style)
        right.plot(one.recall, one.precision, drawstyle="steps-pre", label=pr, **style)
    for axes, title in ((left, "area under the curve"), (right, "average precision")):
        add_legend(axes, title=title, loc="upper left", bbox_to_anchor=(-0.03, -0.12))
    return figure


def _styled(curves: list[Curve]) -> Sequence[tuple[Curve, str | None, dict[str, Any]]]:
    """Return the label and style of each curve; with many classes, highlight the weakest."""
    if curves[-1].name != MACRO:
        return [(curves[0], plot_label(curves[0].name), {"color": BLUE, "linewidth": 2})]
    *classes, macro = curves
    if len(classes) <= MAX_NAMED_CURVES:
        return [
            (one, plot_label(one.name), {"color": colour, "linewidth": 1.4})
            for one, colour in zip(classes, COLOURS, strict=False)
        ] + [(macro, MACRO, {"color": INK, "linewidth": 2.4})]
    weakest = min(classes, key=lambda one: one.auroc)
    return [
        *((one, None, {"color": PALE, "linewidth": 1}) for one in classes if one is not weakest),
        (weakest, f"weakest, {plot_label(weakest.name)}", {"color": ORANGE, "linewidth": 1.6}),
        (macro, MACRO, {"color": BLUE, "linewidth": 2.4}),
    ]


def plot_length_and_accuracy(run: str, predictions: Predictions) -> "Figure":
    """Plot the accuracy in bins of length, with 95 % Wilson intervals and counts."""
    longest, position = length_bins(predictions.lengths)
    shortest = [int(predictions.lengths[position == i].min()) for i in range(len(longest))]
    counts, hits = np.bincount(position), np.bincount(position, predictions.correct)
    x = np.arange(len(longest))
    median = float(np.median(predictions.lengths))
    # Bins are one unit wide, whatever they span: half of the examples are left of the median.
    total = np.append(0, np.cumsum(counts))
    median_x = float(np.interp(total[-1] / 2, total, np.arange(len(total)) - 0.5))

    figure = make_figure(10, 6.2, f"Accuracy by length: {_format_accuracy(predictions)}", run)
    grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
    upper = make_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    lower = make_axes(figure, grid[1], x_label="length in tokens", y_label="test examples")
    _plot_shares(upper, x, hits, counts, fmt="o")
    overall = predictions.correct.mean()
    upper.axhline(overall, color=GREY, linewidth=1, zorder=0)
    upper.set_xticks(x, [])
    bars = lower.bar(x, counts, color=SKY, width=0.7)
    lower.bar_label(bars, [f"{count:,}" for count in counts], fontsize=9, color=INK, padding=2)
    lower.set_yticks([])
    lower.margins(y=0.25)
    ends = zip(shortest, longest, strict=True)
    lower.set_xticks(x, [f"{a:,}\N{EN DASH}{b:,}" if a < b else f"{a:,}" for a, b in ends])
    for axes in (upper, lower):
        axes.grid(False, axis="x")
        axes.set_xlim(-0.6, len(x) - 0.4)
        axes.axvline(median_x, color=AMBER, linestyle="--", linewidth=1.4, zorder=0)
    at_top, at_right = upper.get_xaxis_transform(), upper.get_yaxis_transform()
    label = f"median: {median:,.0f} tokens"
    upper.text(median_x, 1.01, label, transform=at_top, ha="center", va="bottom", color=INK)
    upper.text(1.005, overall, "all", transform=at_right, va="center", color=INK)
    return figure


def plot_calibration(run: str, predictions: Predictions) -> "Figure":
    """Plot a reliability diagram: accuracy by the probability of the predicted class."""
    bins = reliability(predictions)
    headline = f"Calibration: expected calibration error {bins.error:.3f}"
    figure = make_figure(7.4, 6.6, headline, run)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    upper = make_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    lower = make_axes(figure, grid[1], "", "probability of the predicted class", "test examples")
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    _plot_shares(upper, bins.confidence, bins.hits, bins.counts, fmt="o-", label="this model")
    upper.set_ylim(-0.02, 1.02)
    upper.tick_params(labelbottom=False)
    add_legend(upper)
    lower.bar(bins.starts, bins.counts, bins.width, align="edge", color=SKY, edgecolor="white")
    use_integer_ticks(lower.yaxis)
    for axes in (upper, lower):
        axes.set_xlim(1 / len(predictions.class_names) - 0.04, 1.02)
        use_percent_ticks(axes.xaxis)
    return figure


def _format_accuracy(predictions: Predictions) -> str:
    examples = format_count(len(predictions.labels), "test example")
    return f"{format_percent(predictions.correct.mean())} of {examples} correct"


def _plot_shares(
    axes: "Axes", x: np.ndarray, hits: np.ndarray, counts: np.ndarray, **options: Any
) -> None:
    """Plot hits / counts in percent with Wilson intervals."""
    share, (low, high) = hits / counts, wilson_interval(hits, counts)
    # Rounding can put an end of the interval 1e-17 inside a share of 0 or 1.
    ends = np.maximum([share - low, high - share], 0)
    axes.errorbar(x, share, ends, color=BLUE, ms=6.5, capsize=4, elinewidth=1.5, **options)
    use_percent_ticks(axes.yaxis)
