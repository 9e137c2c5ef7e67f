"""Plot an explanation: the prediction, and gates and state path of every direction.

All plots have one column per token at the same place, so that they can be read below one another.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.columns import (
    LEFT,
    Columns,
    align_y_label,
    label_words,
    make_columns,
)
from rnn_lab.reports.explain.explanation_data import Explanation
from rnn_lab.reports.explain.gates import plot_gates
from rnn_lab.reports.explain.state_path import plot_state_path
from rnn_lab.reports.formatting import format_percent, plot_label
from rnn_lab.reports.plot_style import (
    BLUE,
    GREY,
    HEADLINE_HEIGHT,
    ORANGE,
    PINK,
    make_pixel_axes,
    make_pixel_figure,
    use_percent_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 190  # pixels, the height of the axes
GAP = 52  # pixels between two axes, for the title of the lower one
MAX_DOTS = 60  # tokens; with more, dots would hide the curve
MAX_CLASSES = 4  # curves with distinct colours


def make_plots(explanation: Explanation) -> dict[str, "Figure"]:
    """Return every plot of an explanation by name."""
    columns = make_columns(explanation)
    plots = {"prediction": plot_prediction(explanation, columns)}
    for one in explanation.directions:
        place = f"layer{one.layer + 1}_{'backward' if one.backward else 'forward'}"
        plots[f"gates_{place}"] = plot_gates(explanation, columns, one)
        plots[f"path_{place}"] = plot_state_path(explanation, columns, one)
    return plots


def plot_prediction(explanation: Explanation, columns: Columns) -> "Figure":
    """Plot the probability after each token; below it, the attribution of each word."""
    name = plot_label(explanation.prediction)
    headline = f"Prediction: {name}, {format_percent(explanation.probabilities[-1].max())}"
    height = HEADLINE_HEIGHT + 20 + PANEL + GAP + PANEL + columns.label_height + 14
    figure = make_pixel_figure(columns.figure_width, height, headline, explanation.run)
    upper = make_pixel_axes(
        figure,
        (LEFT, HEADLINE_HEIGHT + 20, columns.width, PANEL),
        "Prediction after each word",
        y_label="probability",
    )
    lower = make_pixel_axes(
        figure,
        (LEFT, HEADLINE_HEIGHT + 20 + PANEL + GAP, columns.width, PANEL),
        f"Attribution of each word: for or against {name}",
        y_label="logits",
    )
    _plot_probabilities(upper, explanation, columns)
    _plot_attributions(lower, explanation, columns)
    return figure


def _plot_probabilities(axes: "Axes", explanation: Explanation, columns: Columns) -> None:
    order = np.argsort(-explanation.probabilities[-1], kind="stable")
    shown = order[:1] if len(order) == 2 else order[:MAX_CLASSES]
    ends = []
    for index, colour in zip(shown, (BLUE, ORANGE, PINK, GREY), strict=False):
        curve = explanation.probabilities[:, index]
        style = "o-" if columns.tokens <= MAX_DOTS else "-"
        axes.plot(curve, style, color=colour, ms=4.5, linewidth=1.6, clip_on=False)
        ends.append((float(curve[-1]), plot_label(explanation.class_names[index], 14), colour))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    use_percent_ticks(axes.yaxis)
    if len(order) == 2:
        axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    right = columns.tokens - 0.5
    heights = _spread_labels([end for end, *_ in ends])
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        text: dict[str, Any] = {"color": colour, "va": "center", "fontsize": 10}
        axes.annotate(name, (right, height), (6, 0), textcoords="offset points", **text)
    label_words(axes, columns)
    axes.tick_params(labelbottom=False)
    axes.grid(False, axis="x")
    align_y_label(axes, columns)


def _spread_labels(heights: list[float], distance: float = 0.1) -> list[float]:
    """Return heights from 0 to 1, moved as little as keeps labels at them `distance` apart."""
    moved = [0.0] * len(heights)
    floor = -1.0
    for index in np.argsort(heights):
        floor = moved[index] = max(heights[index], floor + distance)
    excess = max(0.0, floor - 1)
    return [height - excess for height in moved]


def _plot_attributions(axes: "Axes", explanation: Explanation, columns: Columns) -> None:
    words, attributions = explanation.words_read, explanation.word_attributions
    middles = [(word.start + word.stop - 1) / 2 for word in words]
    column_width = columns.width / columns.tokens  # pixels
    widths = [(word.stop - word.start) * (0.7 if column_width > 6 else 1) for word in words]
    colours = [BLUE if value >= 0 else ORANGE for value in attributions]
    axes.bar(middles, attributions, widths, color=colours)
    axes.axhline(0, color=GREY, linewidth=0.8)
    most = float(np.abs(attributions).max()) or 1.0
    axes.set_ylim(-1.08 * most, 1.08 * most)
    name = plot_label(explanation.prediction, 14)
    for height, side, colour in ((0.85, "for", BLUE), (0.15, "against", ORANGE)):
        axes.annotate(
            f"{side}\n{name}",
            (1, height),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=10,
        )
    label_words(axes, columns)
    axes.grid(False, axis="x")
    align_y_label(axes, columns)
