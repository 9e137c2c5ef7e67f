"""Draw the results of throughput.py: reviews/s by contender, as horizontal bars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from rnn_lab.reports.plot_style import (
    BLUE,
    GREY,
    INK,
    PALE,
    make_axes,
    make_figure,
    mix_colours,
    save_png,
)

# A picture of its own white: it reads the same on a light and on a dark page.
OURS_COLOUR, PEER_COLOUR = BLUE, mix_colours(GREY, PALE, 0.35)


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
