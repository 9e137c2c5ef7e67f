"""Plot and tabulate a sweep of `experiment=long_range`: how far back each model remembers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.formatting import format_model
from rnn_lab.reports.gradient_flow import use_log_norms
from rnn_lab.reports.job_files import find_job_dirs, job_status
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
    make_axes,
    make_figure,
    use_integer_ticks,
    use_percent_ticks,
)
from rnn_lab.reports.run_files import GradientFlow, read_gradient_flow, read_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The order of the lines, and colours for the variants of each cell. Other cells follow.
CELL_COLOURS = {"rnn": (ORANGE, PINK), "gru": (GREEN, INK), "lstm": (SKY, BLUE, AMBER, PINK, INK)}
OTHER_COLOURS = (PINK, AMBER, INK, ORANGE, SKY, BLUE, GREEN)
MARKERS = "os^Dvp*"


@dataclass(frozen=True)
class LongRangeRun:
    """One finished run of the sweep."""

    folder: Path
    model: str  # the label of its line: cell and variant
    cell: str  # rnn, lstm, gru ...
    distance: int
    seed: int
    accuracy: float  # of the test split
    chance: float  # accuracy of random guesses


@dataclass(frozen=True)
class LongRangeSweep:
    """The finished runs by model, distance and seed, and the unfinished ones."""

    runs: dict[tuple[str, int, int], LongRangeRun]
    unfinished: tuple[Path, ...]  # folders without a result

    @property
    def models(self) -> list[str]:
        """The labels of the lines: RNN, GRU, LSTM, other cells; of one cell the shortest first."""
        cells = {run.model: run.cell for run in self.runs.values()}
        known = list(CELL_COLOURS)

        def position(model: str) -> tuple[int, str, int, str]:
            cell = cells[model]
            known_position = known.index(cell) if cell in known else len(known)
            return known_position, cell, len(model), model

        return sorted(cells, key=position)

    @property
    def distances(self) -> list[int]:
        """The distances of all runs, ascending."""
        return sorted({distance for _, distance, _ in self.runs})

    @property
    def seeds(self) -> list[int]:
        """The seeds of all runs, ascending."""
        return sorted({seed for _, _, seed in self.runs})

    @property
    def missing(self) -> list[tuple[str, int, int]]:
        """The combinations of model, distance and seed without a finished run."""
        grid = product(self.models, self.distances, self.seeds)
        return [key for key in grid if key not in self.runs]

    def accuracies(self, model: str, distance: int) -> np.ndarray:
        """Return test accuracies, float64 [finished seeds], possibly none."""
        found = (self.runs.get((model, distance, seed)) for seed in self.seeds)
        return np.array([run.accuracy for run in found if run is not None])


def read_long_range(folders: Sequence[Path]) -> LongRangeSweep:
    """Read the runs of `experiment=long_range` in `folders`.

    Raises:
        CheckpointError: there is none, a run used other data, or two runs are the same.
    """
    runs: dict[tuple[str, int, int], LongRangeRun] = {}
    unfinished = []
    for sweep in folders:
        if not sweep.is_dir():
            raise CheckpointError(f"{sweep}: no such folder; give the folder of a sweep")
        for folder in find_job_dirs(sweep):
            if job_status(folder) != "finished":
                unfinished.append(folder)
                continue
            run = _read_run(folder)
            key = run.model, run.distance, run.seed
            if key in runs:
                raise CheckpointError(
                    f"{run.folder}: {run.model} at distance {run.distance}, seed {run.seed} "
                    f"is in {runs[key].folder} too; give only one of them"
                )
            runs[key] = run
    if not runs:
        raise CheckpointError(f"{', '.join(map(str, folders))}: contains no finished run")
    return LongRangeSweep(runs, tuple(unfinished))


def _read_run(folder: Path) -> LongRangeRun:
    result = read_result(folder)
    if result["data"]["name"] != "long_range":
        raise CheckpointError(f"{folder}: a run of {result['data']['name']}, not of long_range")
    label = format_model(result)
    if (bias := result["model"].get("forget_bias")) is not None:
        label += f", forget bias {bias:g}"
    if result["model"].get("reset_after") is False:
        label += ", reset before"
    return LongRangeRun(
        folder,
        label,
        result["model"]["name"],
        result["data"]["options"]["distance"],
        result["seed"],
        result["test/accuracy"],
        1 / len(result["data"]["class_names"]),
    )


def format_markdown(sweep: LongRangeSweep) -> str:
    """Return a Markdown table, a row per model and a column per distance.

    A cell holds the mean test accuracy in percent and, in brackets, the lowest and the highest.
    """
    lines = [
        "| model | " + " | ".join(f"{distance:,}" for distance in sweep.distances) + " |",
        "| --- |" + " --- |" * len(sweep.distances),
    ]
    for model in sweep.models:
        cells = [_format_cell(sweep, model, distance) for distance in sweep.distances]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _format_cell(sweep: LongRangeSweep, model: str, distance: int) -> str:
    found = 100 * sweep.accuracies(model, distance)
    if not len(found):
        return "no run"
    cell = f"{found.mean():.1f}"
    if found.max() - found.min() >= 0.05:
        cell += f" ({found.min():.1f} to {found.max():.1f})"
    if len(found) < len(sweep.seeds):
        cell += f", {len(found)} of {len(sweep.seeds)} seeds"
    return cell


def plot_long_range(sweep: LongRangeSweep, flow_distance: int | None = None) -> "Figure":
    """Plot accuracy by distance, and the gradient flow at one distance before and after training.

    `flow_distance` None is the middle one of those with a gradient_flow.csv.

    Raises:
        CheckpointError: no run measured the gradient flow at `flow_distance`.
    """
    seeds = len(sweep.seeds)
    subtitle = f"mean of {seeds} seeds, small dots are single runs" if seeds > 1 else "one seed"
    if sweep.missing:
        total = len(sweep.missing) + len(sweep.runs)
        subtitle += f"; missing runs: {len(sweep.missing)} of {total}"
    headline = "Long-range memory: recall the first word after many filler words"
    figure = make_figure(12.5, 6.6, headline, subtitle)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1])
    left = make_axes(figure, grid[:, 0], "Test accuracy", "distance: words from signal to end")
    styles = _line_styles(sweep)
    _plot_accuracy(left, sweep, styles)

    flows, distance = _gradient_flows(sweep, flow_distance)
    upper = make_axes(figure, grid[0, 1], y_label="norm of dL/dh")
    lower = make_axes(figure, grid[1, 1], "", "words to the end of the text", "norm of dL/dh")
    upper.set_title("Gradient flow: not measured by any run", fontsize=11, loc="left", color=INK)
    if flows:
        title = f"Gradient flow at distance {distance:,}, before training"
        upper.set_title(title, fontsize=11, loc="left")
        lower.set_title("Gradient flow after training", fontsize=11, loc="left", color=INK)
        _plot_flows(upper, {model: first for model, first, _ in flows}, styles)
        _plot_flows(lower, {model: last for model, _, last in flows}, styles)
    return figure


def _line_styles(sweep: LongRangeSweep) -> dict[str, dict[str, Any]]:
    """Return a colour and a marker for each line."""
    unused = {cell: list(colours) for cell, colours in CELL_COLOURS.items()}
    other = list(OTHER_COLOURS)
    cells = {run.model: run.cell for run in sweep.runs.values()}
    styles = {}
    for i, model in enumerate(sweep.models):
        colours = unused.get(cells[model], other)
        colour = colours.pop(0) if colours else GREY
        styles[model] = {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
    return styles


def _plot_accuracy(axes: "Axes", sweep: LongRangeSweep, styles: dict[str, dict[str, Any]]) -> None:
    from matplotlib.ticker import NullLocator

    chance = next(iter(sweep.runs.values())).chance
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, label="chance")
    for i, model in enumerate(sweep.models):
        # Lines are shifted a little, or those at 100 % would hide one another.
        shift = 1.045 ** (i - (len(sweep.models) - 1) / 2)
        found = {distance: sweep.accuracies(model, distance) for distance in sweep.distances}
        for distance, accuracies in found.items():
            x = np.full(len(accuracies), distance * shift)
            axes.plot(x, accuracies, ms=3.5, linestyle="", alpha=0.55, **styles[model])
        means = [(distance * shift, a.mean()) for distance, a in found.items() if len(a)]
        axes.plot(*zip(*means, strict=True), ms=7, linewidth=1.8, label=model, **styles[model])
    axes.set_xscale("log")
    axes.set_xticks(sweep.distances, [f"{distance:,}" for distance in sweep.distances])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(chance - 0.12, 1.03)
    use_percent_ticks(axes.yaxis)
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3)


_Flows = list[tuple[str, GradientFlow, GradientFlow]]


def _gradient_flows(sweep: LongRangeSweep, distance: int | None) -> tuple[_Flows, int | None]:
    """Return the first and last gradient flow of each model at one distance, means over seeds."""
    measured = sorted(
        {run.distance for run in sweep.runs.values() if read_gradient_flow(run.folder)}
    )
    if distance is not None and distance not in measured:
        known = ", ".join(map(str, measured)) or "none"
        raise CheckpointError(
            f"gradient flow at distance {distance}: not measured. Choose from: {known}"
        )
    if not measured:
        return [], None
    distance = distance or measured[len(measured) // 2]
    flows: _Flows = []
    for model in sweep.models:
        runs = [r for r in sweep.runs.values() if (r.model, r.distance) == (model, distance)]
        if ends := [pair for run in runs if (pair := _first_and_last(run.folder))]:
            firsts, lasts = zip(*ends, strict=True)
            flows.append((model, _geometric_mean(firsts), _geometric_mean(lasts)))
    return flows, distance


def _first_and_last(folder: Path) -> tuple[GradientFlow, GradientFlow] | None:
    """Return the flows of the highest layer's forward direction, None if not measured."""
    flows = [flow for flow in read_gradient_flow(folder) if flow.direction == "forward"]
    highest = [flow for flow in flows if flow.layer == flows[-1].layer]
    return (highest[0], highest[-1]) if highest else None


def _geometric_mean(flows: Sequence[GradientFlow]) -> GradientFlow:
    """Average over seeds, whose norms are orders of magnitude apart."""
    with np.errstate(divide="ignore"):
        norms = np.exp(np.mean([np.log(flow.norms) for flow in flows], axis=0))
    first = flows[0]
    return GradientFlow(first.step, first.layer, first.direction, first.distances, norms)


def _plot_flows(
    axes: "Axes", flows: dict[str, GradientFlow], styles: dict[str, dict[str, Any]]
) -> None:
    for model, flow in flows.items():
        axes.plot(flow.distances, flow.norms, color=styles[model]["color"], linewidth=1.8)
    use_log_norms(axes, list(flows.values()))
    use_integer_ticks(axes.xaxis)
