"""Columns of tokens that all plots of an explanation share, and the words that label them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.explanation_data import Explanation
from rnn_lab.reports.formatting import plot_label
from rnn_lab.reports.plot_style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, RIGHT = 92, 150  # pixels beside the columns, for axis labels and colour bars
PLOT_WIDTH, MIN_COLUMN, MAX_COLUMN = 1080, 3, 120  # pixels
MIN_FIGURE_WIDTH = 1000  # pixels
MAX_WIDTH = 20_000  # pixels of all columns; with more tokens they get narrower than MIN_COLUMN
MAX_WORD = 16  # characters of a word in a plot
FONT_SIZE = 8.5
CHARACTER_WIDTH, LINE_HEIGHT = 8.4, 14.5  # pixels at FONT_SIZE, rather too many than too few


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


def make_columns(explanation: Explanation) -> Columns:
    """Lay out a column per token and choose the words to label.

    Of words too close to each other, the one with the greater attribution is labelled.
    """
    tokens, words = len(explanation.attributions), explanation.words_read
    column = int(np.clip(PLOT_WIDTH // tokens, MIN_COLUMN, MAX_COLUMN))
    width = min(column * tokens, MAX_WIDTH)
    positions = np.array([(word.start + word.stop - 1) / 2 for word in words])
    labels = [word_label(word.text) for word in words]
    widths = [(word.stop - word.start) * width / tokens for word in words]
    horizontal = all(
        len(label) * CHARACTER_WIDTH <= available
        for label, available in zip(labels, widths, strict=True)
    )
    chosen: list[int] = []
    for index in np.argsort(-np.abs(explanation.word_attributions), kind="stable"):
        distances = np.abs(positions[chosen] - positions[index]) * width / tokens
        if horizontal or (distances >= LINE_HEIGHT).all():
            chosen.append(int(index))
    chosen.sort()
    return Columns(tokens, width, positions[chosen], tuple(labels[i] for i in chosen), horizontal)


def label_words(axes: "Axes", columns: Columns, *, top: bool = False) -> None:
    """Label the x axis of `axes`, which counts tokens from 0, with words, below or at the top."""
    axes.set_xlim(-0.5, columns.tokens - 0.5)
    style: dict[str, Any] = {
        "color": INK,
        "fontsize": FONT_SIZE,
        "rotation": 0 if columns.horizontal else 90,
    }
    axes.set_xticks(columns.positions, columns.labels, **style)
    axes.tick_params(axis="x", top=top, labeltop=top, bottom=not top, labelbottom=not top, pad=2)


def align_y_label(axes: "Axes", columns: Columns) -> None:
    """Put the label of the y axis at the same place in all plots, whatever the tick labels."""
    axes.yaxis.set_label_coords((20 - LEFT) / columns.width, 0.5)


def word_label(text: str) -> str:
    """Return a word as a plot can show it."""
    return plot_label(text, MAX_WORD)
