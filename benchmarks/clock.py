"""Timing in rounds. Machines drift: only figures of one round are compared with each other."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")


def seconds_per_pass(one_pass: Callable[[], object], at_least: float) -> float:
    """Seconds that `one_pass` takes, repeated until `at_least` seconds are gone."""
    passes, started = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - started < at_least:
        one_pass()
        passes += 1
    return (time.perf_counter() - started) / passes


def interleave(
    contenders: Mapping[Name, Callable[[float], float]], rounds: int, seconds: float
) -> list[dict[Name, float]]:
    """Let all contenders run in turn, round after round.

    Args:
        contenders: each takes the least seconds to run and returns its figure.
        rounds: how often everyone has a turn.
        seconds: of a turn. Who has used up the seconds of all rounds has no more turns, so that
            slow contenders, which always finish a pass, do not hold up the others.

    Returns:
        the figures of each round; every contender is in the first.
    """
    used = dict.fromkeys(contenders, 0.0)
    figures: list[dict[Name, float]] = []
    for number in range(rounds):
        figures.append({})
        for name, turn in contenders.items():
            if number == 0 or used[name] < rounds * seconds:
                started = time.perf_counter()
                figures[-1][name] = turn(seconds)
                used[name] += time.perf_counter() - started
    return figures


def median(rounds: list[dict[Name, float]], name: Name) -> float:
    """The median figure of `name` over the rounds that it took part in."""
    return statistics.median(figures[name] for figures in rounds if name in figures)


def median_ratio(rounds: list[dict[Name, float]], over: Name, under: Name) -> float:
    """The median of `over` divided by `under`, over the rounds in which both took part."""
    return statistics.median(
        figures[over] / figures[under] for figures in rounds if {over, under} <= figures.keys()
    )
