"""How far back the gradient reached while a model was trained, as one picture."""

from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.reports.plot_style import GREY, add_legend, new_axes, new_figure, whole_numbers
from rnn_lab.reports.run_files import GradientFlow, by_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOOR = 1.2e-38  # the smallest normal number of float32, in which a model is trained
MAX_NAMED_MOMENTS = 6  # of more, the first, the last and some between are named


def gradient_flow(run: str, flows: list[GradientFlow]) -> "Figure":
    """The norm of dL/dh_t by distance: a curve a moment, axes a layer and direction."""
    places = by_place(flows)
    rows = len({layer for layer, _ in places})
    columns = len(places) // rows
    headline = "Gradient flow: how strongly the loss pulls at each earlier state"
    figure = new_figure(5.2 + 4.0 * columns, 1.6 + 3.4 * rows, headline, run)
    grid = figure.add_gridspec(rows, columns)
    for i, ((layer, direction), here) in enumerate(places.items()):
        title = f"Layer {layer + 1}, {direction}" if len(places) > 1 else ""
        end = "last token" if direction == "forward" else "first token"
        axes = new_axes(figure, grid[i], title, f"tokens to the {end}", "norm of dL/dh")
        _draw_moments(axes, here)
    add_legend(
        figure.axes[columns - 1],
        title="optimizer steps",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
    )
    return figure


def log_norms(axes: "Axes", flows: list[GradientFlow]) -> None:
    """Give `axes` a logarithmic scale for these norms, cut off where float32 ends."""
    norms = np.concatenate([flow.norms for flow in flows])
    norms = norms[np.isfinite(norms) & (norms > 0)]
    axes.set_yscale("log")
    if len(norms):
        lowest, highest = max(norms.min(), FLOOR), max(norms.max(), FLOOR)
        axes.set_ylim(lowest / 3, highest * 3)
        if norms.min() < FLOOR:
            axes.axhline(FLOOR, color=GREY, linestyle=":", linewidth=1.2)
            axes.text(
                0.99, FLOOR * 2, "below what float32 can hold", color=GREY, fontsize=9,
                ha="right", va="bottom", transform=axes.get_yaxis_transform(),
                bbox={"color": "white", "alpha": 0.8, "pad": 1},
            )  # fmt: skip


def _draw_moments(axes: "Axes", flows: list[GradientFlow]) -> None:
    """A curve a moment, from yellow at the start to dark blue at the end."""
    from matplotlib import colormaps

    last = max(len(flows) - 1, 1)
    named = set(np.linspace(0, last, min(last + 1, MAX_NAMED_MOMENTS)).round().astype(int))
    for i, flow in enumerate(flows):
        axes.plot(
            flow.distances,
            flow.norms,
            color=colormaps["viridis_r"](0.08 + 0.92 * i / last),
            linewidth=2.2 if i in (0, last) else 1.2,
            linestyle="--" if i == 0 else "-",
            label=f"{flow.step:,}" if i in named else None,
        )
    log_norms(axes, flows)
    whole_numbers(axes.xaxis)
