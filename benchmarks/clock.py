"""Time contenders in rounds. Machines drift: compare only measurements of one round."""

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

Name = TypeVar("Name")


def seconds_per_pass(one_pass: Callable[[], object], at_least: float) -> float:
    """Return the mean seconds of `one_pass`, repeated until `at_least` seconds have passed."""
    passes, started = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - started < at_least:
        one_pass()
        passes += 1
    return (time.perf_counter() - started) / passes


def interleave(
    contenders: Mapping[Name, Callable[[float], float]],
    rounds: int,
    seconds: float,
    choose: Callable[[dict[Name, float]], Collection[Name]] = lambda first: first,
) -> list[dict[Name, float]]:
    """Run all contenders in turn, round after round.

    Args:
        contenders: each takes the minimum seconds to run and returns its measurement.
        rounds: number of turns per contender.
        seconds: of a turn. A contender that has used the seconds of all rounds has no more turns,
            so that slow contenders, which always finish a pass, do not delay the others.
        choose: returns, from the measurements of the first round, who has further turns.

    Returns:
        The measurements of each round; the first round has every contender.
    """
    used = dict.fromkeys(contenders, 0.0)
    measured: list[dict[Name, float]] = []
    chosen: Collection[Name] = contenders
    for number in range(rounds):
        measured.append({})
        for name, turn in contenders.items():
            if number == 0 or (name in chosen and used[name] < rounds * seconds):
                started = time.perf_counter()
                measured[-1][name] = turn(seconds)
                used[name] += time.perf_counter() - started
        if number == 0:
            chosen = choose(measured[0])
    return measured


def median(rounds: list[dict[Name, float]], name: Name) -> float:
    """Return the median of `name` over the rounds that measured it."""
    return statistics.median(row[name] for row in rounds if name in row)


def median_ratio(rounds: list[dict[Name, float]], over: Name, under: Name) -> float:
    """Return the median of `over` divided by `under`, over the rounds that measured both."""
    return statistics.median(
        row[over] / row[under] for row in rounds if {over, under} <= row.keys()
    )
