"""The pictures of a finished run, drawn from the files in its folder alone."""

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
from rnn_lab.reports.formatting import percent, run_words, shortened
from rnn_lab.reports.gradient_flow import gradient_flow
from rnn_lab.reports.plot_style import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PINK,
    SKY,
    add_legend,
    new_axes,
    new_figure,
    percentages,
    save,
    whole_numbers,
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

MAX_NAMED_CURVES = 6  # beyond, colours can no longer be told apart
MAX_LETTERED_CLASSES = 25  # beyond, the numbers in a confusion matrix can no longer be read


def draw_plots(run_folder: Path) -> list[Path]:
    """Draw every picture of a finished run, or of a test of one, into its folder `plots`.

    Returns their paths. A test, whose result.json names a `checkpoint`, has no learning curves.

    Raises CheckpointError where a file of the run is missing or malformed.
    """
    folder = run_folder / "plots"
    return [save(figure, folder / f"{name}.png") for name, figure in figures(run_folder).items()]


def figures(run_folder: Path) -> dict[str, "Figure"]:
    """Return every picture of a finished run under its name."""
    result, predictions = read_result(run_folder), read_predictions(run_folder)
    run = run_words(result)
    pictures = {}
    if "checkpoint" not in result:
        metrics = read_metrics(run_folder)
        pictures["learning_curves"] = learning_curves(run, metrics, result["best_epoch"])
    if flows := read_gradient_flow(run_folder):
        pictures["gradient_flow"] = gradient_flow(run, flows)
    return pictures | {
        "confusion_matrix": confusion_matrix(run, predictions),
        "roc_and_precision_recall": roc_and_precision_recall(run, predictions),
        "length_and_accuracy": length_and_accuracy(run, predictions),
        "calibration": calibration(run, predictions),
    }


def learning_curves(run: str, metrics: dict[str, np.ndarray], best_epoch: int | None) -> "Figure":
    """Loss and accuracy by epoch; learning rate and gradient norm by step, where logged."""
    by_steps = {
        "Learning rate": [name for name in metrics if name.startswith("lr")],
        "Gradient norm": [name for name in metrics if "grad" in name and "norm" in name],
    }
    lower = [(title, columns[0]) for title, columns in by_steps.items() if columns]

    headline = "Learning curves"
    epochs, accuracy = by_epoch(metrics, "val/accuracy")
    if best_epoch in epochs:
        at_best = accuracy[epochs == best_epoch][0]
        headline += f": epoch {best_epoch} chosen, validation accuracy {percent(at_best)}"
    figure = new_figure(10, 7.2 if lower else 4.4, headline, run)
    heights = [3, 2] if lower else [3]
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    loss = new_axes(figure, grid[0, 0], "Loss", "epoch")
    right = new_axes(figure, grid[0, 1], "Accuracy", "epoch")
    _by_epochs(loss, metrics, "loss", best_epoch)
    _by_epochs(right, metrics, "accuracy", best_epoch)
    percentages(right.yaxis)
    for column, (title, name) in enumerate(lower):
        place = grid[1, column] if len(lower) == 2 else grid[1, :]
        axes = new_axes(figure, place, title, "optimizer step")
        colour = GREEN if title == "Learning rate" else PINK
        axes.plot(*by_step(metrics, name), color=colour, linewidth=1.4)
        axes.set_ylim(bottom=0)
        whole_numbers(axes.xaxis)
    return figure


def _by_epochs(
    axes: "Axes", metrics: dict[str, np.ndarray], name: str, best_epoch: int | None
) -> None:
    for split, colour, label in (("train", ORANGE, "train"), ("val", BLUE, "validation")):
        axes.plot(*by_epoch(metrics, f"{split}/{name}"), "o-", color=colour, ms=4, label=label)
    epochs, values = by_epoch(metrics, f"val/{name}")
    if best_epoch is not None and best_epoch in epochs:
        axes.axvline(best_epoch, color=GREY, linestyle=":", zorder=0)
        best = values[epochs == best_epoch]
        ring: dict[str, Any] = {"ms": 11, "fillstyle": "none", "markeredgewidth": 1.8}
        axes.plot([best_epoch], best, "o", color=BLUE, label="epoch chosen", **ring)
    if len(epochs):
        axes.set_xlim(epochs[0] - 0.3, epochs[-1] + 0.3)
    whole_numbers(axes.xaxis)
    add_legend(axes)


def confusion_matrix(run: str, predictions: Predictions) -> "Figure":
    """Counts and shares of each row (a true class), the share as depth of colour."""
    size = len(predictions.class_names)
    pairs = predictions.labels * size + predictions.predicted
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name) for name in predictions.class_names]
    lettered = size <= MAX_LETTERED_CLASSES
    slanted = size > 6 or max(map(len, names)) > 14

    side = float(np.clip(size * 0.4, 3.8, 9.5))
    headline = f"Confusion matrix: {_right(predictions)}"
    width = max(side + (2 if lettered else 3), 6.4)
    figure = new_figure(width, side + (2.1 if slanted else 1.5), headline, run)
    axes = new_axes(figure, figure.add_gridspec(1, 1)[0], "", "predicted", "labelled")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5 if lettered else 6)
    axes.set_yticks(range(size), names)
    axes.set_xticks(range(size), names)
    if slanted:
        axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    if not lettered:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row")
        percentages(bar.ax.yaxis)
        return figure
    letters = 13 if size <= 4 else 10 if size <= 8 else 7.5
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        written = percent(share) if size <= 8 else f"{100 * share:.0f} %"
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}\n{written}",
            ha="center",
            va="center",
            fontsize=letters,
            color="white" if share > 0.7 else INK,
        )
    return figure


