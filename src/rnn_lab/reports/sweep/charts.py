"""The charts on a sweep's page, as coordinates for its SVG.

SVG drawn here, not a charting library: a page of twelve runs stays near 45 KB (Plotly's bundle
alone has 4.8 MB, ECharts' 1.1 MB), and an axis can hold null and words beside a logarithmic scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnn_lab.reports.formatting import format_metric, format_metric_name, shorten
from rnn_lab.reports.plot_style import COLOURS, GREY, ORANGE
from rnn_lab.reports.sweep.groups import SeedGroup, SeedStats
from rnn_lab.reports.sweep.jobs import EpochCurve, JobSummary, smaller_is_better
from rnn_lab.reports.sweep.options import SEED, format_value, resolve
from rnn_lab.reports.sweep.scales import Axis, epoch_axis, metric_axis, option_axis

OTHER_GROUPS = "#9A9A9A"  # colour of the groups beyond COLOURS
WIDTH = 1120  # pixels
AXIS_SPACING = 150  # pixels between parallel axes, at least
BAR_WIDTH, BAR_HEIGHT = 300, 24  # pixels, of the interval of a group

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One run in a chart."""

    job: JobSummary
    points: tuple[Point, ...]
    colour: str
    title: str  # shown on hover
    best_epoch: Point | None = None
    is_best: bool = False
    dashed: bool = False  # not finished

    @property
    def path(self) -> str:
        """The path of an SVG. A single point becomes a short dash, or nothing would be drawn."""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in self.points)
        return path if len(self.points) > 1 else f"{path}h0.1"


@dataclass(frozen=True)
class CurveChart:
    """Learning curves of all runs."""

    width: int
    height: int
    plot: tuple[int, int, int, int]  # left, top, right, bottom
    x: Axis
    y: Axis
    y_label: str
    lines: tuple[Line, ...]  # the best ones last, on top
    missing: int  # runs without a curve


@dataclass(frozen=True)
class ParallelAxis:
    """One axis of the parallel coordinates."""

    x: float
    group: str  # "optimizer." of optimizer.lr
    name: str
    full_name: str
    axis: Axis


