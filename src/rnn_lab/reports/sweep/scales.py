"""Axes of the charts on a sweep's page: from option values and figures to pixels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rnn_lab.reports.formatting import figure
from rnn_lab.reports.sweep.options import ABSENT, cut, written

ROOM_A_WORD = 26  # pixels between words below numbers
LOG_FROM = 4  # a ratio of greatest to least that may ask for a logarithmic axis


@dataclass(frozen=True)
class Tick:
    """One mark of an axis."""

    at: float  # pixels
    text: str
    whole: str  # the text uncut


@dataclass(frozen=True)
class Axis:
    """Where the values of an option lie on a line of pixels, and its marks."""

    place: Callable[[Any], float]
    ticks: tuple[Tick, ...]
    logarithmic: bool = False


def is_number(value: Any) -> bool:
    """Whether a value lies on a scale: truth values are words."""
    finite = isinstance(value, int | float) and not isinstance(value, bool)
    return finite and math.isfinite(value)


def figure_axis(values: Sequence[float], metric: str, start: float, end: float) -> Axis:
    """Return the axis of a figure over `values`, the least at `start`."""
    place, ticks = _linear(values, start, end)
    return Axis(place, tuple(_tick(place(tick), figure_tick(metric, tick)) for tick in ticks))


def figure_tick(metric: str, value: float) -> str:
    """Return "92.5 %" or "0.31"."""
    if figure(metric, 0).endswith("%"):
        return f"{round(100 * value, 6):g} %"
    return f"{round(value, 9):g}"


def epoch_axis(last: int, start: float, end: float) -> Axis:
    """Return the axis of the epochs 0 to `last`."""
    step = max(1, math.ceil(last / 12))
    step = next(nice for nice in (1, 2, 5, 10, 20, 50, 100, 200, 500, step) if nice >= step)
    length = (end - start) / max(last, 1)

    def place(epoch: float) -> float:
        return start + epoch * length if last else (start + end) / 2

    return Axis(place, tuple(_tick(place(e), str(e)) for e in range(0, last + 1, step)))


def option_axis(values: Sequence[Any], start: float, end: float) -> Axis:
    """Return the axis of an option, numbers by size towards `end`, words and null before them.

    One number alone, or none, and every value is a word. Numbers that spread over orders of
    magnitude lie on a logarithmic scale.
    """
    numbers = sorted({value for value in values if is_number(value)})
    words = _ordered({_key(value): value for value in values if not is_number(value)})
    if len(numbers) < 2:
        words, numbers = words + numbers, []
        step = (end - start) / max(len(words) - 1, 1)
    else:
        room = min(ROOM_A_WORD * len(words), abs(end - start) / 2)
        step = math.copysign(room / max(len(words), 1), end - start)
    alone = not numbers and len(words) == 1
    places = {
        _key(word): (start + end) / 2 if alone else start + i * step for i, word in enumerate(words)
    }
    ticks = [_tick(places[_key(word)], written(word, whole=False)) for word in words]
    if len(numbers) < 2:
        return Axis(lambda value: places[_key(value)], _with_room(ticks))
    logarithmic = _is_logarithmic(numbers)
    place, marks = (_logarithmic if logarithmic else _linear)(
        numbers, start + step * len(words), end
    )
    if len(numbers) <= 8:
        marks = [float(number) for number in numbers]
    ticks += [_tick(place(mark), written(_whole(mark), whole=False)) for mark in marks]

    def on_axis(value: Any) -> float:
        return place(value) if is_number(value) else places[_key(value)]

    return Axis(on_axis, _with_room(ticks), logarithmic)


def _with_room(ticks: Sequence[Tick], least: float = 13) -> tuple[Tick, ...]:
    """Leave out the marks that would lie on the one before, the ends kept."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if abs(tick.at - kept[-1].at) >= least:
            kept.append(tick)
        elif tick is ticks[-1] and len(kept) > 1:
            kept[-1] = tick
    return tuple(kept)


def _is_logarithmic(numbers: Sequence[float]) -> bool:
    """Whether the numbers, sorted, crowd at the small end of a linear scale."""
    least, greatest = numbers[0], numbers[-1]
    if len(numbers) < 3 or least <= 0 or greatest / least < LOG_FROM:
        return False
    middle = (
        numbers[len(numbers) // 2]
        if len(numbers) % 2
        else math.sqrt(numbers[len(numbers) // 2 - 1] * numbers[len(numbers) // 2])
    )
    on_linear = (middle - least) / (greatest - least)
    return on_linear < 0.35


def _linear(
    values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    from matplotlib.ticker import MaxNLocator

    least, greatest = min(values), max(values)
    if least == greatest:
        around = abs(least) * 0.05 or 0.5
        least, greatest = least - around, greatest + around

    def place(value: float) -> float:
        return start + (value - least) / (greatest - least) * (end - start)

    ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(least, greatest)
    rounding = (greatest - least) * 1e-9
    return place, [float(t) for t in ticks if least - rounding <= t <= greatest + rounding]


def _logarithmic(
    values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    least, greatest = math.log10(min(values)), math.log10(max(values))

    def place(value: float) -> float:
        return start + (math.log10(value) - least) / (greatest - least) * (end - start)

    decades = range(math.floor(least), math.ceil(greatest) + 1)
    parts = (1, 2, 5) if greatest - least < 2.5 else (1,)
    marks = [part * 10.0**decade for decade in decades for part in parts]
    ends = [float(values[0]), float(values[-1])]
    inside = [mark for mark in marks if ends[0] <= mark <= ends[1]]
    return place, inside if len(inside) > 1 else ends


def _ordered(words: dict[str, Any]) -> list[Any]:
    """Absent first, then null, truth values and words by letters."""
    order = {ABSENT: 0, "null": 1, "false": 2, "true": 3}
    return sorted(words.values(), key=lambda v: (order.get(written(v), 4), written(v)))


def _key(value: Any) -> str:
    return f"number:{float(value)}" if is_number(value) else f"{type(value).__name__}:{value}"


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _tick(at: float, text: str) -> Tick:
    return Tick(at, cut(text), text)