def roc_and_precision_recall(run: str, predictions: Predictions) -> "Figure":
    """Each class against the rest; for two classes, the second against the first."""
    curves = class_curves(predictions)
    headline = "ROC and precision-recall"
    if curves:
        last = curves[-1]
        macro = "macro " if last.name == MACRO else ""
        headline += f": {macro}AUROC {last.auroc:.3f}"
        headline += f", {macro}average precision {last.average_precision:.3f}"
    named = len(curves) if len(curves) <= MAX_NAMED_CURVES + 1 else 2
    figure = new_figure(11, 5.6 + 0.2 * named, headline, run)  # a line of legend for each
    grid = figure.add_gridspec(1, 2)
    each = ", each class against the rest" if len(curves) > 1 else ""
    left = new_axes(figure, grid[0], f"ROC{each}", "false-positive rate", "true-positive rate")
    right = new_axes(figure, grid[1], f"Precision-recall{each}", "recall", "precision")
    for axes in (left, right):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        if not curves:
            note = "no curve: the test reviews\nare all of one class"
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
    """Name and style each curve; of many classes only the weakest stands out."""
    if curves[-1].name != MACRO:
        return [(curves[0], shortened(curves[0].name), {"color": BLUE, "linewidth": 2})]
    *classes, macro = curves
    if len(classes) <= MAX_NAMED_CURVES:
        colours = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)
        return [
            (one, shortened(one.name), {"color": colour, "linewidth": 1.4})
            for one, colour in zip(classes, colours, strict=False)
        ] + [(macro, MACRO, {"color": INK, "linewidth": 2.4})]
    weakest = min(classes, key=lambda one: one.auroc)
    return [
        *((one, None, {"color": PALE, "linewidth": 1}) for one in classes if one is not weakest),
        (weakest, f"weakest, {shortened(weakest.name)}", {"color": ORANGE, "linewidth": 1.6}),
        (macro, MACRO, {"color": BLUE, "linewidth": 2.4}),
    ]


def length_and_accuracy(run: str, predictions: Predictions) -> "Figure":
    """Accuracy in bins of length, each with its 95 % Wilson interval and its count."""
    longest, position = length_bins(predictions.lengths)
    shortest = [int(predictions.lengths[position == i].min()) for i in range(len(longest))]
    counts, hits = np.bincount(position), np.bincount(position, predictions.correct)
    x = np.arange(len(longest))
    median = float(np.median(predictions.lengths))
    # Where half of the reviews lie to the left: bins stand one unit apart, whatever they span.
    reviews = np.append(0, np.cumsum(counts))
    median_x = float(np.interp(reviews[-1] / 2, reviews, np.arange(len(reviews)) - 0.5))

    figure = new_figure(10, 6.2, f"Accuracy by length: {_right(predictions)}", run)
    grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
    upper = new_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    lower = new_axes(figure, grid[1], x_label="length in tokens", y_label="test reviews")
    _shares(upper, x, hits, counts, fmt="o")
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
    words = f"median: {median:,.0f} tokens"
    upper.text(median_x, 1.01, words, transform=at_top, ha="center", va="bottom", color=INK)
    upper.text(1.005, overall, "all", transform=at_right, va="center", color=INK)
    return figure


def calibration(run: str, predictions: Predictions) -> "Figure":
    """Reliability diagram: how often the model is right when it says that it is so sure."""
    bins = reliability(predictions)
    headline = f"Calibration: expected calibration error {bins.error:.3f}"
    figure = new_figure(7.4, 6.6, headline, run)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    upper = new_axes(figure, grid[0], y_label="accuracy (95 % interval)")
    lower = new_axes(figure, grid[1], "", "probability of the predicted class", "test reviews")
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    _shares(upper, bins.confidence, bins.hits, bins.counts, fmt="o-", label="this model")
    upper.set_ylim(-0.02, 1.02)
    upper.tick_params(labelbottom=False)
    add_legend(upper)
    lower.bar(bins.starts, bins.counts, bins.width, align="edge", color=SKY, edgecolor="white")
    whole_numbers(lower.yaxis)
    for axes in (upper, lower):
        axes.set_xlim(1 / len(predictions.class_names) - 0.04, 1.02)
        percentages(axes.xaxis)
    return figure


def _right(predictions: Predictions) -> str:
    count = len(predictions.labels)
    reviews = f"{count:,} test reviews" if count > 1 else "one test review"
    return f"{percent(predictions.correct.mean())} of {reviews} right"


def _shares(
    axes: "Axes", x: np.ndarray, hits: np.ndarray, counts: np.ndarray, **options: Any
) -> None:
    """Plot the proportions hits / counts with their intervals, in percent."""
    share, (low, high) = hits / counts, wilson_interval(hits, counts)
    # Rounding may put an end of the interval past a share of 0 or 1 by 1e-17.
    ends = np.maximum([share - low, high - share], 0)
    axes.errorbar(x, share, ends, color=BLUE, ms=6.5, capsize=4, elinewidth=1.5, **options)
    percentages(axes.yaxis)
