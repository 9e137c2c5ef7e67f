"""Every gate and state of one direction: a heatmap each, tokens across and units down."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_lab.reports.explain.explanation_data import Direction, Explanation
from rnn_lab.reports.explain.words import LEFT, Columns, name_words
from rnn_lab.reports.plot_style import (
    BELOW_HEADLINE,
    BLUE,
    ORANGE,
    PALE,
    new_pixel_figure,
    pixel_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

GAP = 42  # pixels between two heatmaps, for the lower one's title
LEAST_HEIGHT, GREATEST_HEIGHT = 120, 256  # pixels of a heatmap
USUAL_SHARE = 0.95  # of the values that a scale around zero must show
KEY = (12, 10)  # pixels from a heatmap to its key, and the key's width


class Gate(NamedTuple):
    """How a value of a cell is introduced, and what 0 and 1 mean where it is a gate."""

    title: str
    ends: tuple[str, str] | None = None


def gates(explanation: Explanation, columns: Columns, direction: Direction) -> "Figure":
    """Draw every value of a direction; a unit stands in the same row of each heatmap."""
    order = unit_order(direction.memory)
    height = min(-(-LEAST_HEIGHT // len(order)) * len(order), GREATEST_HEIGHT)
    top = BELOW_HEADLINE + columns.label_height + 26
    bottom = top + len(direction.values) * (height + GAP) - GAP
    figure = new_pixel_figure(
        columns.figure_width,
        bottom + columns.label_height + 10,
        f"Gates and states of {explanation.name_of(direction)}",
        explanation.run,
    )
    for position, (name, values) in enumerate(direction.values.items()):
        about = explanation.values[name]
        gate = Gate(about["title"], tuple(about["ends"]) if about["kind"] == "gate" else None)
        box = (LEFT, top + position * (height + GAP), columns.width, height)
        axes = pixel_axes(figure, box, gate.title, y_label=f"{len(order)} units")
        _heatmap(axes, box, values[:, order].T, gate)
        name_words(axes, columns)
        axes.tick_params(labelbottom=position == len(direction.values) - 1)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        if position == 0:
            above = axes.twiny()
            above.spines[:].set_visible(False)
            above.tick_params(color=PALE)
            name_words(above, columns, top=True)
    return figure


def unit_order(memory: np.ndarray) -> np.ndarray:
    """Sort units so that those which move together stand together.

    By their weight in the first principal component of the states, [time, hidden], over time: at
    one end those that rise where those at the other end fall.
    """
    _, _, components = np.linalg.svd(memory - memory.mean(axis=0), full_matrices=False)
    return np.argsort(-components[0] * np.sign(memory[-1] @ components[0] or 1), kind="stable")


def diverging() -> "Colormap":
    """From orange through white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("orange_white_blue", [ORANGE, "#FFFFFF", BLUE])


def _heatmap(axes: "Axes", box: tuple[int, int, int, int], values: np.ndarray, gate: Gate) -> None:
    """Draw values [units, time] with a key beside them: 0 to 1 for a gate, else around zero.

    A few units may count far beyond the others, in a cell state above all: where they would leave
    the others white, the scale ends early and its key says so.
    """
    sizes = np.abs(values)
    usual, most = (float(np.quantile(sizes, q)) for q in (USUAL_SHARE, 1))
    clipped = usual > 0 and most > 2 * usual
    most = usual if clipped else most or 1.0
    low, high = (0.0, 1.0) if gate.ends else (-most, most)
    colours = "viridis" if gate.ends else diverging()
    image = axes.imshow(
        values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    left, top, width, height = box
    distance, key_width = KEY
    key = pixel_axes(axes.figure, (left + width + distance, top, key_width, height))  # type: ignore[arg-type]
    bar = axes.figure.colorbar(image, cax=key)
    bar.outline.set_visible(False)
    if gate.ends:
        bar.set_ticks([0, 0.5, 1], labels=[f"0 {gate.ends[0]}", "0.5", f"1 {gate.ends[1]}"])
    else:
        end = f"{most:.0f}" if most >= 100 else f"{most:.2g}"
        least, greatest = ("\N{LESS-THAN OR EQUAL TO} ", "\N{GREATER-THAN OR EQUAL TO} ")
        low_end, high_end = f"\N{MINUS SIGN}{end}", f"+{end}"
        ends = (least + low_end, "0", greatest + high_end) if clipped else (low_end, "0", high_end)
        bar.set_ticks([low, 0, high], labels=ends)
    lowest, *_, highest = key.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
