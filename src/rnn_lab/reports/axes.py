"""Axes of the charts on pages: the pixels of each value in an SVG, and the ticks."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from rnn_lab.reports.formatting import format_percent_tick, is_share, shorten

MAX_LABEL = 18  # characters
MIN_TICK_SPACING = 13  # pixels
ROUND = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])  # ticks of a linear axis

Point = tuple[float, float]
Position = Callable[[Any], float]  # from a value to pixels


@dataclass(frozen=True)
class Tick:
    """One tick of an axis."""

    position: float  # pixels
    label: str
    full_label: str


@dataclass(frozen=True)
class Axis:
    """The pixel position of each value, and the ticks."""

    position: Position
    ticks: tuple[Tick, ...]
    logarithmic: bool = False


def metric_axis(values: Sequence[float], metric: str, start: float, end: float) -> Axis:
    """Return the axis of a metric over `values`, the least at `start`."""

    def label(value: float) -> str:
        return format_percent_tick(value) if is_share(metric) else f"{round(value, 9):g}"

    if is_share(metric) and min(values) == max(values):  # a margin, but no accuracy above 100 %
        values = [max(values[0] - 0.05, 0.0), min(values[0] + 0.05, 1.0)]
    position, marks = linear_scale(values, start, end)
    return Axis(position, make_ticks(position, marks, label))


def epoch_axis(last: int, start: float, end: float) -> Axis:
    """Return the axis of the epochs 0 to `last`."""
    whole = MaxNLocator(nbins=12, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    position, marks = linear_scale([0, last], start, end, whole)
    return Axis(position, make_ticks(position, marks, lambda epoch: f"{epoch:.0f}"))


def make_ticks(
    position: Position, marks: Iterable[Any], label: Callable[[Any], str]
) -> tuple[Tick, ...]:
    """Return a tick at each of `marks`."""
    named = [(position(mark), label(mark)) for mark in marks]
    return tuple(Tick(place, shorten(name, MAX_LABEL), name) for place, name in named)


def thin_out(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    """Drop ticks whose labels would overlap, but neither the first nor the last."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if abs(tick.position - kept[-1].position) >= MIN_TICK_SPACING:
            kept.append(tick)
        elif tick is ticks[-1] and len(kept) > 1:
            kept[-1] = tick
    return tuple(kept)


def linear_scale(
    values: Sequence[float], start: float, end: float, locator: MaxNLocator = ROUND
) -> tuple[Position, list[float]]:
    """Return the positions of numbers from `start` to `end`, and round ones for ticks."""
    least, greatest = min(values), max(values)
    if least == greatest:
        margin = abs(least) * 0.05 or 0.5
        least, greatest = least - margin, greatest + margin
    ticks = map(float, locator.tick_values(least, greatest))
    rounding = (greatest - least) * 1e-9
    inside = [tick for tick in ticks if least - rounding <= tick <= greatest + rounding]
    return lambda value: float(np.interp(value, (least, greatest), (start, end))), inside


def logarithmic_scale(
    values: Sequence[float], start: float, end: float
) -> tuple[Position, list[float]]:
    """Return the same on a logarithmic scale; `values` are sorted."""
    span = least, greatest = math.log10(values[0]), math.log10(values[-1])
    decades = range(math.floor(least), math.ceil(greatest) + 1)
    parts = (1, 2, 5) if greatest - least < 2.5 else (1,)
    marks = [part * 10.0**decade for decade in decades for part in parts]
    ends = [float(values[0]), float(values[-1])]
    inside = [mark for mark in marks if ends[0] <= mark <= ends[1]]
    marks = inside if len(inside) > 1 else ends
    return lambda value: float(np.interp(math.log10(value), span, (start, end))), marks
