"""Group the runs of a sweep by everything but their seed, and summarise their metrics."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_lab.reports.formatting import shorten
from rnn_lab.reports.sweep.jobs import JobSummary, smaller_is_better, sweep_monitor
from rnn_lab.reports.sweep.options import (
    ABSENT,
    SEED,
    format_value,
    group_key,
    short_names,
    swept_options,
)

CONFIDENCE = 0.95
ALL_RUNS = "all runs"


@dataclass(frozen=True)
class SeedStats:
    """A metric over several seeds. A single value has no deviation and no interval."""

    values: tuple[float, ...]
    mean: float | None
    deviation: float | None = None  # of the sample: divided by n - 1
    low: float | None = None  # of the confidence interval of the mean, at CONFIDENCE
    high: float | None = None

    @property
    def n(self) -> int:
        """The number of values."""
        return len(self.values)


@dataclass(frozen=True)
class SeedGroup:
    """Runs with the same options except the seed."""

    label: str
    jobs: tuple[JobSummary, ...]  # of any status
    validation: SeedStats  # the sweep's monitor, over the finished runs
    test: SeedStats  # the same metric on the test split
    model: Any  # model.name, None where the config has none

    @property
    def finished(self) -> list[JobSummary]:
        """The jobs with a result."""
        return [job for job in self.jobs if job.status == "finished"]


def seed_stats(values: Sequence[float]) -> SeedStats:
    """Return mean, standard deviation and Student's confidence interval of `values` [n].

    "Student", "The Probable Error of a Mean", 1908: mean ± t(n - 1) s / sqrt(n).
    """
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return SeedStats(tuple(values), values[0] if n else None)
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
    return SeedStats(tuple(values), mean, deviation, mean - half, mean + half)


def group_jobs(jobs: Sequence[JobSummary]) -> list[SeedGroup]:
    """Return the seed groups of a sweep, the best mean validation metric first.

    A job whose config cannot be read is in none.
    """
    monitor = sweep_monitor(jobs)
    varied = swept_options([job.config for job in jobs])
    members: dict[tuple[Any, ...], list[JobSummary]] = {}
    for job in jobs:
        if job.config:
            members.setdefault(group_key(job.config, varied), []).append(job)
    groups = [_make_group(found, varied, monitor) for found in members.values()]
    sign = 1 if smaller_is_better(monitor) else -1

    def cost(group: SeedGroup) -> float:
        mean = group.validation.mean
        return math.inf if mean is None else sign * mean

    return sorted(groups, key=cost)


def _make_group(jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str) -> SeedGroup:
    def stats(metric: str) -> SeedStats:
        found = (job.metrics.get(metric) for job in jobs if job.status == "finished")
        return seed_stats([value for value in found if value is not None])

    return SeedGroup(
        group_label(jobs[0], varied),
        tuple(jobs),
        stats(monitor),
        stats(monitor.replace("val/", "test/")),
        jobs[0].config.get("model.name"),
    )


def group_label(job: JobSummary, varied: Sequence[str]) -> str:
    """Return "model=gru, lr=0.004": the varied options that the job has, without the seed."""
    short = short_names(varied)
    parts = [
        f"{short[name]}={shorten(format_value(job.config[name], exact=False), 40)}"
        for name in varied
        if name != SEED and job.config.get(name, ABSENT) != ABSENT
    ]
    return ", ".join(parts) or ALL_RUNS
