"""Axes of the charts on a sweep's page: map metrics and option values to pixels, with ticks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rnn_lab.reports.formatting import is_share, shorten
from rnn_lab.reports.sweep.options import ABSENT, format_value

WORD_SPACING = 26  # pixels between values that are not numbers, below the numbers
MIN_TICK_SPACING = 13  # pixels
MIN_LOG_RATIO = 4  # of the greatest to the least number on a logarithmic axis
MAX_LABEL = 18  # characters
_INTERVALS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # between ticks of an axis of epochs


@dataclass(frozen=True)
class Tick:
    """One tick of an axis."""

    position: float  # pixels
    label: str
    full_label: str


@dataclass(frozen=True)
class Axis:
    """The pixel position of each value, and the ticks."""

    position: Callable[[Any], float]
    ticks: tuple[Tick, ...]
    logarithmic: bool = False


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; booleans are not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def metric_axis(values: Sequence[float], metric: str, start: float, end: float) -> Axis:
    """Return the axis of a metric over `values`, the least at `start`."""
    position, ticks = _linear(values, start, end)
    return Axis(position, tuple(_tick(position(t), _metric_label(metric, t)) for t in ticks))


def _metric_label(metric: str, value: float) -> str:
    return f"{round(100 * value, 6):g} %" if is_share(metric) else f"{round(value, 9):g}"


def epoch_axis(last: int, start: float, end: float) -> Axis:
    """Return the axis of the epochs 0 to `last`."""
    least = max(1, math.ceil(last / 12))
    interval = next((step for step in _INTERVALS if step >= least), least)
    length = (end - start) / max(last, 1)

    def position(epoch: float) -> float:
        return start + epoch * length if last else (start + end) / 2

    return Axis(position, tuple(_tick(position(e), str(e)) for e in range(0, last + 1, interval)))


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
    ticks = [_tick(positions[_key(word)], format_value(word, exact=False)) for word in words]
    if not numbers:
        return Axis(lambda value: positions[_key(value)], _thin_out(ticks))
    logarithmic = _needs_log_scale(numbers)
    number_position, marks = (_logarithmic if logarithmic else _linear)(
        numbers, start + spacing * len(words), end
    )
    if len(numbers) <= 8:
        marks = [float(number) for number in numbers]
    ticks += [
        _tick(number_position(mark), format_value(_as_int(mark), exact=False)) for mark in marks
    ]

    def position(value: Any) -> float:
        return number_position(value) if is_number(value) else positions[_key(value)]

    return Axis(position, _thin_out(ticks), logarithmic)


def _thin_out(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    """Drop ticks whose labels would overlap, but neither the first nor the last."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if abs(tick.position - kept[-1].position) >= MIN_TICK_SPACING:
            kept.append(tick)
        elif tick is ticks[-1] and len(kept) > 1:
            kept[-1] = tick
    return tuple(kept)


def _needs_log_scale(numbers: Sequence[float]) -> bool:
    """Return whether sorted numbers would crowd at the lower end of a linear scale."""
    least, greatest, n = numbers[0], numbers[-1], len(numbers)
    if n < 3 or least <= 0 or greatest / least < MIN_LOG_RATIO:
        return False
    median = math.sqrt(numbers[(n - 1) // 2] * numbers[n // 2])
    return (median - least) / (greatest - least) < 0.35


def _linear(
    values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    from matplotlib.ticker import MaxNLocator

    least, greatest = min(values), max(values)
    if least == greatest:
        margin = abs(least) * 0.05 or 0.5
        least, greatest = least - margin, greatest + margin

    def position(value: float) -> float:
        return start + (value - least) / (greatest - least) * (end - start)

    ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(least, greatest)
    rounding = (greatest - least) * 1e-9
    return position, [float(t) for t in ticks if least - rounding <= t <= greatest + rounding]


def _logarithmic(
    values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    least, greatest = math.log10(min(values)), math.log10(max(values))

    def position(value: float) -> float:
        return start + (math.log10(value) - least) / (greatest - least) * (end - start)

    decades = range(math.floor(least), math.ceil(greatest) + 1)
    parts = (1, 2, 5) if greatest - least < 2.5 else (1,)
    marks = [part * 10.0**decade for decade in decades for part in parts]
    ends = [float(values[0]), float(values[-1])]
    inside = [mark for mark in marks if ends[0] <= mark <= ends[1]]
    return position, inside if len(inside) > 1 else ends


def _sort_words(words: dict[str, Any]) -> list[Any]:
    """Sort values that are not numbers: absent, null, false, true, then strings."""
    order = {ABSENT: 0, "null": 1, "false": 2, "true": 3}
    return sorted(words.values(), key=lambda v: (order.get(format_value(v), 4), format_value(v)))


def _key(value: Any) -> str:
    return f"number:{float(value)}" if is_number(value) else f"{type(value).__name__}:{value}"


def _as_int(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _tick(position: float, label: str) -> Tick:
    return Tick(position, shorten(label, MAX_LABEL), label)
