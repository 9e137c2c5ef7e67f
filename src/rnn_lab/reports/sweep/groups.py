"""Group the runs of a sweep by everything but their seed and fold, and compare the groups.

A group's metrics are summarised over its seeds and folds. Pairs of groups are compared on the same
test examples, with a paired bootstrap and permutation test.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtrit

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.formatting import is_share, shorten
from rnn_lab.reports.sweep.jobs import (
    JobSummary,
    format_names,
    sort_cost,
    sweep_mode,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import (
    FOLD,
    FOLDS,
    REPEATS,
    format_value,
    group_key,
    short_names,
    swept_options,
)
from rnn_lab.runs.predictions import read_predictions
from rnn_lab.runs.result_json import option_key
from rnn_lab.runs.run_config import ABSENT, MACHINE_OPTIONS, SEED, resolve

CONFIDENCE = 0.95
ALL_RUNS = "all runs"
RESAMPLES = 10_000
RESAMPLING_SEED = 0
MAX_GROUPS = 6  # compared with one another: 15 pairs


# ---- Groups


@dataclass(frozen=True)
class SeedStats:
    """A metric over several seeds, or folds. A single value has no deviation and no interval."""

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
    """Runs with the same options except the seed and the fold of a cross-validation."""

    label: str
    jobs: tuple[JobSummary, ...]  # of any status
    validation: SeedStats  # the sweep's monitor, over the finished runs
    test: SeedStats  # the same metric on the test split
    model: Any  # model.name, None where the config has none
    folds: int = 0  # whose runs are finished; 0 without cross-validation
    # The share of correct test examples of all finished folds, each counted once for each seed.
    pooled_accuracy: float | None = None
    pooled_from: str = ""  # "2 of 3 folds, 200 examples" where not all are finished


def seed_stats(
    values: Sequence[float], *, folds: Sequence[Any] = (), shares: bool = False
) -> SeedStats:
    """Return mean, standard deviation and Student's confidence interval of `values` [n].

    "Student", "The Probable Error of a Mean", 1908: mean ± t(n - 1) s / sqrt(n). Of `shares`, such
    as accuracies, it is cut at 0 and 1, beyond which no mean can be. Where the values are of
    several `folds` [n], those of a fold count by their mean: its seeds share the test examples.
    """
    independent = list(values)
    if len(set(folds)) > 1:
        independent = [
            float(np.mean([v for v, of in zip(values, folds, strict=True) if of == fold]))
            for fold in dict.fromkeys(folds)
        ]
    n = len(independent)
    if n < 2:
        return SeedStats(tuple(values), independent[0] if n else None)
    mean, deviation = float(np.mean(independent)), float(np.std(independent, ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
    low, high = mean - half, mean + half
    if shares:
        low, high = max(low, 0.0), min(high, 1.0)
    return SeedStats(tuple(values), mean, deviation, low, high)


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
    mode = sweep_mode(jobs, monitor)
    return sorted(groups, key=lambda group: sort_cost(mode, group.validation.mean))


def _make_group(jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str) -> SeedGroup:
    def stats(metric: str) -> SeedStats:
        found = [
            (value, job.config.get(FOLD))
            for job in jobs
            if job.status == "finished" and (value := job.metrics.get(metric)) is not None
        ]
        values, folds = [value for value, _ in found], [fold for _, fold in found]
        return seed_stats(values, folds=folds, shares=is_share(metric))

    short = short_names(varied)
    options = {name: _shared_option(jobs, name) for name in varied if name not in REPEATS}
    # Absent options are named only where there is nothing else to name.
    named = {name: value for name, value in options.items() if value != ABSENT} or options
    label = ", ".join(
        f"{short[name]}={shorten(format_value(value, exact=False), 40)}"
        for name, value in named.items()
    )
    test = monitor.replace("val/", "test/")
    model = jobs[0].config.get("model.name")
    folds = {job.config.get(FOLD) for job in jobs if job.status == "finished"} - {None}
    return SeedGroup(
        label or ALL_RUNS,
        tuple(jobs),
        stats(monitor),
        stats(test),
        model,
        len(folds),
        *(_pool_accuracy(jobs) if folds else ()),
    )


def _shared_option(jobs: Sequence[JobSummary], name: str) -> Any:
    """Return the value of an option of a group, `auto` if its finished runs chose several."""
    values = [job.option(name) for job in jobs if job.status == "finished"]
    agree = len(set(map(option_key, values))) == 1
    return values[0] if agree else jobs[0].config.get(name, ABSENT)


def _pool_accuracy(jobs: Sequence[JobSummary]) -> tuple[float | None, str]:
    """Return the test accuracy of all examples of finished jobs, and how many of how many they are.

    None if one has no metric, and "" if each seed has all of its folds.
    """
    finished = [job for job in jobs if job.status == "finished"]
    pairs = [(job.metrics.get("test/accuracy"), job.test_examples) for job in finished]
    if not pairs or any(accuracy is None or not size for accuracy, size in pairs):
        return None, ""
    accuracies, sizes = zip(*pairs, strict=True)
    folds, num_seeds = jobs[0].config.get(FOLDS), len({job.config.get(SEED) for job in jobs})
    wanted = num_seeds * folds if isinstance(folds, int) else 0
    runs = "folds" if num_seeds == 1 else "runs"
    there = len(set(map(_repeat_key, finished)))
    pooled_from = f"{there} of {wanted} {runs}, {sum(sizes):,} examples" if there < wanted else ""
    return float(np.average(accuracies, weights=sizes)), pooled_from


def repeated_over(groups: Sequence[SeedGroup]) -> str:
    """Return what the runs of a group differ in: "seeds", "folds" or "seeds and folds"."""
    folded = [group for group in groups if group.folds]
    if not folded:
        return "seeds"
    several = any(group.validation.n > group.folds for group in folded)
    return "seeds and folds" if several or len(folded) < len(groups) else "folds"


def group_notes(groups: Sequence[SeedGroup]) -> list[str]:
    """Return a line for each reason for which the metrics of a group say less than they seem to."""
    return [*_repeat_notes(groups), *_machine_notes(groups), *_version_notes(groups)]


def _repeat_notes(groups: Sequence[SeedGroup]) -> list[str]:
    """Name the runs of a group that have the same seed and fold."""
    lines = []
    for group in groups:
        same: dict[Any, list[JobSummary]] = {}
        for job in group.jobs:
            if job.status == "finished":
                same.setdefault(_repeat_key(job), []).append(job)
        lines += [
            f"{format_names(jobs)}: the same configuration and seed, each counted in the mean of "
            "its group. Move all but one out of the sweep's folder"
            for jobs in same.values()
            if len(jobs) > 1
        ]
    return lines


def _repeat_key(job: JobSummary) -> tuple[Any, ...]:
    """Return what sets the runs of a group apart: seed and fold."""
    return tuple(option_key(resolve(job.config, name)) for name in REPEATS)


def _machine_notes(groups: Sequence[SeedGroup]) -> list[str]:
    """Return a line for each option that the machines resolved differently for runs of one group.

    trainer.precision=auto is bf16-mixed on one node and 32-true on another.
    """
    return [
        f"Runs of one group had different machines, and {option} became {values}. "
        "Give it a value that each machine has"
        for option in MACHINE_OPTIONS
        if (values := _mixed_values(groups, lambda job: job.chosen, option))
    ]


def _version_notes(groups: Sequence[SeedGroup]) -> list[str]:
    """Return a line for each package, and the commit, of which runs of one group had several."""
    names = dict.fromkeys(name for group in groups for job in group.jobs for name in job.versions)
    return [
        f"Runs of one group were trained with different versions, of {name} {values}: they may "
        "differ for that reason too"
        for name in names
        if (values := _mixed_values(groups, lambda job: job.versions, name))
    ]


def _mixed_values(
    groups: Sequence[SeedGroup], values_of: Callable[[JobSummary], Mapping[str, Any]], name: str
) -> str:
    """Return "a (run1, run2), b (run3)" of the groups whose runs have several values; "": none."""
    mixed: dict[str, list[JobSummary]] = {}  # by value
    for group in groups:
        found = [(values_of(job)[name], job) for job in group.jobs if name in values_of(job)]
        if len({option_key(value) for value, _ in found}) > 1:
            for value, job in found:
                mixed.setdefault(format_value(value), []).append(job)
    return ", ".join(f"{value} ({format_names(jobs)})" for value, jobs in mixed.items())


# ---- Comparisons


@dataclass(frozen=True)
class PairedTest:
    """The difference of two accuracies on the same examples."""

    first: float  # accuracy
    second: float
    difference: float  # first - second
    low: float  # of its 95 % interval
    high: float
    p_value: float


@dataclass(frozen=True)
class GroupComparison:
    """Two seed groups, `first` the better one by validation."""

    first: SeedGroup
    second: SeedGroup
    examples: int = 0
    test: PairedTest | None = None  # None: not comparable, see `reason`
    reason: str = ""
    corrected_p: float | None = None  # corrected for the number of comparisons


@dataclass(frozen=True)
class _Correctness:
    """The share of a group's seeds that classified each test example correctly."""

    shares: np.ndarray  # float64 [examples], 0 to 1
    names: list[str]  # sorted
    labels: list[str]
    data: str  # fingerprint of the test examples: other files have other texts of the same names


