"""Plot the gradient flow: how far back the gradient reaches at several steps of a training."""

from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.reports.plot_style import (
    GREY,
    add_legend,
    make_axes,
    make_figure,
    use_integer_ticks,
)
from rnn_lab.reports.run_files import GradientFlow, by_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOAT32_MIN = 1.2e-38  # the smallest normal number of float32, in which a model is trained
MAX_NAMED_STEPS = 6  # in the legend: the first, the last and some between


def plot_gradient_flow(run: str, flows: list[GradientFlow]) -> "Figure":
    """Plot the norm of dL/dh_t by distance, axes per layer and direction, a curve per step."""
    places = by_place(flows)
    rows = len({layer for layer, _ in places})
    columns = len(places) // rows
    headline = "Gradient flow: gradient of the loss with respect to each hidden state"
    figure = make_figure(5.2 + 4.0 * columns, 1.6 + 3.4 * rows, headline, run)
    grid = figure.add_gridspec(rows, columns)
    for i, ((layer, direction), curves) in enumerate(places.items()):
        title = f"Layer {layer + 1}, {direction}" if len(places) > 1 else ""
        end = "last token" if direction == "forward" else "first token"
        axes = make_axes(figure, grid[i], title, f"tokens to the {end}", "norm of dL/dh")
        _plot_steps(axes, curves)
    add_legend(
        figure.axes[columns - 1],
        title="optimizer steps",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
    )
    return figure


def use_log_norms(axes: "Axes", flows: list[GradientFlow]) -> None:
    """Use a logarithmic scale for these norms, cut off where float32 underflows."""
    norms = np.concatenate([flow.norms for flow in flows])
    norms = norms[np.isfinite(norms) & (norms > 0)]
    axes.set_yscale("log")
    if len(norms):
        lowest, highest = max(norms.min(), FLOAT32_MIN), max(norms.max(), FLOAT32_MIN)
        axes.set_ylim(lowest / 3, highest * 3)
        if norms.min() < FLOAT32_MIN:
            axes.axhline(FLOAT32_MIN, color=GREY, linestyle=":", linewidth=1.2)
            axes.text(
                0.99, FLOAT32_MIN * 2, "below this, float32 underflows", color=GREY, fontsize=9,
                ha="right", va="bottom", transform=axes.get_yaxis_transform(),
                bbox={"color": "white", "alpha": 0.8, "pad": 1},
            )  # fmt: skip


def _plot_steps(axes: "Axes", flows: list[GradientFlow]) -> None:
    """Plot a curve per step, from yellow at the start to dark blue at the end."""
    from matplotlib import colormaps

    last = max(len(flows) - 1, 1)
    named = set(np.linspace(0, last, min(last + 1, MAX_NAMED_STEPS)).round().astype(int))
    for i, flow in enumerate(flows):
        axes.plot(
            flow.distances,
            flow.norms,
            color=colormaps["viridis_r"](0.08 + 0.92 * i / last),
            linewidth=2.2 if i in (0, last) else 1.2,
            linestyle="--" if i == 0 else "-",
            label=f"{flow.step:,}" if i in named else None,
        )
    use_log_norms(axes, flows)
    use_integer_ticks(axes.xaxis)