@dataclass(frozen=True)
class ParallelChart:
    """Parallel coordinates: the varied options and the monitored validation metric."""

    width: int
    height: int
    top: int
    bottom: int
    axes: tuple[ParallelAxis, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class StatsBar:
    """The values, mean and interval of one group, in pixels of a scale shared by all groups."""

    dots: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None


def group_colours(groups: Sequence[SeedGroup]) -> dict[str, str]:
    """Return the colour of each job by name: distinct ones for the best groups."""
    colours: dict[str, str] = {}
    for position, group in enumerate(groups):
        colour = COLOURS[position] if position < len(COLOURS) else OTHER_GROUPS
        colours |= {job.name: colour for job in group.jobs}
    return colours


def curve_chart(
    jobs: Sequence[JobSummary], monitor: str, colours: Mapping[str, str], labels: Mapping[str, str]
) -> CurveChart | None:
    """Return the learning curves of `monitor` by epoch, None if no run has one."""
    drawn = [job for job in jobs if job.curves.get(monitor)]
    if not drawn:
        return None
    left, top, right, bottom = plot = (78, 14, WIDTH - 24, 410)
    curves: dict[str, EpochCurve] = {job.name: job.curves[monitor] for job in drawn}
    x = epoch_axis(max(epochs[-1] for epochs, _ in curves.values()), left + 14, right - 14)
    values = [value for _, found in curves.values() for value in found]
    y = metric_axis(values, monitor, bottom - 12, top + 12)
    lines = []
    for job in reversed(drawn):
        epochs, found = curves[job.name]
        points = [(x.position(e), y.position(v)) for e, v in zip(epochs, found, strict=True)]
        best = dict(zip(epochs, points, strict=True)).get(job.best_epoch or 0)
        lines.append(
            Line(
                job,
                tuple(points),
                colours.get(job.name, OTHER_GROUPS),
                run_title(job, monitor, labels.get(job.name, "")),
                best_epoch=best if job.best_epoch is not None else None,
                dashed=job.status != "finished",
            )
        )
    lines.sort(key=lambda line: line.colour != OTHER_GROUPS)
    label, missing = format_metric_name(monitor), len(jobs) - len(drawn)
    return CurveChart(WIDTH, 462, plot, x, y, label, tuple(lines), missing)


def run_title(job: JobSummary, monitor: str, label: str) -> str:
    """Return the text shown when the pointer is on a run."""
    value = job.metrics.get(monitor)
    parts = [job.name, "" if job.rank is None else f"rank {job.rank}"]
    parts += [job.status if job.status != "finished" else ""]
    if value is not None:
        parts.append(f"{format_metric_name(monitor)} {format_metric(monitor, value)}")
    return "\n".join(part for part in (" · ".join(filter(None, parts)), label) if part)


def parallel_chart(
    jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str, labels: Mapping[str, str]
) -> ParallelChart | None:
    """Return parallel coordinates of the jobs with a value of `monitor`, None if there are none."""
    values = {job.name: value for job in jobs if (value := job.metrics.get(monitor)) is not None}
    drawn = [job for job in jobs if job.name in values and job.config]
    options = [name for name in varied if name != SEED] or list(varied)
    if not drawn or not options:
        return None
    top, bottom, left = 64, 400, 90
    spacing = max(AXIS_SPACING, (WIDTH - 2 * left) / len(options))
    axes = []
    for i, name in enumerate(options):
        axis = option_axis([resolve(job.config, name) for job in drawn], bottom, top)
        group, _, last = name.rpartition(".")
        axes.append(
            ParallelAxis(
                left + i * spacing, f"{group}." if group else "", shorten(last, 22), name, axis
            )
        )
    ends = (top, bottom) if smaller_is_better(monitor) else (bottom, top)
    metric = metric_axis([values[job.name] for job in drawn], monitor, *ends)
    right = left + len(options) * spacing
    axes.append(ParallelAxis(right, "validation", monitor.rpartition("/")[2], monitor, metric))

    ranked = [job for job in drawn if job.rank is not None]
    num_shades = max(len(ranked) - 1, 1)
    lines = []
    for position, job in reversed(list(enumerate(drawn))):
        # Runs with equal options are shifted a little, or only the last one would be visible.
        shift = (position / max(len(drawn) - 1, 1) - 0.5) * min(10, len(drawn))
        points = [
            (axis.x, axis.axis.position(resolve(job.config, name)) + shift)
            for axis, name in zip(axes, options, strict=False)
        ]
        points.append((right, metric.position(values[job.name])))
        colour = GREY
        if job.rank is not None:
            colour = ORANGE if job.rank == 1 else shade(1 - ranked.index(job) / num_shades)
        title = run_title(job, monitor, labels.get(job.name, ""))
        lines.append(
            Line(
                job, tuple(points), colour, title,
                is_best=job.rank == 1, dashed=job.status != "finished",
            )
        )  # fmt: skip
    return ParallelChart(round(right + left), bottom + 34, top, bottom, tuple(axes), tuple(lines))


def shade(strength: float) -> str:
    """Return a blue, pale for 0 and deep for 1."""
    pale, deep = (0xB8, 0xC7, 0xD6), (0x00, 0x45, 0x7A)
    parts = [round(p + (d - p) * strength) for p, d in zip(pale, deep, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def stats_bars(groups: Sequence[SeedGroup]) -> tuple[list[StatsBar | None], tuple[float, float]]:
    """Return a bar for each group, and the values at both ends of their scale.

    The scale spans the runs and half as much on either side. Wider intervals are cut off: that of
    two runs can be ten times as wide as their difference.
    """
    values = [value for group in groups for value in group.validation.values]
    if not values:
        return [None] * len(groups), (0.0, 1.0)
    span = (max(values) - min(values)) or 0.01
    intervals = [e for g in groups for e in (g.validation.low, g.validation.high) if e is not None]
    least = max(min([*intervals, *values]), min(values) - 0.5 * span) - 0.03 * span
    greatest = min(max([*intervals, *values]), max(values) + 0.5 * span) + 0.03 * span

    def position(value: float) -> float:
        inside = min(max(value, least), greatest)
        return (inside - least) / (greatest - least) * BAR_WIDTH

    def bar(stats: SeedStats) -> StatsBar | None:
        if stats.mean is None:
            return None
        low, high = (None if end is None else position(end) for end in (stats.low, stats.high))
        return StatsBar(tuple(map(position, stats.values)), position(stats.mean), low, high)

    return [bar(group.validation) for group in groups], (least, greatest)


def format_options(job: JobSummary, varied: Sequence[str], short: Mapping[str, str]) -> str:
    """Return "model=gru, lr=0.004, seed=1" for the text shown on hover."""
    return ", ".join(
        f"{short[name]}={format_value(resolve(job.config, name), exact=False)}" for name in varied
    )
