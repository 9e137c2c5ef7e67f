"""Over how many words a network remembers: one picture and one table of a long-range sweep.

    python -m rnn_lab.reports.long_range runs/long_range

reads the runs of `experiment=long_range` in that folder (or in several), draws long_range.png
beside them and prints the table, in Markdown.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.errors import CheckpointError, UserError
from rnn_lab.reports.gradient_flow import log_norms
from rnn_lab.reports.long_range_runs import Sweep, read_sweep
from rnn_lab.reports.plot_style import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SKY,
    add_legend,
    new_axes,
    new_figure,
    percentages,
    save,
    whole_numbers,
)
from rnn_lab.reports.run_files import GradientFlow, read_gradient_flow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"rnn": (ORANGE, PINK), "gru": (GREEN, INK), "lstm": (SKY, BLUE, AMBER, PINK, INK)}


def markdown_table(sweep: Sweep) -> str:
    """A row a model, a column a distance: mean accuracy and, behind it, the lowest and highest."""
    lines = [
        "| model | " + " | ".join(f"{distance:,}" for distance in sweep.distances) + " |",
        "| --- |" + " --- |" * len(sweep.distances),
    ]
    for model in sweep.models:
        cells = [_cell(sweep, model, distance) for distance in sweep.distances]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(sweep: Sweep, model: str, distance: int) -> str:
    found = 100 * sweep.accuracies(model, distance)
    if not len(found):
        return "no run"
    cell = f"{found.mean():.1f}"
    if found.max() - found.min() >= 0.05:
        cell += f" ({found.min():.1f} to {found.max():.1f})"
    if len(found) < len(sweep.seeds):
        cell += f", {len(found)} of {len(sweep.seeds)} seeds"
    return cell


def draw_long_range(sweep: Sweep, flow_distance: int | None = None) -> "Figure":
    """Accuracy against distance; beside it the gradient flow at one distance, start and end.

    `flow_distance` None is the middle one of those that have a gradient_flow.csv.
    """
    seeds = len(sweep.seeds)
    words = f"mean of {seeds} seeds, small dots are single runs" if seeds > 1 else "one seed"
    if sweep.gaps:
        words += f"; missing runs: {len(sweep.gaps)} of {len(sweep.gaps) + len(sweep.runs)}"
    figure = new_figure(12.5, 6.6, "How far back can it remember? One word, then fillers", words)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1])
    left = new_axes(
        figure, grid[:, 0], "Test accuracy", "words between the one that matters and the end"
    )
    looks = _looks(sweep)
    _draw_accuracy(left, sweep, looks)

    flows, distance = _flows(sweep, flow_distance)
    upper = new_axes(figure, grid[0, 1], y_label="norm of dL/dh")
    lower = new_axes(figure, grid[1, 1], "", "words to the end of the text", "norm of dL/dh")
    upper.set_title("Gradient flow: no run measured it", fontsize=11, loc="left", color=INK)
    if flows:
        at = f"{distance:,} words"
        upper.set_title(f"Gradient flow over {at}, before training", fontsize=11, loc="left")
        lower.set_title("the same after training", fontsize=11, loc="left", color=INK)
        _draw_flows(upper, {model: first for model, first, _ in flows}, looks)
        _draw_flows(lower, {model: last for model, _, last in flows}, looks)
    return figure


def _looks(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each line."""
    left = {kind: list(colours) for kind, colours in COLOURS.items()}
    kinds = {run.model: run.kind for run in sweep.runs.values()}
    markers = "os^Dvp*"
    return {
        model: {
            "color": left[kinds[model]].pop(0) if left[kinds[model]] else GREY,
            "marker": markers[i % len(markers)],
        }
        for i, model in enumerate(sweep.models)
    }


