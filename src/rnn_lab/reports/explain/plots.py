"""Plot an explanation: the prediction, and gates and state path of every direction.

All plots have one column per token at the same place, so that they can be read below one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.patheffects import withStroke

from rnn_lab.reports import plot_style as style
from rnn_lab.reports.explain.explanation_data import CellValue, Direction, ExplanationData, Word
from rnn_lab.reports.fonts import font_families, fonts_with_glyphs
from rnn_lab.reports.formatting import escape_math, format_percent, plot_label
from rnn_lab.reports.plot_style import BLUE, GREY, HEADLINE_HEIGHT, INK, ORANGE, PINK

LEFT, RIGHT = 92, 150  # pixels beside the columns, for axis labels and colour bars
TOP = HEADLINE_HEIGHT + 20  # pixels above the first axes
PLOT_WIDTH, MIN_COLUMN, MAX_COLUMN = 1080, 3, 120  # pixels
MIN_FIGURE_WIDTH = 1000  # pixels
MAX_WIDTH = 20_000  # pixels of all columns; with more tokens they get narrower than MIN_COLUMN
MAX_WORD = 16  # characters of a word in a plot
FONT_SIZE = 8.5
CHARACTER_WIDTH, LINE_HEIGHT = 8.4, 14.5  # pixels at FONT_SIZE, rather too many than too few
MAX_DOTS = 60  # tokens; with more, dots would hide the curve

PANEL, PANEL_GAP = 190, 52  # pixels: height of the axes of a prediction, and the space between
MAX_CLASSES = 4  # curves with distinct colours
LABEL_DISTANCE = 0.1  # between the labels of two curves, of the height of the axes

HEATMAP_GAP = 42  # pixels between two heatmaps, for the title of the lower one
MIN_HEIGHT, MAX_HEIGHT = 120, 256  # pixels of a heatmap
SCALE_QUANTILE = 0.95  # of the absolute values that a scale around zero covers at least
DIVERGING = LinearSegmentedColormap.from_list("orange_white_blue", [ORANGE, "#FFFFFF", BLUE])

NORM_HEIGHT = 170  # pixels
PLANE_SIZE = (730, 560)  # pixels of the plane of two principal components
PLANE_GAP = 62  # pixels above the plane
MAX_LABELS = 60  # words that may be labelled in the plane
LABEL_OFFSETS = ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 7), (-6, 7), (6, -7), (-6, -7))  # points


def make_plots(explanation: ExplanationData) -> dict[str, Figure]:
    """Return every plot of an explanation by name."""
    columns = make_columns(explanation)
    plots = {"prediction": plot_prediction(explanation, columns)}
    for one in explanation.directions:
        place = f"layer{one.layer + 1}_{'backward' if one.backward else 'forward'}"
        plots[f"gates_{place}"] = plot_gates(explanation, columns, one)
        plots[f"path_{place}"] = plot_state_path(explanation, columns, one)
    return plots


# ---- Columns of tokens


@dataclass(frozen=True)
class Columns:
    """The position of each token, the same in every plot, and the labelled words."""

    tokens: int
    width: int  # pixels of all columns together
    positions: np.ndarray  # of the labels, in tokens from 0
    labels: tuple[str, ...]
    horizontal: bool  # whether all words fit in a row, or are turned upright

    @property
    def label_height(self) -> int:
        """The height of the labels in pixels."""
        longest = max(map(len, self.labels))
        return 30 if self.horizontal else round(12 + CHARACTER_WIDTH * longest)

    @property
    def figure_width(self) -> int:
        """The width of a figure with these columns in pixels; a headline always fits."""
        return max(LEFT + self.width + RIGHT, MIN_FIGURE_WIDTH)


def make_columns(explanation: ExplanationData) -> Columns:
    """Lay out a column per token and choose the words to label.

    Of words too close to each other, the one with the greater attribution is labelled.
    """
    tokens, words = len(explanation.attributions), explanation.words_read
    width = min(int(np.clip(PLOT_WIDTH // tokens, MIN_COLUMN, MAX_COLUMN)) * tokens, MAX_WIDTH)
    positions = np.array([word.middle for word in words])
    labels = [plot_label(word.text, MAX_WORD) for word in words]
    horizontal = all(
        len(label) * CHARACTER_WIDTH <= (word.stop - word.start) * width / tokens
        for label, word in zip(labels, words, strict=True)
    )
    chosen: list[int] = []
    for index in np.argsort(-np.abs(explanation.word_attributions), kind="stable"):
        distances = np.abs(positions[chosen] - positions[index]) * width / tokens
        if horizontal or (distances >= LINE_HEIGHT).all():
            chosen.append(int(index))
    chosen.sort()
    return Columns(tokens, width, positions[chosen], tuple(labels[i] for i in chosen), horizontal)


def _label_words(axes: Axes, columns: Columns, *, top: bool = False) -> None:
    """Label the x axis of `axes`, which counts tokens from 0, with words, below or at the top."""
    axes.set_xlim(-0.5, columns.tokens - 0.5)
    rotation = 0 if columns.horizontal else 90
    font: dict[str, Any] = {"color": INK, "fontsize": FONT_SIZE, "rotation": rotation}
    axes.set_xticks(columns.positions, columns.labels, **font)
    axes.tick_params(axis="x", top=top, labeltop=top, bottom=not top, labelbottom=not top, pad=2)


def _make_curve_axes(
    figure: Figure, columns: Columns, top: int, height: int, title: str, y_label: str
) -> Axes:
    """Return axes for curves or bars over the columns."""
    axes = style.make_pixel_axes(figure, (LEFT, top, columns.width, height), title, y_label)
    _label_words(axes, columns)
    axes.grid(False, axis="x")
    # At the same place in all plots, whatever the tick labels.
    axes.yaxis.set_label_coords((20 - LEFT) / columns.width, 0.5)
    return axes


# ---- The prediction


def plot_prediction(explanation: ExplanationData, columns: Columns) -> Figure:
    """Plot the probability after each token; below it, the attribution of each word."""
    name = plot_label(explanation.explained_name)
    kind = "Prediction" if explanation.is_predicted else "Explained label"
    headline = f"{kind}: {name}, {format_percent(explanation.explained_probability)}"
    lower_top = TOP + PANEL + PANEL_GAP
    height = lower_top + PANEL + columns.label_height + 14
    figure = style.make_pixel_figure(columns.figure_width, height, headline, explanation.run)
    titles = "Prediction after each word", f"Attribution of each word: for or against {name}"
    upper = _make_curve_axes(figure, columns, TOP, PANEL, titles[0], "probability")
    lower = _make_curve_axes(figure, columns, lower_top, PANEL, titles[1], "logits")
    _plot_probabilities(upper, explanation)
    _plot_attributions(lower, explanation, columns.width / columns.tokens)
    return figure


def _plot_probabilities(axes: Axes, explanation: ExplanationData) -> None:
    tokens, classes = explanation.probabilities.shape
    order = np.argsort(-explanation.probabilities[-1], kind="stable")
    is_binary = classes == 2 and explanation.thresholds is None
    explained = explanation.explained
    shown = [explained] if is_binary else order[:MAX_CLASSES].tolist()
    if explained not in shown:
        shown[-1] = explained
    heights = _spread_labels(explanation.probabilities[-1, shown].tolist())
    for index, height, colour in zip(shown, heights, (BLUE, ORANGE, PINK, GREY), strict=False):
        curve = explanation.probabilities[:, index]
        marks = "o-" if tokens <= MAX_DOTS else "-"
        axes.plot(curve, marks, color=colour, ms=4.5, linewidth=1.6, clip_on=False)
        name = plot_label(explanation.class_names[index], 14)
        _label_right(axes, name, (tokens - 0.5, height), colour, "data")
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    style.use_percent_ticks(axes.yaxis)
    if is_binary or explanation.thresholds is not None:
        threshold = 0.5 if explanation.thresholds is None else explanation.thresholds[explained]
        axes.axhline(threshold, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    axes.tick_params(labelbottom=False)


def _label_right(
    axes: Axes, text: str, place: tuple[float, float], colour: str, xycoords: str
) -> None:
    font: dict[str, Any] = {"color": colour, "va": "center", "fontsize": 10}
    axes.annotate(text, place, (6, 0), xycoords, textcoords="offset points", **font)


def _spread_labels(heights: list[float]) -> list[float]:
    """Return heights from 0 to 1, moved as little as keeps labels at them from overlapping."""
    moved = [0.0] * len(heights)
    floor = -1.0
    for index in np.argsort(heights):
        floor = moved[index] = max(heights[index], floor + LABEL_DISTANCE)
    excess = max(0.0, floor - 1)
    return [height - excess for height in moved]


def _plot_attributions(axes: Axes, explanation: ExplanationData, column_width: float) -> None:
    words, attributions = explanation.words_read, explanation.word_attributions
    widths = [(word.stop - word.start) * (0.7 if column_width > 6 else 1) for word in words]
    colours = [BLUE if value >= 0 else ORANGE for value in attributions]
    axes.bar([word.middle for word in words], attributions, widths, color=colours)
    axes.axhline(0, color=GREY, linewidth=0.8)
    most = float(np.abs(attributions).max()) or 1.0
    axes.set_ylim(-1.08 * most, 1.08 * most)
    name = plot_label(explanation.explained_name, 14)
    for height, side, colour in ((0.85, "for", BLUE), (0.15, "against", ORANGE)):
        _label_right(axes, f"{side}\n{name}", (1, height), colour, "axes fraction")


# ---- Gates and states as heatmaps, tokens across and units down


def plot_gates(explanation: ExplanationData, columns: Columns, direction: Direction) -> Figure:
    """Plot every value of a direction; a unit has the same row in each heatmap."""
    order = unit_order(direction.values[explanation.memory])
    height = min(-(-MIN_HEIGHT // len(order)) * len(order), MAX_HEIGHT)
    top = HEADLINE_HEIGHT + columns.label_height + 26
    step = height + HEATMAP_GAP
    bottom = top + len(explanation.values) * step - HEATMAP_GAP + columns.label_height + 10
    headline = f"Gates and states of {explanation.describe(direction)}"
    figure = style.make_pixel_figure(columns.figure_width, bottom, headline, explanation.run)
    for position, (key, value) in enumerate(explanation.values.items()):
        box = (LEFT, top + position * step, columns.width, height)
        units = f"{len(order)} units"
        axes = style.make_pixel_axes(figure, box, _value_title(value), units)
        ends = value.ends if value.kind == "gate" else None
        _plot_heatmap(axes, box, direction.values[key][:, order].T, ends)
        _label_words(axes, columns)
        axes.tick_params(labelbottom=position == len(explanation.values) - 1)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        if position == 0:
            upper = axes.twiny()
            upper.spines[:].set_visible(False)
            upper.tick_params(color=style.PALE)
            _label_words(upper, columns, top=True)
    return figure


def _value_title(value: CellValue) -> str:
    """Return the title of a value, as plain text where it is no valid TeX."""
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


def _plot_heatmap(
    axes: Axes, box: tuple[int, int, int, int], values: np.ndarray, gate_ends: Sequence[str] | None
) -> None:
    """Plot values [units, time] with a colour bar: from 0 to 1 for a gate, else around zero.

    A few units can have far greater values than the others, above all in a cell state. Where those
    would leave the others white, the scale ends earlier and the colour bar says so.
    """
    colours: Any = "viridis" if gate_ends else DIVERGING
    if gate_ends:
        low, high = 0.0, 1.0
        closed, opened = map(plot_label, gate_ends)
        labels = [f"0 {closed}", "0.5", f"1 {opened}"]
    else:
        usual, most = np.quantile(np.abs(values), [SCALE_QUANTILE, 1]).tolist()
        clipped = usual > 0 and most > 2 * usual
        high = usual if clipped else most or 1.0
        low = -high
        end = f"{high:.0f}" if high >= 100 else f"{high:.2g}"
        at_most, at_least = ("\N{LESS-THAN OR EQUAL TO} ", "\N{GREATER-THAN OR EQUAL TO} ")
        bounds = (at_most, at_least) if clipped else ("", "")
        labels = [f"{bounds[0]}\N{MINUS SIGN}{end}", "0", f"{bounds[1]}+{end}"]
    scale: dict[str, Any] = {"cmap": colours, "vmin": low, "vmax": high}
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **scale)
    left, top, width, height = box
    bar_box = (left + width + 12, top, 10, height)
    _add_colour_bar(image, bar_box, [low, (low + high) / 2, high], labels)


def _add_colour_bar(
    mappable: Any, box: tuple[int, int, int, int], ticks: list[float], labels: list[str]
) -> Axes:
    """Return the axes of a colour bar, the labels at its ends within its height."""
    bar_axes = style.make_pixel_axes(mappable.figure, box)
    bar = mappable.figure.colorbar(mappable, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.set_ticks(ticks, labels=labels)
    lowest, *_, highest = bar_axes.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
    return bar_axes


# ---- The path of a state: its norm and principal components


def plot_state_path(explanation: ExplanationData, columns: Columns, direction: Direction) -> Figure:
    """Plot the norm of the states after each token, and the path of the memory in a plane.

    The plane is that of the first two principal components.
    """
    memory = plot_label(explanation.values[explanation.memory].name)
    headline = f"Path of the {memory} of {explanation.describe(direction)}"
    plane_top = TOP + NORM_HEIGHT + columns.label_height + PLANE_GAP
    plane_width, plane_height = PLANE_SIZE
    height = plane_top + plane_height + 62
    figure = style.make_pixel_figure(columns.figure_width, height, headline, explanation.run)
    upper = _make_curve_axes(figure, columns, TOP, NORM_HEIGHT, "Norm of the state", "norm")
    for key, colour in zip(explanation.states, style.COLOURS, strict=False):
        norms = np.linalg.norm(direction.values[key], axis=1)
        label = plot_label(explanation.values[key].name, 12)
        marker = "o" if len(norms) == 1 else None  # of a single point no line is drawn
        upper.plot(norms, color=colour, linewidth=1.6, marker=marker, label=label)
    upper.set_ylim(bottom=0)
    style.add_legend(upper, loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.2)
    plane_box = (LEFT, plane_top, plane_width, plane_height)
    plane = style.make_pixel_axes(figure, plane_box, "Principal components")
    bar_box = (LEFT + plane_width + 14, plane_top, 10, plane_height)
    _plot_plane(plane, bar_box, explanation, direction)
    return figure


def principal_path(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of states [steps, hidden].

    Returns:
        the path [steps, 2], and the share of the variance on each of its axes [2].
    """
    centred = states - states.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    path = np.zeros((len(states), 2))
    kept = min(2, len(lengths))
    path[:, :kept] = left[:, :kept] * lengths[:kept]
    shares = np.zeros(2)
    shares[:kept] = lengths[:kept] ** 2 / (float((lengths**2).sum()) or 1.0)
    # The sign of a component is arbitrary: the path always ends at the upper right.
    signs = np.where(path[-1] < path[0], -1, 1)
    return path * signs, shares


