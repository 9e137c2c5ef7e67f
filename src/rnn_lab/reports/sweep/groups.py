"""Runs that differ in nothing but their seed, and what their figures scatter about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_lab.reports.sweep.jobs import JobSummary, smaller_is_better, sweep_monitor
from rnn_lab.reports.sweep.options import (
    ABSENT,
    SEED,
    cut,
    same_but_seed,
    short_names,
    varied_options,
    written,
)

CONFIDENCE = 0.95
EVERY_RUN = "all runs"


@dataclass(frozen=True)
class Spread:
    """Figures of several seeds. One figure has no deviation and no interval."""

    values: tuple[float, ...]
    mean: float | None
    deviation: float | None = None  # of the sample: n - 1 below
    low: float | None = None  # of the interval that holds the expectation, at CONFIDENCE
    high: float | None = None

    @property
    def n(self) -> int:
        """The number of figures."""
        return len(self.values)


@dataclass(frozen=True)
class Group:
    """Runs with the same options but the seed."""

    label: str
    jobs: tuple[JobSummary, ...]  # all, whatever became of them
    validation: Spread  # of the sweep's monitor, over the finished ones
    test: Spread  # the same figure of the test split
    model: Any  # its model.name, where configs have one

    @property
    def finished(self) -> list[JobSummary]:
        """Those that have a result."""
        return [job for job in self.jobs if job.status == "finished"]


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and Student's interval of the mean of `values` [n].

    "Student", "The Probable Error of a Mean", 1908: mean ± t(n - 1) s / sqrt(n).
    """
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return Spread(tuple(values), values[0] if n else None)
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
    return Spread(tuple(values), mean, deviation, mean - half, mean + half)


def group_jobs(jobs: Sequence[JobSummary]) -> list[Group]:
    """Return the groups of a sweep, the best mean validation figure first.

    A job whose config cannot be read belongs to none.
    """
    monitor = sweep_monitor(jobs)
    varied = varied_options([job.config for job in jobs])
    members: dict[tuple[Any, ...], list[JobSummary]] = {}
    for job in jobs:
        if job.config:
            members.setdefault(same_but_seed(job.config, varied), []).append(job)
    groups = [_group(found, varied, monitor) for found in members.values()]
    sign = 1 if smaller_is_better(monitor) else -1

    def badness(group: Group) -> float:
        mean = group.validation.mean
        return math.inf if mean is None else sign * mean

    return sorted(groups, key=badness)


def _group(jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str) -> Group:
    def figures(name: str) -> list[float]:
        found = (job.figures.get(name) for job in jobs if job.status == "finished")
        return [value for value in found if value is not None]

    return Group(
        group_label(jobs[0], varied),
        tuple(jobs),
        spread(figures(monitor)),
        spread(figures(monitor.replace("val/", "test/"))),
        jobs[0].config.get("model.name"),
    )


def group_label(job: JobSummary, varied: Sequence[str]) -> str:
    """Return "model=gru, lr=0.004": the varied options that the job has, without the seed."""
    short = short_names(varied)
    parts = [
        f"{short[name]}={cut(written(job.config[name], whole=False), 40)}"
        for name in varied
        if name != SEED and job.config.get(name, ABSENT) != ABSENT
    ]
    return ", ".join(parts) or EVERY_RUN