def compare_paired(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = RESAMPLING_SEED
) -> PairedTest:
    """Compare `first` and `second` float64 [examples], the correctness of each example, 0 to 1.

    The interval holds the middle 95 % of the differences of a bootstrap: examples are resampled
    with replacement, the same ones for both (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993). The p value is that of a permutation test: the two change places in examples
    at random, which changes nothing if they are equally good (Noreen 1989; Yeh, "More Accurate
    Tests for the Statistical Significance of Result Differences", 2000). It is two-sided, the share
    of differences at least as far from zero as the observed one, which counts among them. For one
    seed that is McNemar's exact test. Differences of a bootstrap would not do: where few examples
    differ, and all in favour of one, they say nothing of chance.

    Only the count of each distinct difference in a resample matters. Those counts are multinomial
    and binomial, so they are drawn instead of the examples: the same distribution in a thousandth
    of the time.
    """
    values, counts = np.unique(np.round(first - second, 12), return_counts=True)
    examples, random = len(first), np.random.default_rng(seed)
    observed = float(values @ counts / examples)
    draws = random.multinomial(examples, counts / examples, size=resamples)
    low, high = np.quantile(draws @ values / examples, [0.025, 0.975]).tolist()
    kept = random.binomial(counts, 0.5, size=(resamples, len(counts)))
    permuted = (2 * kept - counts) @ values / examples
    rounding = 1e-12
    as_far = np.abs(permuted) >= abs(observed) - rounding
    p_value = (1 + int(as_far.sum())) / (1 + resamples)
    return PairedTest(float(first.mean()), float(second.mean()), observed, low, high, p_value)


