"""The charts on a sweep's page, as coordinates for its SVG: axes with ticks, then lines and bars.

SVG drawn here, not a charting library: a page of twelve runs stays near 45 KB (Plotly's bundle
alone has 4.8 MB, ECharts' 1.1 MB), and an axis can hold null and words beside a logarithmic scale.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_lab.reports.axes import (
    Axis,
    Point,
    epoch_axis,
    linear_scale,
    logarithmic_scale,
    make_ticks,
    metric_axis,
    thin_out,
)
from rnn_lab.reports.formatting import (
    format_metric,
    format_metric_name,
    shorten,
)
from rnn_lab.reports.plot_style import COLOURS, GREY, ORANGE, mix_colours
from rnn_lab.reports.sweep.groups import SeedGroup, SeedStats
from rnn_lab.reports.sweep.jobs import JobSummary, sweep_mode
from rnn_lab.reports.sweep.options import REPEATS, format_value, short_names
from rnn_lab.runs.run_config import ABSENT

WIDTH = 1120  # pixels
AXIS_SPACING = 150  # pixels between parallel axes, at least
BAR_WIDTH, BAR_HEIGHT = 300, 24  # pixels, of the interval of a group
PALE_BLUE, DEEP_BLUE = "#B8C7D6", "#00457A"  # of the runs with the lowest and the highest rank
OTHER_GROUPS = "#9A9A9A"  # colour of the groups beyond COLOURS
WORD_SPACING = 26  # pixels between values that are not numbers, below the numbers
MIN_LOG_RATIO = 4  # of the greatest to the least number on a logarithmic axis
MAX_NUMBERS = 8  # that all have a tick


# ---- Axes


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; booleans are not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def option_axis(values: Sequence[Any], start: float, end: float) -> Axis:
    """Return the axis of an option: words and null from `start`, then numbers up to `end`.

    Numbers that span orders of magnitude get a logarithmic scale. A single number is placed like a
    word.
    """
    numbers = sorted({value for value in values if is_number(value)})
    words = _sort_words({_key(value): value for value in values if not is_number(value)})
    if len(numbers) < 2:
        words, numbers = words + numbers, []
        spacing = (end - start) / max(len(words) - 1, 1)
    else:
        space = min(WORD_SPACING * len(words), abs(end - start) / 2)
        spacing = math.copysign(space / max(len(words), 1), end - start)
    first = (start + end) / 2 if not numbers and len(words) == 1 else start
    positions = {_key(word): first + i * spacing for i, word in enumerate(words)}

    def word_position(value: Any) -> float:
        return positions[_key(value)]

    def label(value: Any) -> str:
        return format_value(value, exact=False)

    ticks = make_ticks(word_position, words, label)
    if not numbers:
        return Axis(word_position, thin_out(ticks))
    logarithmic = _needs_log_scale(numbers)
    scale = logarithmic_scale if logarithmic else linear_scale
    number_position, marks = scale(numbers, start + spacing * len(words), end)
    marks = list(numbers) if len(numbers) <= MAX_NUMBERS else marks
    ticks += make_ticks(number_position, map(_as_int, marks), label)

    def position(value: Any) -> float:
        return number_position(value) if is_number(value) else word_position(value)

    return Axis(position, thin_out(ticks), logarithmic)


def _needs_log_scale(numbers: Sequence[float]) -> bool:
    """Return whether sorted numbers would crowd at the lower end of a linear scale."""
    least, greatest, n = numbers[0], numbers[-1], len(numbers)
    if n < 3 or least <= 0 or greatest / least < MIN_LOG_RATIO:
        return False
    median = math.sqrt(numbers[(n - 1) // 2] * numbers[n // 2])
    return (median - least) / (greatest - least) < 0.35


def _sort_words(words: Mapping[str, Any]) -> list[Any]:
    """Sort values that are not numbers: absent, null, false, true, then strings."""
    order = {ABSENT: 0, "null": 1, "false": 2, "true": 3}
    return sorted(words.values(), key=lambda v: (order.get(format_value(v), 4), format_value(v)))


def _key(value: Any) -> str:
    return f"number:{float(value)}" if is_number(value) else f"{type(value).__name__}:{value}"


def _as_int(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


# ---- Lines


@dataclass(frozen=True)
class Line:
    """One run in a chart."""

    job: JobSummary
    points: list[Point]
    colour: str
    title: str  # shown on hover
    best_epoch: Point | None = None

    @property
    def dashed(self) -> bool:
        """Whether the run is not finished."""
        return self.job.status != "finished"

    @property
    def path(self) -> str:
        """The path of an SVG. A single point becomes a short dash, or nothing would be drawn."""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in self.points)
        return path if len(self.points) > 1 else f"{path}h0.1"


def group_colours(groups: Sequence[SeedGroup]) -> dict[str, str]:
    """Return the colour of each job by name: distinct ones for the best groups."""
    colours = [*COLOURS, *[OTHER_GROUPS] * len(groups)]
    pairs = zip(groups, colours, strict=False)
    return {job.name: colour for group, colour in pairs for job in group.jobs}


def run_title(job: JobSummary, varied: Sequence[str], monitor: str) -> str:
    """Return the text shown when the pointer is on a run: name, metric and varied options."""
    value, short = job.metrics.get(monitor), short_names(varied)
    parts = [
        job.name,
        "" if job.rank is None else f"rank {job.rank}",
        "" if job.status == "finished" else job.status,
        "" if value is None else f"{format_metric_name(monitor)} {format_metric(monitor, value)}",
    ]
    values = [format_value(job.option(name), exact=False) for name in varied]
    options = [f"{short[name]}={value}" for name, value in zip(varied, values, strict=True)]
    lines = (" · ".join(filter(None, parts)), ", ".join(options) if job.config else "")
    return "\n".join(filter(None, lines))


def curve_chart(
    jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str, colours: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the learning curves of `monitor` by epoch, None if no run has one."""
    drawn = [(job, *job.curves[monitor]) for job in jobs if job.curves.get(monitor)]
    if not drawn:
        return None
    left, top, right, bottom = plot = (78, 14, WIDTH - 24, 410)
    x = epoch_axis(max(epochs[-1] for _, epochs, _ in drawn), left + 14, right - 14)
    values = [value for _, _, found in drawn for value in found]
    y = metric_axis(values, monitor, bottom - 12, top + 12)
    lines = []
    for job, epochs, found in reversed(drawn):
        points = [(x.position(e), y.position(v)) for e, v in zip(epochs, found, strict=True)]
        at_epoch: dict[int | None, Point] = dict(zip(epochs, points, strict=True))
        colour, title = colours.get(job.name, OTHER_GROUPS), run_title(job, varied, monitor)
        lines.append(Line(job, points, colour, title, at_epoch.get(job.best_epoch)))
    return {
        "width": WIDTH,
        "height": 462,
        "plot": plot,
        "x": x,
        "y": y,
        "y_label": format_metric_name(monitor),
        "lines": sorted(lines, key=lambda line: line.colour != OTHER_GROUPS),  # the best on top
        "missing": len(jobs) - len(drawn),  # runs without a curve
    }


