"""The charts on a run's page: lines, dots and bars on the axes of rnn_lab.reports.axes, as SVG.

Colours are names of CSS variables, so that a chart follows the light or dark scheme of the page.
Every chart has its values as a table, for readers who do not see it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rnn_lab.iteration import pick_evenly
from rnn_lab.reports.axes import (
    Axis,
    epoch_axis,
    linear_scale,
    logarithmic_scale,
    make_ticks,
    metric_axis,
    thin_out,
)
from rnn_lab.reports.evaluation_curves import (
    MACRO,
    Curve,
    Reliability,
    wilson_interval,
)
from rnn_lab.reports.formatting import distance_label, format_metric, format_percent
from rnn_lab.reports.plots import FLOAT32_MIN, MAX_NAMED_CURVES
from rnn_lab.runs.gradient_flow import GradientFlowCurve, by_place
from rnn_lab.runs.metrics import GRAD_NORM, LEARNING_RATE, by_epoch, by_step

WIDTH, HEIGHT = 440, 290  # pixels; as wide as a phone, so that its labels stay readable there
PLOT = (62, 12, WIDTH - 14, HEIGHT - 48)  # left, top, right and bottom of the axes
MAX_POINTS = 400  # of a line: as many as there are pixels
MAX_DOTS = 40  # a longer line has none
MAX_ROWS = 40  # of a chart's table
MAX_FAINT = 100  # curves of classes that are not named
MAX_STEPS = 6  # drawn of a gradient flow: the first, the last and some between

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    xs: Values
    ys: Values
    colour: str = "c0"  # a CSS variable of the page
    kind: str = ""  # CSS classes: "dashed", "thick", "faint"
    steps: bool = False  # ys[i] is the value from xs[i - 1] to xs[i]
    ends: tuple[Values, Values] | None = None  # of an interval around each of ys
    dots: bool = False
    in_key: bool = True
    measure: str = ""  # after the name in the key: "AUROC 0.93"

    def thinned(self, points: int) -> "Line":
        """Return the line with its finite points only, and at most `points` of them."""
        xs, ys = np.asarray(self.xs, float), np.asarray(self.ys, float)
        finite = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
        rows = finite[pick_evenly(len(finite), points)]
        ends = None if self.ends is None else tuple(np.asarray(end)[rows] for end in self.ends)
        return replace(self, xs=xs[rows], ys=ys[rows], ends=ends)


@dataclass(frozen=True)
class Shape:
    """A line as the SVG has it."""

    path: str
    dots: list[tuple[float, float, str]]  # x, y and what is shown on hover
    intervals: str  # a path
    colour: str
    kind: str


@dataclass(frozen=True)
class Chart:
    """One chart with its table."""

    title: str
    x_label: str
    y_label: str
    x: Axis
    y: Axis
    shapes: list[Shape]
    key: list[Line]  # the lines that are named below
    columns: list[str]
    rows: list[list[str]]
    is_selection: bool = False  # whether the table lacks points
    bars: list[tuple[float, float, float, str]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    plot: tuple[int, int, int, int] = PLOT


def draw(
    title: str,
    labels: tuple[str, str],
    lines: Sequence[Line],
    axes: tuple[Axis, Axis],
    *,
    formats: tuple[Callable[[float], str], Callable[[float], str]],
    thinned: int = MAX_POINTS,
) -> Chart:
    """Return the chart of `lines`, whose x and y have `labels`, `axes` and `formats`."""
    lines = [line.thinned(thinned) for line in lines]
    return Chart(
        title,
        *labels,
        *axes,
        shapes=[_shape(line, axes, formats) for line in lines],
        key=[line for line in lines if line.in_key and len(line.xs)],
        **_table(labels[0], lines, formats),
    )


def _shape(line: Line, axes: tuple[Axis, Axis], formats: Sequence[Callable[[float], str]]) -> Shape:
    x, y = axes
    points = [(x.position(a), y.position(b)) for a, b in zip(line.xs, line.ys, strict=True)]
    path = ""
    if points:
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        part = "V{1:.1f}H{0:.1f}" if line.steps else "L{0:.1f} {1:.1f}"
        path += "".join(part.format(*point) for point in points[1:]) or "h0.1"
    dots = []
    if line.dots and len(points) <= MAX_DOTS:
        shown = [
            f"{line.name}: {formats[0](float(a))}, {formats[1](float(b))}"
            for a, b in zip(line.xs, line.ys, strict=True)
        ]
        dots = [(*point, text) for point, text in zip(points, shown, strict=True)]
    intervals = ""
    if line.ends:
        lows, highs = line.ends
        intervals = "".join(
            f"M{point[0]:.1f} {y.position(low):.1f}V{y.position(high):.1f}"
            for point, low, high in zip(points, lows, highs, strict=True)
        )
    return Shape(path, dots, intervals, line.colour, line.kind)


def _table(
    x_label: str, lines: Sequence[Line], formats: Sequence[Callable[[float], str]]
) -> dict[str, Any]:
    """Return columns and rows: one column a line if all have the same points, else one row each."""
    format_x, format_y = formats
    named = [line for line in lines if line.in_key and len(line.xs)]
    if named and all(set(line.xs) <= set(named[0].xs) for line in named):
        values = [dict(zip(line.xs, line.ys, strict=True)) for line in named]
        xs = _some(list(named[0].xs), MAX_ROWS)
        rows = [[format_x(x), *(format_y(v[x]) if x in v else "" for v in values)] for x in xs]
        columns = [x_label, *(line.name for line in named)]
        return {"columns": columns, "rows": rows, "is_selection": len(rows) < len(named[0].xs)}
    rows = [
        [line.name, format_x(x), format_y(y)]
        for line in named
        for x, y in _some(list(zip(line.xs, line.ys, strict=True)), MAX_ROWS // 4)
    ]
    is_selection = len(rows) < sum(len(line.xs) for line in named)
    return {"columns": ["curve", x_label, "value"], "rows": rows, "is_selection": is_selection}


def _some(values: list[Any], most: int) -> list[Any]:
    return [values[i] for i in pick_evenly(len(values), most)]


def _finite(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    thinned = [line.thinned(len(line.xs)) for line in lines]
    xs = [float(x) for line in thinned for x in line.xs]
    return xs, [float(y) for line in thinned for y in line.ys]


def _share_axis(start: float, end: float, low: float = 0.0) -> Axis:
    return metric_axis([low, 1.0], "accuracy", start, end)


# ---- The charts


def learning_curves(
    metrics: Mapping[str, np.ndarray], names: Mapping[str, str], best_epoch: float | None
) -> list[Chart]:
    """Return a chart of each metric by epoch, then those of learning rate and gradient norm.

    Args:
        metrics: the columns of metrics.csv.
        names: the metrics by epoch to draw, without a split, and their titles.
        best_epoch: gets a ring.
    """
    charts = []
    for metric, title in names.items():
        lines = [
            Line(name, *by_epoch(dict(metrics), f"{split}/{metric}"), colour, dots=True)
            for split, name, colour in (("train", "training", "c1"), ("val", "validation", "c0"))
        ]
        xs, ys = _finite(lines)
        if not xs:
            continue
        left, top, right, bottom = PLOT
        axes = (
            _epoch_axis(max(xs), left + 12, right - 8),
            metric_axis(ys, metric, bottom - 8, top + 8),
        )

        def shown(value: float, metric: str = metric) -> str:
            return format_metric(metric, value)

        formats = (lambda epoch: f"{epoch:.0f}"), shown
        is_best = np.asarray(lines[1].xs) == best_epoch
        if is_best.any():
            best = [np.asarray(values)[is_best] for values in (lines[1].xs, lines[1].ys)]
            lines.append(Line("best epoch", best[0], best[1], kind="ring", dots=True))
        charts.append(draw(title, ("epoch", title), lines, axes, formats=formats))
    return [*charts, *_by_step(metrics)]


def _epoch_axis(last: float, start: float, end: float) -> Axis:
    return epoch_axis(max(int(last), 1), start, end)


def _by_step(metrics: Mapping[str, np.ndarray]) -> list[Chart]:
    columns = ("learning rate", LEARNING_RATE, "c2"), ("gradient norm", GRAD_NORM, "c3")
    charts = []
    for title, column, colour in columns:
        if column not in metrics or "step" not in metrics:
            continue
        line = Line(title, *by_step(dict(metrics), column), colour)
        xs, ys = _finite([line])
        if not xs:
            continue
        left, top, right, bottom = PLOT
        axes = (
            _number_axis([0, *xs], left + 4, right - 8),
            _number_axis([0, *ys], bottom - 2, top + 8),
        )
        formats = (lambda step: f"{step:,.0f}"), (lambda value: f"{value:.4g}")
        charts.append(draw(title, ("optimizer step", title), [line], axes, formats=formats))
    return charts


def _number_axis(values: Values, start: float, end: float) -> Axis:
    position, marks = linear_scale([float(v) for v in values], start, end)
    return Axis(position, make_ticks(position, marks, _short_number))


def _short_number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.10g}k"
    return f"{value:.6g}"


def curve_charts(curves: Sequence[Curve]) -> list[Chart]:
    """Return the ROC and the precision-recall chart of `class_curves`; [] of none."""
    if not curves:
        return []
    left, top, right, bottom = PLOT
    axes = _share_axis(left + 4, right - 8), _share_axis(bottom - 4, top + 6)
    styled = _styled(curves)
    base_rate = curves[-1].base_rate
    chance: dict[str, Any] = {"colour": "grey", "kind": "dashed"}
    roc = [Line("chance", [0, 1], [0, 1], measure="AUROC 0.500", **chance)]
    pr = [Line("base rate", [0, 1], [base_rate] * 2, measure=f"{base_rate:.3f}", **chance)]
    for one, name, colour, kind in styled:
        line = Line(
            name, one.false_positive_rate, one.true_positive_rate, colour, kind,
            in_key=kind != "faint", measure=f"AUROC {one.auroc:.3f}",
        )  # fmt: skip
        roc.append(line)
        measure = f"average precision {one.average_precision:.3f}"
        pr.append(replace(line, xs=one.recall, ys=one.precision, steps=True, measure=measure))
    formats = format_percent, format_percent
    thinned = MAX_POINTS if len(styled) <= MAX_NAMED_CURVES + 1 else 60  # of very many classes
    return [
        draw("ROC", ("false-positive rate", "true-positive rate"), roc, axes,
             formats=formats, thinned=thinned),
        draw("Precision-recall", ("recall", "precision"), pr, axes,
             formats=formats, thinned=thinned),
    ]  # fmt: skip


def _styled(curves: Sequence[Curve]) -> list[tuple[Curve, str, str, str]]:
    """Return each curve with name, colour and kind; of many classes the weakest stands out."""
    *classes, last = curves
    if last.name != MACRO:
        return [(last, last.name, "c0", "thick")]
    if len(classes) <= MAX_NAMED_CURVES:
        named = [(one, one.name, f"c{i}", "") for i, one in enumerate(classes)]
        return [*named, (last, MACRO, "ink", "thick")]
    weakest = min(classes, key=lambda one: one.auroc)
    faint = [(one, one.name, "grey", "faint") for one in classes[:MAX_FAINT] if one is not weakest]
    return [*faint, (weakest, f"weakest, {weakest.name}", "c1", ""), (last, MACRO, "c0", "thick")]


def calibration_charts(
    bins: Reliability, num_classes: int, before: Reliability | None = None
) -> list[Chart]:
    """Return the reliability diagram, and the number of examples in each of its bins.

    `before` is the diagram before calibration, a line more.
    """
    left, top, right, bottom = PLOT
    lowest = math.floor(10 / num_classes) / 10
    x, y = _share_axis(left + 8, right - 10, lowest), _share_axis(bottom - 4, top + 6)
    share = bins.hits / bins.counts
    lines = [
        Line("perfectly calibrated", [lowest, 1], [lowest, 1], "grey", "dashed", in_key=False),
        Line(
            "accuracy", bins.confidence, share, dots=True,
            ends=wilson_interval(bins.hits, bins.counts),
        ),
    ]  # fmt: skip
    if before is not None:
        values = before.confidence, before.hits / before.counts
        lines.append(Line("accuracy before calibration", *values, "c1", "dashed", dots=True))
    labels = "probability of the predicted class", "accuracy"
    formats = format_percent, format_percent
    diagram = draw("Reliability diagram", labels, lines, (x, y), formats=formats)
    counts = [int(count) for count in bins.counts]
    heights = _number_axis([0, max(counts)], bottom, top + 8)
    starts = [float(start) for start in bins.starts]
    names = [f"{format_percent(s, 0)} to {format_percent(s + bins.width, 0)}" for s in starts]
    bars = [
        (
            x.position(max(start, lowest)) + 0.5,
            x.position(start + bins.width) - 0.5,
            heights.position(count),
            f"{name}: {count:,} test examples",
        )
        for start, count, name in zip(starts, counts, names, strict=True)
    ]
    histogram = Chart(
        "Test examples by probability", labels[0], "test examples", x, heights, [], [],
        [labels[0], "test examples"],
        [[name, f"{count:,}"] for name, count in zip(names, counts, strict=True)], bars=bars,
    )  # fmt: skip
    return [diagram, histogram]


def gradient_flow_charts(flows: Sequence[GradientFlowCurve]) -> list[Chart]:
    """Return the norm of dL/dh_t by distance, a chart per layer and direction, a line per step."""
    places = by_place(flows)
    charts = []
    for (layer, direction), found in places.items():
        shown = _some(found, MAX_STEPS)
        lines = [
            Line(
                f"step {flow.step:,}", flow.distances, _positive(flow.norms), f"flow{i}",
                "dashed" if flow is shown[0] and len(shown) > 1 else "",
            )
            for i, flow in enumerate(shown, start=MAX_STEPS - len(shown))
        ]  # fmt: skip
        xs, ys = _finite(lines)
        if not xs:
            continue
        left, top, right, bottom = PLOT
        x = _number_axis(xs, left + 4, right - 8)
        ends = sorted({min(ys), max(ys)})
        if len(ends) < 2:
            ends = [ends[0] / 10, ends[0] * 10]
        position, marks = logarithmic_scale(ends, bottom - 4, top + 8)
        y = Axis(position, thin_out(make_ticks(position, marks, lambda norm: f"{norm:.2g}")), True)
        title = f"Layer {layer + 1}, {direction}"
        charts.append(
            draw(title, (distance_label(direction), "norm of dL/dh (log scale)"), lines, (x, y),
                 formats=(lambda distance: f"{distance:,.0f}", lambda norm: f"{norm:.3g}"))
        )  # fmt: skip
    return charts


def _positive(norms: np.ndarray) -> np.ndarray:
    """Return the norms, those below what float32 holds as its smallest number: 0 has no log."""
    positive: np.ndarray = np.maximum(norms, FLOAT32_MIN)
    return positive