def correct_p_values(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, "A Simple Sequentially Rejective ...", 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()


def compare_groups(groups: Sequence[SeedGroup]) -> list[GroupComparison]:
    """Compare every pair of at most MAX_GROUPS groups, chosen by validation alone.

    They are the best group of each model, then the best of the others. `groups` are sorted by
    their validation means.
    """
    chosen = choose_groups(groups)
    if len(chosen) < 2:
        return []
    found = [(group, _read_correctness(group)) for group in chosen]
    pairs = [_compare(*one, *other) for one, other in combinations(found, 2)]
    corrected = iter(correct_p_values([pair.test.p_value for pair in pairs if pair.test]))
    return [replace(pair, corrected_p=next(corrected)) if pair.test else pair for pair in pairs]


def choose_groups(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Return the groups to compare, in the order of `groups`."""
    ranked = [group for group in groups if group.validation.mean is not None]
    best_of_model = {group.model: group for group in reversed(ranked)}
    chosen = sorted(ranked, key=lambda group: group is not best_of_model[group.model])[:MAX_GROUPS]
    return [group for group in ranked if any(group is one for one in chosen)]


def _compare(
    first: SeedGroup, one: _Correctness | str, second: SeedGroup, other: _Correctness | str
) -> GroupComparison:
    if isinstance(one, str) or isinstance(other, str):
        return GroupComparison(first, second, reason=one if isinstance(one, str) else str(other))
    if reason := _mismatch(one, other):
        return GroupComparison(first, second, reason=reason)
    test = compare_paired(one.shares, other.shares)
    return GroupComparison(first, second, len(one.names), test)


def _read_correctness(group: SeedGroup) -> _Correctness | str:
    """Return the correctness averaged over the group's seeds, or why there is none.

    The test examples of a cross-validation are those of all of its folds.
    """
    jobs: dict[Any, list[JobSummary]] = {}
    for job in group.jobs:
        if job.status == "finished":
            jobs.setdefault(job.config.get(FOLD), []).append(job)
    found: list[_Correctness] = []
    for of_fold in jobs.values():
        correctness = _average_correctness(of_fold)
        if isinstance(correctness, str):
            return correctness
        found.append(correctness)
    if len(found) == 1:
        return found[0]
    names = [name for fold in found for name in fold.names]
    if len(set(names)) < len(names):
        return f"{group.label}: two folds have the same test example"
    labels = [label for fold in found for label in fold.labels]
    shares = np.concatenate([fold.shares for fold in found])
    order = sorted(range(len(names)), key=names.__getitem__)
    data = " ".join(sorted({fold.data for fold in found}))
    return _Correctness(shares[order], [names[i] for i in order], [labels[i] for i in order], data)


def _average_correctness(jobs: Sequence[JobSummary]) -> _Correctness | str:
    """Return the mean over jobs with the same test examples, or why there is none."""
    try:
        head, *others = runs = [_job_correctness(job) for job in jobs]
    except CheckpointError as error:
        return str(error)
    if len(set(head.names)) < len(head.names):
        return f"{jobs[0].name}: two test examples have the same name"
    for job, run in zip(jobs[1:], others, strict=True):
        if reason := _mismatch(head, run):
            return f"{job.name}: {reason}"
    return replace(head, shares=np.mean([run.shares for run in runs], axis=0))


def _job_correctness(job: JobSummary) -> _Correctness:
    found = read_predictions(job.folder)
    order = sorted(range(len(found.names)), key=found.names.__getitem__)
    names = [found.names[i] for i in order]
    labels = found.format_labels(found.labels[order])
    return _Correctness(found.correct[order].astype(np.float64), names, labels, job.test_data)


def _mismatch(one: _Correctness, other: _Correctness) -> str:
    """Return why the two are not of the same test examples, "" if they are."""
    if len(one.names) != len(other.names):
        return f"{len(other.names):,} test examples against {len(one.names):,}"
    if (one.names, one.labels) != (other.names, other.labels):
        return "different test examples or labels"
    return "" if one.data == other.data else "different test texts with the same names"
