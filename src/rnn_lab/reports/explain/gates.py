"""Plot every gate and state of one direction as a heatmap, tokens across and units down."""

from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.reports.explain.columns import LEFT, Columns, label_words
from rnn_lab.reports.explain.explanation_data import CellValue, Direction, Explanation
from rnn_lab.reports.formatting import escape_math
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

# Titles of the values of the built-in cells. Other cells' are made of their kind and symbol.
TITLES: dict[str, dict[str, str]] = {
    "lstm": {
        "f": "forget gate $f$: share of the old cell state that is kept",
        "i": "input gate $i$: share of the candidate that enters the cell state",
        "C_tilde": r"candidate $\tilde{C}$: what the word would add to the cell state",
        "C": r"cell state $C = f \, C_{before} + i \, \tilde{C}$: what is remembered",
        "o": "output gate $o$: share of the cell state that is output",
        "h": r"hidden state $h = o \, \tanh(C)$: what is output of the cell state",
    },
    "gru": {
        "z": "update gate $z$: share of the state that is replaced",
        "r": "reset gate $r$: share of the old state that the candidate reads",
        "h_tilde": r"candidate $\tilde{h}$: what the word would replace the state with",
        "h": r"hidden state $h = (1 - z) \, h_{before} + z \, \tilde{h}$: what is remembered",
    },
    "rnn": {"h": "hidden state $h$: recomputed from scratch at every word"},
}
# What 0 and 1 mean for a gate, beside its colour bar.
GATE_ENDS: dict[str, dict[str, tuple[str, str]]] = {
    "lstm": {"f": ("forgets", "keeps"), "o": ("hides", "shows")},
    "gru": {"z": ("keeps", "replaces"), "r": ("none", "all")},
}
DEFAULT_ENDS = ("closed", "open")


def plot_gates(explanation: Explanation, columns: Columns, direction: Direction) -> "Figure":
    """Plot every value of a direction; a unit has the same row in each heatmap."""
    cell = explanation.model["name"]
    order = unit_order(direction.values[explanation.memory.name])
    height = min(-(-MIN_HEIGHT // len(order)) * len(order), MAX_HEIGHT)
    top = HEADLINE_HEIGHT + columns.label_height + 26
    bottom = top + len(explanation.values) * (height + GAP) - GAP
    figure = make_pixel_figure(
        columns.figure_width,
        bottom + columns.label_height + 10,
        f"Gates and states of {explanation.describe(direction)}",
        explanation.run,
    )
    for position, value in enumerate(explanation.values.values()):
        box = (LEFT, top + position * (height + GAP), columns.width, height)
        axes = make_pixel_axes(figure, box, value_title(cell, value), y_label=f"{len(order)} units")
        ends = GATE_ENDS.get(cell, {}).get(value.name, DEFAULT_ENDS)
        _plot_heatmap(
            axes, box, direction.values[value.name][:, order].T,
            ends if value.kind == "gate" else None,
        )  # fmt: skip
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


def value_title(cell: str, value: CellValue) -> str:
    """Return the title of a value of `cell`: that of a built-in cell, or its kind and symbol."""
    symbol = tex_symbol(value)
    default = {"h": f"hidden state {symbol}", "C": f"cell state {symbol}"}
    fallback = default.get(value.name, f"{value.kind} {symbol}")
    return TITLES.get(cell, {}).get(value.name, fallback)


def tex_symbol(value: CellValue) -> str:
    """Return the symbol of a value for matplotlib, its plain name if that is no valid TeX."""
    from matplotlib.mathtext import MathTextParser

    symbol = f"${value.symbol}$"
    try:
        MathTextParser("path").parse(symbol)
    except ValueError:
        return escape_math(value.name)
    return symbol


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
    gate_ends: tuple[str, str] | None,
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
        bar.set_ticks([0, 0.5, 1], labels=[f"0 {gate_ends[0]}", "0.5", f"1 {gate_ends[1]}"])
    else:
        end = f"{most:.0f}" if most >= 100 else f"{most:.2g}"
        at_most, at_least = ("\N{LESS-THAN OR EQUAL TO} ", "\N{GREATER-THAN OR EQUAL TO} ")
        low_end, high_end = f"\N{MINUS SIGN}{end}", f"+{end}"
        labels = (at_most + low_end, "0", at_least + high_end)
        bar.set_ticks([low, 0, high], labels=labels if clipped else (low_end, "0", high_end))
    lowest, *_, highest = bar_axes.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
