"""The charts on a sweep's page, as coordinates for its SVG: every line names its run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnn_lab.reports.formatting import figure, metric_words
from rnn_lab.reports.plot_style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, SKY
from rnn_lab.reports.sweep.groups import Group, Spread
from rnn_lab.reports.sweep.jobs import Curve, JobSummary, smaller_is_better
from rnn_lab.reports.sweep.options import SEED, cut, resolved, written
from rnn_lab.reports.sweep.scales import Axis, epoch_axis, figure_axis, option_axis

COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)
OTHERS = "#9A9A9A"  # of the groups that colours no longer tell apart
WIDTH = 1120  # pixels
AXIS_ROOM = 150  # pixels between parallel axes
BAR_WIDTH, BAR_HEIGHT = 300, 24  # of the intervals beside the groups


@dataclass(frozen=True)
class Line:
    """One run in a chart."""

    job: JobSummary
    path: str  # of an SVG
    colour: str
    title: str
    end: tuple[float, float]
    chosen: tuple[float, float] | None = None  # where the chosen epoch lies
    first: bool = False  # the best run
    dashed: bool = False


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
    missing: int  # runs that have no curve


@dataclass(frozen=True)
class NamedAxis:
    """One of parallel axes."""

    x: float
    family: str  # "optimizer." of optimizer.lr
    name: str
    whole: str
    axis: Axis


@dataclass(frozen=True)
class ParallelChart:
    """The varied options against the validation figure."""

    width: int
    height: int
    top: int
    bottom: int
    axes: tuple[NamedAxis, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class SpreadBar:
    """The figures of one group, with mean and interval, in pixels of one shared scale."""

    dots: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None


def group_colours(groups: Sequence[Group]) -> dict[str, str]:
    """Return the colour of each job, by folder name: those of the best groups are told apart."""
    colours: dict[str, str] = {}
    for position, group in enumerate(groups):
        colour = COLOURS[position] if position < len(COLOURS) else OTHERS
        colours |= {job.name: colour for job in group.jobs}
    return colours


def curve_chart(
    jobs: Sequence[JobSummary], monitor: str, colours: Mapping[str, str], labels: Mapping[str, str]
) -> CurveChart | None:
    """Return the learning curves by epoch, None where no run has one."""
    drawn = [job for job in jobs if job.curves.get(monitor)]
    if not drawn:
        return None
    left, top, right, bottom = plot = (78, 14, WIDTH - 24, 410)
    curves: dict[str, Curve] = {job.name: job.curves[monitor] for job in drawn}
    x = epoch_axis(max(epochs[-1] for epochs, _ in curves.values()), left + 14, right - 14)
    values = [value for _, found in curves.values() for value in found]
    y = figure_axis(values, monitor, bottom - 12, top + 12)
    lines = []
    for job in reversed(drawn):
        epochs, found = curves[job.name]
        points = [(x.place(e), y.place(v)) for e, v in zip(epochs, found, strict=True)]
        chosen = dict(zip(epochs, points, strict=True)).get(job.best_epoch or 0)
        lines.append(
            Line(
                job,
                _path(points),
                colours.get(job.name, OTHERS),
                run_title(job, monitor, labels.get(job.name, "")),
                points[-1],
                chosen=chosen if job.best_epoch is not None else None,
                dashed=job.status != "finished",
            )
        )
    lines.sort(key=lambda line: line.colour != OTHERS)
    return CurveChart(
        WIDTH, 462, plot, x, y, metric_words(monitor), tuple(lines), len(jobs) - len(drawn)
    )


def run_title(job: JobSummary, monitor: str, label: str) -> str:
    """Return what hovering over a run says."""
    value = job.figures.get(monitor)
    parts = [job.name, "" if job.rank is None else f"rank {job.rank}"]
    parts += [job.status if job.status != "finished" else ""]
    parts += [f"{metric_words(monitor)} {figure(monitor, value)}" if value is not None else ""]
    return "\n".join(part for part in (" · ".join(filter(None, parts)), label) if part)


def parallel_chart(
    jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str, labels: Mapping[str, str]
) -> ParallelChart | None:
    """Return parallel coordinates of the jobs that have a figure; None where there are none."""
    drawn = [job for job in jobs if job.figures.get(monitor) is not None and job.config]
    options = [name for name in varied if name != SEED] or list(varied)
    if not drawn or not options:
        return None
    top, bottom, left = 64, 400, 90
    room = max(AXIS_ROOM, (WIDTH - 2 * left) / len(options))
    axes = []
    for i, name in enumerate(options):
        values = [resolved(job.config, name) for job in drawn]
        family, _, last = name.rpartition(".")
        axes.append(
            NamedAxis(
                left + i * room, f"{family}." if family else "", cut(last, 22), name,
                option_axis(values, bottom, top),
            )
        )  # fmt: skip
    figures = {job.name: job.figures[monitor] or 0.0 for job in drawn}
    down = smaller_is_better(monitor)
    ends = (top, bottom) if down else (bottom, top)
    last_axis = figure_axis(list(figures.values()), monitor, *ends)
    metric = monitor.rpartition("/")[2]
    axes.append(NamedAxis(left + len(options) * room, "validation", metric, monitor, last_axis))
    lines = [
        _parallel_line(job, options, axes, figures[job.name], drawn, monitor, labels)
        for job in reversed(drawn)
    ]
    width = round(left + len(options) * room + left)
    return ParallelChart(width, bottom + 34, top, bottom, tuple(axes), tuple(lines))


def _parallel_line(
    job: JobSummary,
    options: Sequence[str],
    axes: Sequence[NamedAxis],
    value: float,
    drawn: Sequence[JobSummary],
    monitor: str,
    labels: Mapping[str, str],
) -> Line:
    # Runs through one point lie a little beside one another, or only the last would be seen.
    position = drawn.index(job)
    aside = (position / max(len(drawn) - 1, 1) - 0.5) * min(10, len(drawn))
    points = [
        (axis.x, axis.axis.place(resolved(job.config, name)) + aside)
        for axis, name in zip(axes, options, strict=False)
    ]
    points.append((axes[-1].x, axes[-1].axis.place(value)))
    ranked = [one for one in drawn if one.rank is not None]
    share = ranked.index(job) / max(len(ranked) - 1, 1) if job in ranked else 1.0
    return Line(
        job,
        _path(points),
        ORANGE if job.rank == 1 else shade(1 - share) if job in ranked else GREY,
        run_title(job, monitor, labels.get(job.name, "")),
        points[-1],
        first=job.rank == 1,
        dashed=job.status != "finished",
    )


def shade(goodness: float) -> str:
    """Return a blue, pale for 0 and deep for 1."""
    pale, deep = (0xB8, 0xC7, 0xD6), (0x00, 0x45, 0x7A)
    parts = [round(p + (d - p) * goodness) for p, d in zip(pale, deep, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def spread_bars(groups: Sequence[Group]) -> tuple[list[SpreadBar | None], tuple[float, float]]:
    """Return a bar for each group, and the figures at the two ends of their scale.

    The scale spans the runs and as much again: an interval of two runs can be ten times as wide
    as they lie apart, and ends at the edge.
    """
    values = [value for group in groups for value in group.validation.values]
    if not values:
        return [None] * len(groups), (0.0, 1.0)
    span = (max(values) - min(values)) or 0.01
    intervals = [e for g in groups for e in (g.validation.low, g.validation.high) if e is not None]
    least = max(min([*intervals, *values]), min(values) - 0.5 * span)
    greatest = min(max([*intervals, *values]), max(values) + 0.5 * span)
    least, greatest = least - 0.03 * span, greatest + 0.03 * span

    def place(value: float) -> float:
        inside = min(max(value, least), greatest)
        return (inside - least) / (greatest - least) * BAR_WIDTH

    def bar(found: Spread) -> SpreadBar | None:
        if found.mean is None:
            return None
        ends = [None if end is None else place(end) for end in (found.low, found.high)]
        return SpreadBar(tuple(map(place, found.values)), place(found.mean), ends[0], ends[1])

    return [bar(group.validation) for group in groups], (least, greatest)


def option_words(job: JobSummary, varied: Sequence[str], short: Mapping[str, str]) -> str:
    """Return "model=gru, lr=0.004, seed=1" for what hovering says."""
    return ", ".join(
        f"{short[name]}={written(resolved(job.config, name), whole=False)}" for name in varied
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    # A line of one point is a short dash, or nothing would be drawn.
    return path if len(points) > 1 else f"{path}h0.1"
