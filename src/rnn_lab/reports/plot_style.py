"""One look for every picture: colours, headings, axes, and files that are whole or absent.

Colours are Okabe and Ito's, told apart with any colour vision. Figures are drawn without pyplot,
which keeps global state: runs in several threads can draw at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
AMBER, SKY = "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#6B6B6B", "#DDDDDD"
BELOW_HEADLINE = 82  # pixels down to where axes may begin
DOTS_PER_INCH = 110  # ten inches fill most of a laptop's screen at 100 %


def new_figure(width: float, height: float, headline: str, run: str) -> "Figure":
    """Return an empty figure, in inches, under two lines: what it shows, and of which run."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    below = 0.99 - 0.75 / height
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, below), h_pad=0.05, w_pad=0.08)
    figure = Figure((width, height), dpi=DOTS_PER_INCH, facecolor="white", layout=layout)
    left = 0.18 / width
    figure.text(left, 1 - 0.32 / height, headline, fontsize=13, fontweight="bold", color=INK)
    figure.text(left, 1 - 0.58 / height, plain(run), fontsize=11, color=GREY)
    return figure


def new_axes(
    figure: "Figure", place: Any, title: str = "", x_label: str = "", y_label: str = ""
) -> "Axes":
    """Return axes at `place`, one cell of a grid of `figure`."""
    return _dressed(figure.add_subplot(place), title, x_label, y_label)


def new_pixel_figure(width: int, height: int, headline: str, run: str) -> "Figure":
    """Return a `new_figure` of so many pixels, its axes to be placed by `pixel_axes`.

    Where columns are few pixels wide, each must be as wide as the next.
    """
    hair = 0.01  # or a size that is a whole number but for rounding loses a pixel
    inches = [(side + hair) / DOTS_PER_INCH for side in (width, height)]
    figure = new_figure(inches[0], inches[1], headline, run)
    figure.set_layout_engine("none")
    return figure


def pixel_axes(
    figure: "Figure",
    box: tuple[int, int, int, int],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
) -> "Axes":
    """Return axes in `box`: its left, its top from the figure's top, width and height in pixels."""
    left, top, width, height = box
    whole_width, whole_height = figure.bbox.width, figure.bbox.height
    bottom = whole_height - top - height
    place = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return _dressed(figure.add_axes(place), title, x_label, y_label)


def _dressed(axes: "Axes", title: str, x_label: str, y_label: str) -> "Axes":
    axes.set_title(title, fontsize=11, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=10, color=GREY)
    axes.set_ylabel(y_label, fontsize=10, color=GREY)
    axes.tick_params(labelsize=9.5, color=PALE, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def add_legend(axes: "Axes", **options: Any) -> None:
    """Name the labelled lines of `axes`."""
    look: dict[str, Any] = {"fontsize": 9.5, "title_fontsize": 9.5, "alignment": "left"}
    axes.legend(edgecolor="none", framealpha=0.85, **look, **options)


def whole_numbers(axis: "Axis") -> None:
    """Put the ticks of a counting axis on whole numbers, thousands apart by a comma."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def percentages(axis: "Axis") -> None:
    """Write the shares of an axis as "92 %"."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))


def save(figure: "Figure", path: Path) -> Path:
    """Write a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file.buffer)  # savefig draws twice, for the same bytes
    return path