def _plot_plane(
    plane: Axes,
    bar_box: tuple[int, int, int, int],
    explanation: ExplanationData,
    direction: Direction,
) -> None:
    states = direction.values[explanation.memory]
    states = states[::-1] if direction.backward else states  # in reading order
    path, shares = principal_path(np.concatenate([np.zeros_like(states[:1]), states]))
    segments = np.stack([path[:-1], path[1:]], axis=1)  # [time, 2 ends, 2]
    time = len(states)
    steps = np.arange(1, time + 1)
    line = LineCollection(list(segments), cmap="viridis", linewidths=1.8, zorder=2)
    line.set_array(steps)
    line.set_clim(1, max(time, 2))
    plane.add_collection(line)
    if time <= MAX_DOTS:
        plane.scatter(path[1:, 0], path[1:, 1], c=steps, cmap="viridis", s=22, zorder=3)
    ends: dict[str, Any] = {"ms": 10, "markeredgewidth": 1.8, "zorder": 4, "color": INK}
    # The backward direction begins with the last word of the text.
    first, last = ("last word", "first word") if direction.backward else ("first word", "last word")
    plane.plot(*path[0], "o", fillstyle="none", label=f"before the {first}", **ends)
    plane.plot(*path[-1], "s", fillstyle="none", label=f"after the {last}", **ends)
    plane.margins(0.12)
    plane.set_xlabel(f"first principal component ({format_percent(shares[0], 0)} of the variance)")
    plane.set_ylabel(f"second ({format_percent(shares[1], 0)})")
    style.add_legend(plane, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    _add_colour_bar(line, bar_box, [max(time, 2), 1], [last, first]).invert_yaxis()
    _label_points(plane, explanation, path[1:], direction.backward)


def _label_points(
    plane: Axes, explanation: ExplanationData, path: np.ndarray, backward: bool
) -> None:
    """Label points with their words where labels fit, the greatest attributions first."""
    figure = plane.get_figure(root=True)
    assert figure is not None
    order = np.argsort(-np.abs(explanation.word_attributions), kind="stable")[:MAX_LABELS]
    words = [explanation.words_read[index] for index in order]
    with fonts_with_glyphs(figure, *(plot_label(word.text, MAX_WORD) for word in words)):
        figure.draw_without_rendering()  # or the extents below would not be final
        _place_labels(plane, words, path, backward)


def _place_labels(plane: Axes, words: Sequence[Word], path: np.ndarray, backward: bool) -> None:
    frame = plane.get_window_extent()
    placed: list[Any] = []
    font: dict[str, Any] = {"fontsize": FONT_SIZE, "color": INK, "zorder": 5}
    font["path_effects"] = [withStroke(linewidth=2.5, foreground="white")]
    for word in words:
        step = len(path) - 1 - word.start if backward else word.stop - 1
        text = plot_label(word.text, MAX_WORD)
        font["fontfamily"] = font_families(text)
        for x, y in LABEL_OFFSETS:
            font["ha"] = "left" if x > 0 else "right" if x < 0 else "center"
            font["va"] = "bottom" if y > 0 else "top" if y < 0 else "center"
            label = plane.annotate(text, path[step], (x, y), textcoords="offset points", **font)
            box = label.get_window_extent()
            inside = (
                frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 < box.y1 < frame.y1
            )
            if inside and not any(box.overlaps(other) for other in placed):
                placed.append(box)
                break
            label.remove()
