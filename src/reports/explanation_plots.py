"""The pictures of an explanation: the verdict, the gates of each direction, the path of its state.

All have one column a token, at the same place, so that they can be read below one another.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from src.reports.canvas import (
    AMBER,
    BELOW_HEADLINE,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PINK,
    SKY,
    new_pixel_figure,
    percentages,
    pixel_axes,
)
from src.reports.explanation_files import Direction, Explanation
from src.reports.explanation_words import LEFT, Columns, columns_of, name_words, printable
from src.reports.wording import percent, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

PANEL = 190  # pixels, the height of a curve
GAP = 54  # pixels between two panels, for the lower one's title
MAX_DOTTED = 60  # tokens; beyond, a dot a token hides the curve
MAX_CLASSES = 6  # curves whose colours can be told apart


def figures(explanation: Explanation) -> dict[str, "Figure"]:
    """Return every picture of an explanation under its name."""
    columns = columns_of(explanation)
    pictures = {"verdict": verdict(explanation, columns)}
    for one in explanation.directions:
        where = f"layer{one.layer + 1}_{'backward' if one.backward else 'forward'}"
        pictures[f"gates_{where}"] = gates(explanation, columns, one)
        pictures[f"path_{where}"] = path(explanation, columns, one)
    return pictures