def parallel_chart(
    jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str
) -> dict[str, Any] | None:
    """Return parallel coordinates of the jobs with a value of `monitor`, None if there are none.

    The axes are the varied options and `monitor`.
    """
    values = {job.name: value for job in jobs if (value := job.metrics.get(monitor)) is not None}
    drawn = [job for job in jobs if job.name in values and job.config]
    options = [name for name in varied if name not in REPEATS] or list(varied)
    if not drawn or not options:
        return None
    top, bottom, left = 64, 400, 90
    spacing = max(AXIS_SPACING, (WIDTH - 2 * left) / len(options))
    axes = []
    for i, option in enumerate(options):
        group, dot, name = option.rpartition(".")
        axis = option_axis([job.option(option) for job in drawn], bottom, top)
        x, label = left + i * spacing, shorten(name, 22)
        axes.append(_parallel_axis(x, group + dot, label, option, axis))
    ends = (top, bottom) if sweep_mode(jobs, monitor) == "min" else (bottom, top)
    metric = metric_axis([values[job.name] for job in drawn], monitor, *ends)
    right = left + len(options) * spacing
    name = monitor.rpartition("/")[2]

    num_ranked = sum(job.rank is not None for job in drawn)  # which come first
    lines = []
    for position, job in reversed(list(enumerate(drawn))):
        # Runs with equal options are shifted a little, or only the last one would be visible.
        shift = (position / max(len(drawn) - 1, 1) - 0.5) * min(10, len(drawn))
        points = [
            (one["x"], one["axis"].position(job.option(one["full_name"])) + shift) for one in axes
        ]
        points.append((right, metric.position(values[job.name])))
        colour = GREY
        if job.rank is not None:
            blue = mix_colours(DEEP_BLUE, PALE_BLUE, position / max(num_ranked - 1, 1))
            colour = ORANGE if job.rank == 1 else blue
        lines.append(Line(job, points, colour, run_title(job, varied, monitor)))
    return {
        "width": round(right + left),
        "height": bottom + 34,
        "top": top,
        "bottom": bottom,
        "axes": [*axes, _parallel_axis(right, "validation", name, monitor, metric)],
        "lines": lines,
    }


def _parallel_axis(x: float, group: str, name: str, full_name: str, axis: Axis) -> dict[str, Any]:
    return {"x": x, "group": group, "name": name, "full_name": full_name, "axis": axis}


# ---- Bars


def stats_bars(
    groups: Sequence[SeedGroup],
) -> tuple[list[dict[str, Any] | None], tuple[float, float]]:
    """Return the dots, mean, low and high of each group, and the values at the scale's ends.

    The scale spans the runs and half as much on either side. Wider intervals are cut off: that of
    two runs can be ten times as wide as their difference.
    """
    all_stats = [group.validation for group in groups]
    values = [value for stats in all_stats for value in stats.values]
    if not values:
        return [None] * len(groups), (0.0, 1.0)
    span = (max(values) - min(values)) or 0.01
    intervals = [e for stats in all_stats for e in (stats.low, stats.high) if e is not None]
    least = max(min([*intervals, *values]), min(values) - 0.5 * span) - 0.03 * span
    greatest = min(max([*intervals, *values]), max(values) + 0.5 * span) + 0.03 * span

    def position(value: float | None) -> float | None:
        ends = (least, greatest), (0, BAR_WIDTH)
        return None if value is None else float(np.interp(value, *ends))

    def bar(stats: SeedStats) -> dict[str, Any] | None:
        ends = {name: position(getattr(stats, name)) for name in ("mean", "low", "high")}
        return {"dots": [position(value) for value in stats.values]} | ends if stats.n else None

    return [bar(stats) for stats in all_stats], (least, greatest)
