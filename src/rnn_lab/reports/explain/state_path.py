"""The way of one direction's state through a text: how long it is, and where it goes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.explanation_data import Direction, Explanation
from rnn_lab.reports.explain.words import (
    FONT_SIZE,
    LEFT,
    Columns,
    align_label,
    name_words,
    printable,
)
from rnn_lab.reports.formatting import percent
from rnn_lab.reports.plot_style import (
    BELOW_HEADLINE,
    BLUE,
    INK,
    ORANGE,
    add_legend,
    new_pixel_figure,
    pixel_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMS = 170  # pixels, the height of the curve
PLANE = (730, 560)  # pixels of the plane of two components
GAP = 62  # pixels between curve and plane
MOST_NAMED = 60  # words tried for a place in the plane
OFFSETS = ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 7), (-6, 7), (6, -7), (-6, -7))  # points


def state_path(explanation: Explanation, columns: Columns, direction: Direction) -> "Figure":
    """Draw the norm of the state after each token, and its first two principal components."""
    symbol = "C" if "C" in direction.values else "h"
    kind = "cell state" if symbol == "C" else "hidden state"
    top = BELOW_HEADLINE + 20
    lower = top + NORMS + columns.label_height + GAP
    headline = f"Path of the {kind} of {explanation.name_of(direction)}"
    height = lower + PLANE[1] + 62
    figure = new_pixel_figure(columns.figure_width, height, headline, explanation.run)
    upper = pixel_axes(
        figure, (LEFT, top, columns.width, NORMS), "How long the state is", y_label="norm"
    )
    for name, colour in (("C", BLUE), ("h", ORANGE if symbol == "C" else BLUE)):
        if name in direction.values:
            norms = np.linalg.norm(direction.values[name], axis=1)
            upper.plot(norms, color=colour, linewidth=1.6, label=f"${name}$")
    upper.set_ylim(bottom=0)
    name_words(upper, columns)
    upper.grid(False, axis="x")
    align_label(upper, columns)
    add_legend(upper, loc="upper left", bbox_to_anchor=(1, 1))
    plane = pixel_axes(figure, (LEFT, lower, *PLANE), "Where it goes")
    key = pixel_axes(figure, (LEFT + PLANE[0] + 14, lower, 10, PLANE[1]))
    _plane(plane, key, explanation, direction)
    return figure


def principal_path(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the path [steps, 2] of states [steps, hidden], and each axis' share of the variance.

    The axes are the states' first two principal components.
    """
    centred = states - states.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    path = np.zeros((len(states), 2))
    kept = min(2, len(lengths))
    path[:, :kept] = left[:, :kept] * lengths[:kept]
    shares = np.zeros(2)
    shares[:kept] = lengths[:kept] ** 2 / (float((lengths**2).sum()) or 1.0)
    turned = np.where(path[-1] < path[0], -1, 1)  # the same picture each time: it ends at the right
    return path * turned, shares


def _plane(plane: "Axes", key: "Axes", explanation: Explanation, direction: Direction) -> None:
    from matplotlib.collections import LineCollection

    states = direction.memory[::-1] if direction.backward else direction.memory  # as it reads
    path, shares = principal_path(np.concatenate([np.zeros_like(states[:1]), states]))
    segments = np.stack([path[:-1], path[1:]], axis=1)  # [time, 2 ends, 2]
    time = len(states)
    line = LineCollection(list(segments), cmap="viridis", linewidths=1.8, zorder=2)
    line.set_array(np.arange(1, time + 1))
    line.set_clim(1, max(time, 2))
    plane.add_collection(line)
    if time <= 60:
        plane.scatter(
            path[1:, 0], path[1:, 1], c=np.arange(1, time + 1), cmap="viridis", s=22, zorder=3
        )
    marks: dict[str, Any] = {"ms": 10, "markeredgewidth": 1.8, "zorder": 4, "color": INK}
    plane.plot(*path[0], "o", fillstyle="none", label="before the first word", **marks)
    plane.plot(*path[-1], "s", fillstyle="none", label="after the last word read", **marks)
    plane.margins(0.12)
    plane.set_xlabel(f"first principal component ({percent(shares[0], 0)} of the variance)")
    plane.set_ylabel(f"second ({percent(shares[1], 0)})")
    add_legend(plane, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    bar = key.figure.colorbar(line, cax=key)
    bar.outline.set_visible(False)
    bar.set_ticks([1, max(time, 2)], labels=["first word", "last word"])
    key.invert_yaxis()
    first, last = key.get_yticklabels()
    first.set_verticalalignment("top")
    last.set_verticalalignment("bottom")
    _name_points(plane, explanation, path[1:], direction.backward)


def _name_points(plane: "Axes", explanation: Explanation, path: np.ndarray, backward: bool) -> None:
    """Write words beside their points where there is room, the weightiest first."""
    from matplotlib.patheffects import withStroke

    figure = plane.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # now everything has its place
    frame = plane.get_window_extent()
    taken: list[Any] = []
    time = len(path)
    for index in np.argsort(-np.abs(explanation.moved), kind="stable")[:MOST_NAMED]:
        word = explanation.words_read[index]
        step = time - 1 - word.start if backward else word.stop - 1
        for x, y in OFFSETS:
            label = plane.annotate(
                printable(word.text),
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
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()