def _draw_accuracy(axes: "Axes", sweep: Sweep, looks: dict[str, dict[str, Any]]) -> None:
    from matplotlib.ticker import NullLocator

    chance = next(iter(sweep.runs.values())).chance
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, label="chance")
    for i, model in enumerate(sweep.models):
        # A little to the side of one another: lines at 100 % would hide each other.
        aside = 1.045 ** (i - (len(sweep.models) - 1) / 2)
        found = {distance: sweep.accuracies(model, distance) for distance in sweep.distances}
        for distance, accuracies in found.items():
            x = np.full(len(accuracies), distance * aside)
            axes.plot(x, accuracies, ms=3.5, linestyle="", alpha=0.55, **looks[model])
        means = [(distance * aside, a.mean()) for distance, a in found.items() if len(a)]
        axes.plot(*zip(*means, strict=True), ms=7, linewidth=1.8, label=model, **looks[model])
    axes.set_xscale("log")
    axes.set_xticks(sweep.distances, [f"{distance:,}" for distance in sweep.distances])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(chance - 0.12, 1.03)
    percentages(axes.yaxis)
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3)


Flows = list[tuple[str, GradientFlow, GradientFlow]]


def _flows(sweep: Sweep, distance: int | None) -> tuple[Flows, int | None]:
    """The first and the last gradient flow of each model at one distance, means over seeds.

    Raises:
        CheckpointError: no run has measured it at the `distance` asked for.
    """
    measured = sorted(
        {run.distance for run in sweep.runs.values() if read_gradient_flow(run.folder)}
    )
    if distance is not None and distance not in measured:
        known = ", ".join(map(str, measured)) or "none"
        raise CheckpointError(f"gradient flow at distance {distance}: measured are {known}")
    if not measured:
        return [], None
    distance = distance or measured[len(measured) // 2]
    flows: Flows = []
    for model in sweep.models:
        runs = [r for r in sweep.runs.values() if (r.model, r.distance) == (model, distance)]
        if ends := [pair for run in runs if (pair := _first_and_last(run.folder))]:
            firsts, lasts = zip(*ends, strict=True)
            flows.append((model, _mean(firsts), _mean(lasts)))
    return flows, distance


def _first_and_last(folder: Path) -> tuple[GradientFlow, GradientFlow] | None:
    """Of the highest layer, read forward; None where the run measured none."""
    flows = [flow for flow in read_gradient_flow(folder) if flow.direction == "forward"]
    highest = [flow for flow in flows if flow.layer == flows[-1].layer]
    return (highest[0], highest[-1]) if highest else None


def _mean(flows: Sequence[GradientFlow]) -> GradientFlow:
    """The geometric mean, since norms of different seeds lie orders of magnitude apart."""
    with np.errstate(divide="ignore"):
        norms = np.exp(np.mean([np.log(flow.norms) for flow in flows], axis=0))
    first = flows[0]
    return GradientFlow(first.step, first.layer, first.direction, first.distances, norms)


def _draw_flows(
    axes: "Axes", flows: dict[str, GradientFlow], looks: dict[str, dict[str, Any]]
) -> None:
    for model, flow in flows.items():
        axes.plot(flow.distances, flow.norms, color=looks[model]["color"], linewidth=1.8)
    log_norms(axes, list(flows.values()))
    whole_numbers(axes.xaxis)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture of the sweep and print its table."""
    parser = argparse.ArgumentParser(prog="rnn_lab.reports.long_range", description=__doc__)
    parser.add_argument("sweep", type=Path, nargs="+", help="folder of a sweep, or several")
    parser.add_argument("--output", type=Path, help="the PNG; long_range.png in the folder")
    parser.add_argument("--flow-distance", type=int, help="where gradient flow is shown")
    given = parser.parse_args(arguments)
    try:
        sweep = read_sweep(given.sweep)
        figure = draw_long_range(sweep, given.flow_distance)
        path = save(figure, given.output or given.sweep[0] / "long_range.png")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(markdown_table(sweep))
    for folder in sweep.unfinished:
        print(f"not finished: {folder}")
    for model, distance, seed in sweep.gaps:
        print(f"no run: {model}, distance {distance}, seed {seed}")
    print(f"Picture: {path}")


if __name__ == "__main__":
    main()
