"""Plot and tabulate a sweep of `experiment=long_range`: how far back each model remembers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rnn_lab.errors import CheckpointError
from rnn_lab.reports import plot_style as style
from rnn_lab.reports.formatting import format_model
from rnn_lab.reports.plot_style import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY
from rnn_lab.reports.plots import use_flow_scales
from rnn_lab.reports.sweep.options import format_value, short_names, swept_options
from rnn_lab.runs.gradient_flow import GradientFlowCurve, read_gradient_flow
from rnn_lab.runs.jobs import find_job_dirs, job_status
from rnn_lab.runs.result_json import read_result
from rnn_lab.runs.run_config import SEED, RawConfig, config_from_result, read_config, resolve

# The order of the lines, and colours for the variants of each cell. Other cells follow.
CELL_COLOURS = {"rnn": (ORANGE, PINK), "gru": (GREEN, INK), "lstm": (SKY, BLUE, AMBER, PINK, INK)}
OTHER_COLOURS = (PINK, AMBER, INK, ORANGE, SKY, BLUE, GREEN)
MARKERS = "os^Dvp*"

_AXES = ("data.distance", SEED)  # what a line is drawn over

LineStyles = dict[str, dict[str, Any]]  # of each model: options of Axes.plot


@dataclass(frozen=True)
class LongRangeRun:
    """One finished run of the sweep."""

    folder: Path
    model: str  # the label of its line: cell, variant and swept options
    cell: str  # rnn, lstm, gru ...
    distance: int
    seed: int
    accuracy: float  # of the test split
    chance: float  # accuracy of random guesses
    options: RawConfig


@dataclass(frozen=True)
class LongRangeSweep:
    """The finished runs by model, distance and seed, and the unfinished ones."""

    runs: dict[tuple[str, int, int], LongRangeRun]
    unfinished: list[Path]  # folders without a result

    @property
    def cells(self) -> dict[str, str]:
        """The cell of each line: RNN, GRU, LSTM, other cells; of one cell the shortest first."""
        known = list(CELL_COLOURS)

        def position(line: tuple[str, str]) -> tuple[int, str, int, str]:
            model, cell = line
            known_position = known.index(cell) if cell in known else len(known)
            return known_position, cell, len(model), model

        return dict(sorted({(run.model, run.cell) for run in self.runs.values()}, key=position))

    @property
    def models(self) -> list[str]:
        """The labels of the lines."""
        return list(self.cells)

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

    def select(self, model: str, distance: int) -> list[LongRangeRun]:
        """Return the finished runs of a model at a distance by seed, possibly none."""
        keys = [(model, distance, seed) for seed in self.seeds]
        return [self.runs[key] for key in keys if key in self.runs]

    def accuracies(self, model: str, distance: int) -> np.ndarray:
        """Return test accuracies, float64 [finished seeds], possibly none."""
        return np.array([run.accuracy for run in self.select(model, distance)])


def read_long_range(folders: Sequence[Path]) -> LongRangeSweep:
    """Read the runs of `experiment=long_range` in `folders`.

    Raises:
        CheckpointError: there is none, a run used other data, or two runs are the same.
    """
    for sweep in folders:
        if not sweep.is_dir():
            raise CheckpointError(f"{sweep}: no such folder; give the folder of a sweep")
    jobs = {folder: job_status(folder) for sweep in folders for folder in find_job_dirs(sweep)}
    runs: dict[tuple[str, int, int], LongRangeRun] = {}
    finished = [folder for folder, status in jobs.items() if status == "finished"]
    for run in _name_swept([_read_run(folder) for folder in finished]):
        earlier = runs.setdefault((run.model, run.distance, run.seed), run)
        if earlier is not run:
            raise CheckpointError(
                f"{run.folder}: {run.model} at distance {run.distance}, seed {run.seed} "
                f"is in {earlier.folder} too; give only one of them"
            )
    if not runs:
        raise CheckpointError(f"{', '.join(map(str, folders))}: contains no finished run")
    return LongRangeSweep(runs, [folder for folder in jobs if jobs[folder] != "finished"])


def _read_run(folder: Path) -> LongRangeRun:
    result = read_result(folder)
    model, data = result["model"], result["data"]
    if data["name"] != "long_range":
        raise CheckpointError(f"{folder}: a run of {data['name']}, not of long_range")
    label = format_model(result)
    if (bias := model.get("forget_bias")) is not None:
        label += f", forget bias {bias:g}"
    if model.get("reset_after") is False:
        label += ", reset before"
    distance, chance = data["options"]["distance"], 1 / len(data["class_names"])
    if (accuracy := result.get("test/accuracy")) is None:
        raise CheckpointError(f"{folder}: a run without a test (test=false)")
    options = read_config(folder) or config_from_result(result)
    seed = result["seed"]
    return LongRangeRun(folder, label, model["name"], distance, seed, accuracy, chance, options)


def _name_swept(runs: Sequence[LongRangeRun]) -> list[LongRangeRun]:
    """Return the runs with a line of their own for each value of the other swept options.

    That is, of those in which the runs of one line differ: "GRU, hidden_size 8".
    """
    lines: dict[str, list[LongRangeRun]] = {}
    for run in runs:
        lines.setdefault(run.model, []).append(run)
    named = []
    for line in lines.values():
        varied = [
            name for name in swept_options([run.options for run in line]) if name not in _AXES
        ]
        short = short_names(varied)
        for run in line:
            values = [
                f"{short[name]} {format_value(resolve(run.options, name))}" for name in varied
            ]
            named.append(replace(run, model=", ".join([run.model, *values])))
    return named


def format_markdown(sweep: LongRangeSweep) -> str:
    """Return a Markdown table, a row per model and a column per distance.

    A cell holds the mean test accuracy in percent and, in brackets, the lowest and the highest.
    """
    rows = [["model", *(f"{distance:,}" for distance in sweep.distances)]]
    rows += [["---"] * len(rows[0])]
    rows += [[m, *(_format_cell(sweep, m, d) for d in sweep.distances)] for m in sweep.models]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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


def plot_long_range(sweep: LongRangeSweep, flow_distance: int | None = None) -> Figure:
    """Plot accuracy by distance, and the gradient flow at one distance before and after training.

    `flow_distance` None is the middle one of those with a gradient_flow.csv.

    Raises:
        CheckpointError: no run measured the gradient flow at `flow_distance`.
    """
    seeds, missing = len(sweep.seeds), len(sweep.missing)
    subtitle = f"mean of {seeds} seeds, small dots are single runs" if seeds > 1 else "one seed"
    if missing:
        subtitle += f"; missing runs: {missing} of {missing + len(sweep.runs)}"
    headline = "Long-range memory: recall the first word after many filler words"
    figure = style.make_figure(12.5, 6.6, headline, subtitle)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1])
    x_label = "distance: words from signal to end"
    left = style.make_axes(figure, grid[:, 0], "Test accuracy", x_label)
    styles = _line_styles(sweep)
    _plot_accuracy(left, sweep, styles)

    flows, distance = _gradient_flows(sweep, flow_distance)
    titles = ["Gradient flow: not measured by any run", ""]
    if flows:
        before = f"Gradient flow at distance {distance:,}, before training"
        titles = [before, "Gradient flow after training"]
    for moment, x_label in enumerate(("", "words to the end of the text")):
        axes = style.make_axes(figure, grid[moment, 1], titles[moment], x_label, "norm of dL/dh")
        for model, ends in flows.items():
            flow, colour = ends[moment], styles[model]["color"]
            axes.plot(flow.distances, flow.norms, color=colour, linewidth=1.8)
        if flows:
            use_flow_scales(axes, [ends[moment] for ends in flows.values()])
    return figure


def _line_styles(sweep: LongRangeSweep) -> LineStyles:
    """Return a colour and a marker for each line."""
    unused = {cell: list(colours) for cell, colours in CELL_COLOURS.items()}
    other = list(OTHER_COLOURS)
    styles = {}
    for i, (model, cell) in enumerate(sweep.cells.items()):
        colours = unused.get(cell, other)
        colour = colours.pop(0) if colours else GREY
        styles[model] = {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
    return styles


def _plot_accuracy(axes: Axes, sweep: LongRangeSweep, styles: LineStyles) -> None:
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
    style.use_percent_ticks(axes.yaxis)
    style.add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3)


def _gradient_flows(
    sweep: LongRangeSweep, distance: int | None
) -> tuple[dict[str, tuple[GradientFlowCurve, GradientFlowCurve]], int | None]:
    """Return the first and last gradient flow of each model at one distance, means over seeds."""
    measured = sorted({r.distance for r in sweep.runs.values() if read_gradient_flow(r.folder)})
    if distance is not None and distance not in measured:
        known = ", ".join(map(str, measured)) or "none"
        raise CheckpointError(
            f"gradient flow at distance {distance}: not measured. Choose from: {known}"
        )
    if not measured:
        return {}, None
    distance = distance or measured[len(measured) // 2]
    flows = {}
    for model in sweep.models:
        ends = [_first_and_last(run.folder) for run in sweep.select(model, distance)]
        if found := [pair for pair in ends if pair]:
            firsts, lasts = zip(*found, strict=True)
            flows[model] = _geometric_mean(firsts), _geometric_mean(lasts)
    return flows, distance


def _first_and_last(folder: Path) -> tuple[GradientFlowCurve, GradientFlowCurve] | None:
    """Return the flows of the highest layer's forward direction, None if not measured."""
    flows = [flow for flow in read_gradient_flow(folder) if flow.direction == "forward"]
    highest = [flow for flow in flows if flow.layer == flows[-1].layer]
    return (highest[0], highest[-1]) if highest else None


def _geometric_mean(flows: Sequence[GradientFlowCurve]) -> GradientFlowCurve:
    """Average over seeds, whose norms are orders of magnitude apart."""
    with np.errstate(divide="ignore"):
        norms = np.exp(np.mean([np.log(flow.norms) for flow in flows], axis=0))
    return replace(flows[0], norms=norms)
