"""Plot the path of one direction's state through a text: its norm and principal components."""

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.columns import (
    FONT_SIZE,
    LEFT,
    Columns,
    align_y_label,
    label_words,
    word_label,
)
from rnn_lab.reports.explain.explanation_data import Direction, Explanation
from rnn_lab.reports.formatting import format_percent, plot_label
from rnn_lab.reports.plot_style import (
    COLOURS,
    HEADLINE_HEIGHT,
    INK,
    add_legend,
    make_pixel_axes,
    make_pixel_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORM_HEIGHT = 170  # pixels
PLANE_SIZE = (730, 560)  # pixels of the plane of two principal components
GAP = 62  # pixels between the two axes
MAX_LABELS = 60  # words that may be labelled in the plane
MAX_DOTS = 60  # tokens; with more, dots would hide the path
LABEL_OFFSETS = ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 7), (-6, 7), (6, -7), (-6, -7))  # points


def plot_state_path(explanation: Explanation, columns: Columns, direction: Direction) -> "Figure":
    """Plot the norm of the states after each token, and the path of the memory in a plane.

    The plane is that of the first two principal components.
    """
    memory = plot_label(explanation.values[explanation.memory].name)
    top = HEADLINE_HEIGHT + 20
    plane_top = top + NORM_HEIGHT + columns.label_height + GAP
    headline = f"Path of the {memory} of {explanation.describe(direction)}"
    height = plane_top + PLANE_SIZE[1] + 62
    figure = make_pixel_figure(columns.figure_width, height, headline, explanation.run)
    upper = make_pixel_axes(
        figure, (LEFT, top, columns.width, NORM_HEIGHT), "Norm of the state", y_label="norm"
    )
    for key, colour in zip(explanation.states, COLOURS, strict=False):
        norms = np.linalg.norm(direction.values[key], axis=1)
        label = plot_label(explanation.values[key].name, 12)
        upper.plot(norms, color=colour, linewidth=1.6, label=label)
    upper.set_ylim(bottom=0)
    label_words(upper, columns)
    upper.grid(False, axis="x")
    align_y_label(upper, columns)
    add_legend(upper, loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.2)
    plane = make_pixel_axes(figure, (LEFT, plane_top, *PLANE_SIZE), "Principal components")
    bar_axes = make_pixel_axes(figure, (LEFT + PLANE_SIZE[0] + 14, plane_top, 10, PLANE_SIZE[1]))
    _plot_plane(plane, bar_axes, explanation, direction)
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
    plane: "Axes", bar_axes: "Axes", explanation: Explanation, direction: Direction
) -> None:
    from matplotlib.collections import LineCollection

    states = direction.values[explanation.memory]
    states = states[::-1] if direction.backward else states  # in reading order
    path, shares = principal_path(np.concatenate([np.zeros_like(states[:1]), states]))
    segments = np.stack([path[:-1], path[1:]], axis=1)  # [time, 2 ends, 2]
    time = len(states)
    line = LineCollection(list(segments), cmap="viridis", linewidths=1.8, zorder=2)
    line.set_array(np.arange(1, time + 1))
    line.set_clim(1, max(time, 2))
    plane.add_collection(line)
    if time <= MAX_DOTS:
        plane.scatter(
            path[1:, 0], path[1:, 1], c=np.arange(1, time + 1), cmap="viridis", s=22, zorder=3
        )
    ends: dict[str, Any] = {"ms": 10, "markeredgewidth": 1.8, "zorder": 4, "color": INK}
    plane.plot(*path[0], "o", fillstyle="none", label="before the first word", **ends)
    plane.plot(*path[-1], "s", fillstyle="none", label="after the last word", **ends)
    plane.margins(0.12)
    plane.set_xlabel(f"first principal component ({format_percent(shares[0], 0)} of the variance)")
    plane.set_ylabel(f"second ({format_percent(shares[1], 0)})")
    add_legend(plane, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    bar = bar_axes.figure.colorbar(line, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.set_ticks([1, max(time, 2)], labels=["first word", "last word"])
    bar_axes.invert_yaxis()
    first, last = bar_axes.get_yticklabels()
    first.set_verticalalignment("top")
    last.set_verticalalignment("bottom")
    _label_points(plane, explanation, path[1:], direction.backward)


def _label_points(
    plane: "Axes", explanation: Explanation, path: np.ndarray, backward: bool
) -> None:
    """Label points with their words where labels fit, the greatest attributions first."""
    from matplotlib.patheffects import withStroke

    figure = plane.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # or the extents below would not be final
    frame = plane.get_window_extent()
    placed: list[Any] = []
    time = len(path)
    for index in np.argsort(-np.abs(explanation.word_attributions), kind="stable")[:MAX_LABELS]:
        word = explanation.words_read[index]
        step = time - 1 - word.start if backward else word.stop - 1
        for x, y in LABEL_OFFSETS:
            label = plane.annotate(
                word_label(word.text),
                path[step],
                (x, y),
                textcoords="offset points",
                ha="left" if x > 0 else "right" if x < 0 else "center",
                va="bottom" if y > 0 else "top" if y < 0 else "center",
                fontsize=FONT_SIZE,
                color=INK,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                zorder=5,
            )
            box = label.get_window_extent()
            inside = (
                frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 < box.y1 < frame.y1
            )
            if inside and not any(box.overlaps(other) for other in placed):
                placed.append(box)
                break
            label.remove()
