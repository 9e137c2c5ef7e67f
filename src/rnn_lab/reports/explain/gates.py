"""Plot every gate and state of one direction as a heatmap, tokens across and units down."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.reports.explain.columns import LEFT, Columns, label_words
from rnn_lab.reports.explain.explanation_data import CellValue, Direction, Explanation
from rnn_lab.reports.formatting import escape_math, plot_label
from rnn_lab.reports.plot_style import (
    BLUE,
    HEADLINE_HEIGHT,
    ORANGE,
    PALE,
    make_pixel_axes,
    make_pixel_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

GAP = 42  # pixels between two heatmaps, for the title of the lower one
MIN_HEIGHT, MAX_HEIGHT = 120, 256  # pixels of a heatmap
SCALE_QUANTILE = 0.95  # of the absolute values that a scale around zero covers at least
COLOUR_BAR = (12, 10)  # pixels: its distance from the heatmap, and its width


def plot_gates(explanation: Explanation, columns: Columns, direction: Direction) -> "Figure":
    """Plot every value of a direction; a unit has the same row in each heatmap."""
    order = unit_order(direction.values[explanation.memory])
    height = min(-(-MIN_HEIGHT // len(order)) * len(order), MAX_HEIGHT)
    top = HEADLINE_HEIGHT + columns.label_height + 26
    bottom = top + len(explanation.values) * (height + GAP) - GAP
    figure = make_pixel_figure(
        columns.figure_width,
        bottom + columns.label_height + 10,
        f"Gates and states of {explanation.describe(direction)}",
        explanation.run,
    )
    for position, (key, value) in enumerate(explanation.values.items()):
        box = (LEFT, top + position * (height + GAP), columns.width, height)
        axes = make_pixel_axes(figure, box, value_title(value), y_label=f"{len(order)} units")
        ends = value.ends if value.kind == "gate" else None
        _plot_heatmap(axes, box, direction.values[key][:, order].T, ends)
        label_words(axes, columns)
        axes.tick_params(labelbottom=position == len(explanation.values) - 1)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        if position == 0:
            upper = axes.twiny()
            upper.spines[:].set_visible(False)
            upper.tick_params(color=PALE)
            label_words(upper, columns, top=True)
    return figure


def value_title(value: CellValue) -> str:
    """Return the title of a value, as plain text where it is no valid TeX."""
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(value.title)
    except ValueError:
        return escape_math(value.title)
    return value.title


def unit_order(memory: np.ndarray) -> np.ndarray:
    """Return the order of units that puts those with similar values over time side by side.

    Units of `memory` [time, hidden] are sorted by their weight in its first principal component
    over time: those at one end rise when those at the other fall.
    """
    _, _, components = np.linalg.svd(memory - memory.mean(axis=0), full_matrices=False)
    return np.argsort(-components[0] * np.sign(memory[-1] @ components[0] or 1), kind="stable")


def diverging_colours() -> "Colormap":
    """Return a colour map from orange through white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("orange_white_blue", [ORANGE, "#FFFFFF", BLUE])


def _plot_heatmap(
    axes: "Axes",
    box: tuple[int, int, int, int],
    values: np.ndarray,
    gate_ends: Sequence[str] | None,
) -> None:
    """Plot values [units, time] with a colour bar: from 0 to 1 for a gate, else around zero.

    A few units can have far greater values than the others, above all in a cell state. Where those
    would leave the others white, the scale ends earlier and the colour bar says so.
    """
    sizes = np.abs(values)
    usual, most = (float(np.quantile(sizes, q)) for q in (SCALE_QUANTILE, 1))
    clipped = usual > 0 and most > 2 * usual
    most = usual if clipped else most or 1.0
    low, high = (0.0, 1.0) if gate_ends else (-most, most)
    colours = "viridis" if gate_ends else diverging_colours()
    image = axes.imshow(
        values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    left, top, width, height = box
    distance, bar_width = COLOUR_BAR
    bar_box = (left + width + distance, top, bar_width, height)
    bar_axes = make_pixel_axes(axes.figure, bar_box)  # type: ignore[arg-type]
    bar = axes.figure.colorbar(image, cax=bar_axes)
    bar.outline.set_visible(False)
    if gate_ends:
        closed, opened = map(plot_label, gate_ends)
        bar.set_ticks([0, 0.5, 1], labels=[f"0 {closed}", "0.5", f"1 {opened}"])
    else:
        end = f"{most:.0f}" if most >= 100 else f"{most:.2g}"
        at_most, at_least = ("\N{LESS-THAN OR EQUAL TO} ", "\N{GREATER-THAN OR EQUAL TO} ")
        low_end, high_end = f"\N{MINUS SIGN}{end}", f"+{end}"
        labels = (at_most + low_end, "0", at_least + high_end)
        bar.set_ticks([low, 0, high], labels=labels if clipped else (low_end, "0", high_end))
    lowest, *_, highest = bar_axes.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
