"""Words under the columns of a picture: as many as can be read, the weightiest first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.reports.explain.explanation_data import Explanation
from rnn_lab.reports.formatting import shortened
from rnn_lab.reports.plot_style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, RIGHT = 92, 140  # pixels beside the columns: axis labels, and keys of colours
PLOT_WIDTH, LEAST_COLUMN, GREATEST_COLUMN = 1080, 3, 120  # pixels
LEAST_WIDTH = 1000  # pixels of a picture
GREATEST_WIDTH = 20_000  # pixels of all columns; they get narrower beyond
LETTERS = 16  # of a word in a picture
FONT_SIZE = 8.5
LETTER_WIDTH, LINE_HEIGHT = 8.4, 14.5  # pixels that FONT_SIZE takes, rather more than less


@dataclass(frozen=True)
class Columns:
    """Where tokens stand in every picture of one explanation, so that all pictures line up."""

    tokens: int
    width: int  # pixels of them all
    positions: np.ndarray  # of the words that are named, in tokens from 0
    labels: tuple[str, ...]
    lying: bool  # the words stand upright only where they would not fit otherwise

    @property
    def label_height(self) -> int:
        """Pixels that the words take below a picture."""
        longest = max(map(len, self.labels))
        return 30 if self.lying else round(12 + LETTER_WIDTH * longest)

    @property
    def figure_width(self) -> int:
        """Pixels of a picture with these columns; a headline fits in any case."""
        return max(LEFT + self.width + RIGHT, LEAST_WIDTH)


def columns_of(explanation: Explanation) -> Columns:
    """Give each token its column and choose the words to name.

    Of words too near to one another the one that moved the verdict more is named.
    """
    tokens, words = len(explanation.attributions), explanation.words_read
    column = int(np.clip(PLOT_WIDTH // tokens, LEAST_COLUMN, GREATEST_COLUMN))
    width = min(column * tokens, GREATEST_WIDTH)
    positions = np.array([(word.start + word.stop - 1) / 2 for word in words])
    labels = [printable(word.text) for word in words]
    rooms = [(word.stop - word.start) * width / tokens for word in words]
    lying = all(
        len(label) * LETTER_WIDTH <= room for label, room in zip(labels, rooms, strict=True)
    )
    named: list[int] = []
    for index in np.argsort(-np.abs(explanation.moved), kind="stable"):
        distances = np.abs(positions[named] - positions[index]) * width / tokens
        if lying or (distances >= LINE_HEIGHT).all():
            named.append(int(index))
    named.sort()
    return Columns(tokens, width, positions[named], tuple(labels[i] for i in named), lying)


def name_words(axes: "Axes", columns: Columns, *, top: bool = False) -> None:
    """Write the words below `axes` (or above), whose x counts tokens from 0."""
    axes.set_xlim(-0.5, columns.tokens - 0.5)
    look: dict[str, Any] = {
        "color": INK,
        "fontsize": FONT_SIZE,
        "rotation": 0 if columns.lying else 90,
    }
    axes.set_xticks(columns.positions, columns.labels, **look)
    axes.tick_params(axis="x", top=top, labeltop=top, bottom=not top, labelbottom=not top, pad=2)


def align_label(axes: "Axes", columns: Columns) -> None:
    """Put the label of the y axis where no number can push it out of the picture."""
    axes.yaxis.set_label_coords((20 - LEFT) / columns.width, 0.5)


def printable(text: str, letters: int = LETTERS) -> str:
    """Return a word as a picture has room for it, without what no font can hold."""
    shown = (sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return shortened("".join(shown), letters)
