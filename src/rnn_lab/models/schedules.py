"""Learning-rate schedules: the share of the peak learning rate at each point of a run.

A schedule is a function of `progress`, from 0 at the first step to 1 at the last, of
`warmup_ratio`, and of options of its own, which are the further options of the group `scheduler`.
`@register_schedule("staircase")` makes it `scheduler.name=staircase`.
"""

import math
from collections.abc import Callable
from typing import TypeVar

from rnn_lab.models.registry import SCHEDULES

Schedule = TypeVar("Schedule", bound=Callable[..., float])


def register_schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Register the decorated function as the schedule `scheduler.name=<name>`.

    Raises:
        ConfigError: another schedule has that name, or it does not take progress and warmup_ratio.
    """
    SCHEDULES.check_name(name)

    def register(schedule: Schedule) -> Schedule:
        SCHEDULES.check_call(name, schedule, "progress", "warmup_ratio", has_options=True)
        SCHEDULES.add(name, schedule, schedule)
        return schedule

    return register


@register_schedule("one_cycle")
def one_cycle(progress: float, warmup_ratio: float) -> float:
    """Rise from 1/25 to 1 along half a cosine, then fall to 4e-7 along another.

    As torch's OneCycleLR (Smith and Topin 2018), which ends at 4e-6.
    """
    if progress < warmup_ratio:
        return _half_cosine(1 / 25, 1.0, progress / warmup_ratio)
    return _half_cosine(1.0, 4e-7, (progress - warmup_ratio) / (1 - warmup_ratio))


@register_schedule("cosine")
def cosine(progress: float, warmup_ratio: float) -> float:
    """Rise linearly from 0 to 1, then fall to 0 along half a cosine.

    Loshchilov and Hutter (2017, equation 5).
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    return _half_cosine(1.0, 0.0, (progress - warmup_ratio) / (1 - warmup_ratio))


@register_schedule("constant")
def constant(progress: float, warmup_ratio: float) -> float:
    """Rise linearly from 0 to 1, then stay."""
    return progress / warmup_ratio if progress < warmup_ratio else 1.0


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
