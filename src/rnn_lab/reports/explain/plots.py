"""The pictures of an explanation: the verdict, and the gates and the state of every direction.

All have one column a token, at the same place, so that they can be read below one another.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.explanation_data import Explanation
from rnn_lab.reports.explain.gates import gates
from rnn_lab.reports.explain.state_path import state_path
from rnn_lab.reports.explain.words import (
    LEFT,
    Columns,
    align_label,
    columns_of,
    name_words,
    printable,
)
from rnn_lab.reports.formatting import percent
from rnn_lab.reports.plot_style import (
    BELOW_HEADLINE,
    BLUE,
    GREY,
    ORANGE,
    PINK,
    new_pixel_figure,
    percentages,
    pixel_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 190  # pixels, the height of a curve
GAP = 52  # pixels between two panels, for the lower one's title
MAX_DOTTED = 60  # tokens; beyond, a dot a token hides the curve
MAX_CLASSES = 4  # curves whose colours can be told apart


def figures(explanation: Explanation) -> dict[str, "Figure"]:
    """Return every picture of an explanation under its name."""
    columns = columns_of(explanation)
    pictures = {"verdict": verdict(explanation, columns)}
    for one in explanation.directions:
        where = f"layer{one.layer + 1}_{'backward' if one.backward else 'forward'}"
        pictures[f"gates_{where}"] = gates(explanation, columns, one)
        pictures[f"path_{where}"] = state_path(explanation, columns, one)
    return pictures


def verdict(explanation: Explanation, columns: Columns) -> "Figure":
    """The probability after each token read; below, how much each word moved the logits."""
    name = printable(explanation.verdict, 24)
    headline = f"Verdict: {name}, {percent(explanation.probabilities[-1].max())}"
    height = BELOW_HEADLINE + 20 + PANEL + GAP + PANEL + columns.label_height + 14
    figure = new_pixel_figure(columns.figure_width, height, headline, explanation.run)
    upper = pixel_axes(
        figure,
        (LEFT, BELOW_HEADLINE + 20, columns.width, PANEL),
        "The verdict after each word read so far",
        y_label="probability",
    )
    lower = pixel_axes(
        figure,
        (LEFT, BELOW_HEADLINE + 20 + PANEL + GAP, columns.width, PANEL),
        f"How much each word moved it: for {name} or against",
        y_label="logits",
    )
    _after_each_word(upper, explanation, columns)
    _moves(lower, explanation, columns)
    return figure


def _after_each_word(axes: "Axes", explanation: Explanation, columns: Columns) -> None:
    order = np.argsort(-explanation.probabilities[-1], kind="stable")
    shown = order[:1] if len(order) == 2 else order[:MAX_CLASSES]
    ends = []
    for index, colour in zip(shown, (BLUE, ORANGE, PINK, GREY), strict=False):
        curve = explanation.probabilities[:, index]
        dots = "o-" if columns.tokens <= MAX_DOTTED else "-"
        axes.plot(curve, dots, color=colour, ms=4.5, linewidth=1.6, clip_on=False)
        ends.append((float(curve[-1]), printable(explanation.class_names[index], 14), colour))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    percentages(axes.yaxis)
    if len(order) == 2:
        axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    beside = columns.tokens - 0.5
    for height, (_, name, colour) in zip(_apart([end for end, *_ in ends]), ends, strict=True):
        style: dict[str, Any] = {"color": colour, "va": "center", "fontsize": 10}
        axes.annotate(name, (beside, height), (6, 0), textcoords="offset points", **style)
    name_words(axes, columns)
    axes.tick_params(labelbottom=False)
    axes.grid(False, axis="x")
    align_label(axes, columns)


def _apart(heights: list[float], distance: float = 0.1) -> list[float]:
    """Shares from 0 to 1, moved as little as keeps names written beside them apart."""
    moved = [0.0] * len(heights)
    floor = -1.0
    for index in np.argsort(heights):
        floor = moved[index] = max(heights[index], floor + distance)
    excess = max(0.0, floor - 1)
    return [height - excess for height in moved]


def _moves(axes: "Axes", explanation: Explanation, columns: Columns) -> None:
    words, moved = explanation.words_read, explanation.moved
    middles = [(word.start + word.stop - 1) / 2 for word in words]
    room = columns.width / columns.tokens  # pixels
    widths = [(word.stop - word.start) * (0.7 if room > 6 else 1) for word in words]
    colours = [BLUE if move >= 0 else ORANGE for move in moved]
    axes.bar(middles, moved, widths, color=colours)
    axes.axhline(0, color=GREY, linewidth=0.8)
    most = float(np.abs(moved).max()) or 1.0
    axes.set_ylim(-1.08 * most, 1.08 * most)
    name = printable(explanation.verdict, 14)
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
    name_words(axes, columns)
    axes.grid(False, axis="x")
    align_label(axes, columns)
