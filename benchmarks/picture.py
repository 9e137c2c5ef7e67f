"""Draw the results of throughput.py, as bars, and those of learning_curve.py, as lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from rnn_lab.reports.plot_style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    make_axes,
    make_figure,
    mix_colours,
    save_png,
    use_percent_ticks,
)

# A picture of its own white: it reads the same on a light and on a dark page.
OURS_COLOUR, PEER_COLOUR = BLUE, mix_colours(GREY, PALE, 0.35)
_MARKERS = "os^Dvp"
_LABEL_GAP = 0.06  # of the height of the axes, between two labels


class Curve(NamedTuple):
    """The accuracy of a method by the number of labelled reviews."""

    name: str
    sizes: Sequence[int]  # ascending
    means: Sequence[float]
    spreads: Sequence[float]  # standard deviations; 0 for a single seed
    counts: Sequence[int]  # seeds


def draw_throughput(results: Mapping[str, Any], path: Path) -> Path:
    """Draw every model at the smallest measured size in one direction; return `path`.

    Args:
        results: what throughput.py writes to --results.
        path: a PNG file.
    """
    size = min(row["size"] for row in results["rows"])
    rows = [row for row in results["rows"] if row["size"] == size and row["directions"] == 1]
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = _fastest_first(rows)
    headline = f"Training speed: reviews/s at the best thread count, size {size}/{size}"
    height = 1.5 + 0.31 * len(names)
    figure = make_figure(max(8.2, 3.0 + 2.6 * len(models)), height, headline, _subtitle(results))
    grid = figure.add_gridspec(1, len(models))
    for column, model in enumerate(models):
        axes = make_axes(figure, grid[0, column], model.upper())
        rates = {row["contender"]: row for row in rows if row["model"] == model}
        most = max(row["reviews_per_second"] for row in rates.values())
        for place, name in enumerate(names):
            if name not in rates:
                continue
            row, ours = rates[name], name.startswith("ours")
            rate = row["reviews_per_second"]
            axes.barh(
                place,
                rate,
                color=OURS_COLOUR if ours else PEER_COLOUR if row["correct"] else "white",
                edgecolor=OURS_COLOUR if ours else PEER_COLOUR,
                hatch=None if row["correct"] else "////",
                height=0.7,
            )
            label = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
            axes.text(
                rate + 0.02 * most,
                place,
                label,
                va="center",
                fontsize=9.5,
                color=INK,
                fontweight="bold" if ours else "normal",
            )
        axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=1))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlim(0, 1.22 * most)
        axes.set_ylim(len(names) - 0.4, -0.6)  # the fastest on top
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
    return save_png(figure, path)


def _fastest_first(rows: list[dict[str, Any]]) -> list[str]:
    """Return the contenders, by their speed in the model that has most of them."""
    best: dict[str, float] = {}
    for row in rows:
        best.setdefault(row["contender"], row["reviews_per_second"])
    return sorted(best, key=lambda name: -best[name])


def _subtitle(results: Mapping[str, Any]) -> str:
    machine = str(results["machine"]).partition(" (")[0]
    parts = [machine]
    if any(not row["correct"] for row in results["rows"]):
        parts.append("hatched: wrong final states")
    if "NOT QUIET" in results["load"] or "unknown" in results["load"]:
        parts.insert(0, "NOT A QUIET MACHINE")
    return ", ".join(parts)


def draw_learning_curves(curves: Sequence[Curve], subtitle: str, path: Path) -> Path:
    """Draw a line with error bars for each method, with its name at its end; return `path`.

    Args:
        curves: at least one.
        subtitle: of the picture: data and seeds.
        path: a PNG file.
    """
    headline = "Test accuracy by the number of labelled reviews"
    what = f"{subtitle}: mean and standard deviation"
    figure = make_figure(8.2, 4.8, headline, what)
    axes = make_axes(figure, figure.add_gridspec(1, 1)[0, 0], "", "labelled reviews")
    for place, curve in enumerate(curves):
        axes.errorbar(
            curve.sizes,
            curve.means,
            yerr=curve.spreads,
            color=COLOURS[place % len(COLOURS)],
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=5,
            linewidth=1.8,
            elinewidth=1.2,
            capsize=3,
        )
    axes.set_xscale("log")
    sizes = sorted({size for curve in curves for size in curve.sizes})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.85 * sizes[0], 1.12 * sizes[-1])
    use_percent_ticks(axes.yaxis)
    low, high = axes.get_ylim()
    gap = _LABEL_GAP * (high - low)
    heights = spread_out([curve.means[-1] for curve in curves], gap)
    for place, (curve, height) in enumerate(zip(curves, heights, strict=True)):
        axes.annotate(
            curve.name,
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=COLOURS[place % len(COLOURS)],
            fontweight="bold",
            annotation_clip=False,
        )
    return save_png(figure, path)


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights in the same order, moved apart to a distance of at least `gap`.

    Heights that are too close are moved equally far up and down.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    blocks: list[tuple[float, list[int]]] = []  # centre, members from below
    for index in order:
        centre, members = heights[index], [index]
        while blocks:
            below, others = blocks[-1]
            distance = gap * (len(members) + len(others)) / 2
            if centre - below >= distance:
                break
            blocks.pop()
            members = others + members
            centre = sum(heights[i] for i in members) / len(members)
        blocks.append((centre, members))
    moved = dict[int, float]()
    for centre, members in blocks:
        for place, index in enumerate(members):
            moved[index] = centre + gap * (place - (len(members) - 1) / 2)
    return [moved[index] for index in range(len(heights))]
