"""The common style of all plots: colours, headlines, axes, legends and the PNG writer.

The colours are those of Okabe and Ito, which remain distinct with any colour vision deficiency.
Figures are drawn without pyplot, whose state is global: several threads can draw at once.
"""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.fonts import fonts_with_glyphs
from rnn_lab.reports.formatting import escape_math, format_percent_tick

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
AMBER, SKY = "#E69F00", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)
INK, GREY, PALE = "#222222", "#6B6B6B", "#DDDDDD"
HEADLINE_HEIGHT = 82  # pixels from the top of a figure to its first axes
DOTS_PER_INCH = 110  # ten inches fill most of a laptop's screen at 100 %


def mix_colours(start: str, end: str, share: float) -> str:
    """Return the hex colour at `share` of the way from `start` to `end`."""
    parts = zip(to_rgb(start), to_rgb(end), strict=True)
    red, green, blue = (a + (b - a) * share for a, b in parts)
    return to_hex((red, green, blue))


def make_figure(width: float, height: float, headline: str, run: str) -> Figure:
    """Return an empty figure, in inches, with a headline and the name of the run below it."""
    axes_height = 0.99 - 0.75 / height
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, axes_height), h_pad=0.05, w_pad=0.08)
    figure = Figure((width, height), dpi=DOTS_PER_INCH, facecolor="white", layout=layout)
    left = 0.18 / width
    figure.text(left, 1 - 0.32 / height, headline, fontsize=13, fontweight="bold", color=INK)
    figure.text(left, 1 - 0.58 / height, escape_math(run), fontsize=11, color=GREY)
    return figure


def make_axes(
    figure: Figure, place: Any, title: str = "", x_label: str = "", y_label: str = ""
) -> Axes:
    """Return axes at `place`, one cell of a grid of `figure`."""
    return _style_axes(figure.add_subplot(place), title, x_label, y_label)


def make_pixel_figure(width: int, height: int, headline: str, run: str) -> Figure:
    """Return a `make_figure` of that many pixels, for axes from `make_pixel_axes`.

    Columns of a few pixels need exact positions, or some would be wider than others.
    """
    margin = 0.01  # rounding could otherwise take a pixel off a whole number
    inches = [(side + margin) / DOTS_PER_INCH for side in (width, height)]
    figure = make_figure(inches[0], inches[1], headline, run)
    figure.set_layout_engine("none")
    return figure


def make_pixel_axes(
    figure: Figure, box: tuple[int, int, int, int], title: str = "", y_label: str = ""
) -> Axes:
    """Return axes in `box`: left, top (from the figure's top), width and height, in pixels."""
    left, top, width, height = box
    whole_width, whole_height = figure.bbox.width, figure.bbox.height
    bottom = whole_height - top - height
    place = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return _style_axes(figure.add_axes(place), title, "", y_label)


def _style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> Axes:
    axes.set_title(title, fontsize=11, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=10, color=GREY)
    axes.set_ylabel(y_label, fontsize=10, color=GREY)
    axes.tick_params(labelsize=9.5, color=PALE, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def add_legend(axes: Axes, **options: Any) -> None:
    """Add a legend of the labelled lines of `axes`."""
    style: dict[str, Any] = {"fontsize": 9.5, "title_fontsize": 9.5, "alignment": "left"}
    axes.legend(edgecolor="none", framealpha=0.85, **style, **options)


def use_integer_ticks(axis: Axis) -> None:
    """Put the ticks of a counting axis on integers, with a thousands separator."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def use_percent_ticks(axis: Axis) -> None:
    """Label the ticks of an axis of shares as "92 %"."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: format_percent_tick(share)))


def save_png(figure: Figure, path: Path, *, title: str | None = None) -> Path:
    """Write `figure` to `path` atomically, and return `path`; `title` is in the file's metadata."""
    about = {} if title is None else {"Title": title}
    with atomic_write(path) as file, fonts_with_glyphs(figure):
        # savefig draws twice, for the same bytes.
        FigureCanvasAgg(figure).print_png(file.buffer, metadata=about)
    return path
