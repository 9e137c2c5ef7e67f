"""Compare models pairwise on the same test examples, with a paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.run_files import read_predictions
from rnn_lab.reports.sweep.groups import SeedGroup
from rnn_lab.reports.sweep.jobs import JobSummary

RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
MAX_GROUPS = 6  # compared with one another: 15 pairs


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
    examples: int
    test: PairedTest | None  # None: not comparable, see `reason`
    reason: str = ""
    corrected_p: float | None = None  # corrected for the number of comparisons


@dataclass(frozen=True)
class _Correctness:
    """The share of a group's seeds that classified each test example correctly."""

    shares: np.ndarray  # float64 [examples], 0 to 1
    names: list[str]
    labels: list[str]
    data: str  # fingerprint of generated data, whose names do not identify an example


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> PairedTest:
    """Compare `first` and `second` float64 [examples], the correctness of each example, 0 to 1.

    Examples are resampled with replacement, the same ones for both (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993). The interval holds the middle 95 % of the differences.
    The p value is two-sided: the share of resamples whose difference is as far from the observed
    one as that is from zero (their section 16.4; Berg-Kirkpatrick et al. 2012), with the observed
    one counted among them, so that it is never zero.

    Only the count of each distinct difference in a resample matters. Those counts are multinomial,
    so they are drawn instead of the examples: the same distribution in a thousandth of the time.
    """
    differences = first - second
    values, counts = np.unique(np.round(differences, 12), return_counts=True)
    examples = len(differences)
    draws = np.random.default_rng(seed).multinomial(examples, counts / examples, size=resamples)
    observed = float(values @ counts / examples)
    resampled = draws @ values / examples
    low, high = np.quantile(resampled, [0.025, 0.975])
    rounding = 1e-12
    as_far = np.abs(resampled - observed) >= abs(observed) - rounding
    p_value = (1 + int(as_far.sum())) / (1 + resamples)
    return PairedTest(
        float(first.mean()), float(second.mean()), observed, float(low), float(high), p_value
    )


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
    found = {id(group): _read_correctness(group) for group in chosen} if len(chosen) > 1 else {}
    pairs = [
        _compare(first, second, found[id(first)], found[id(second)])
        for first, second in combinations(chosen, 2)
    ]
    tested = [pair.test.p_value for pair in pairs if pair.test]
    corrected = iter(correct_p_values(tested))
    return [replace(pair, corrected_p=next(corrected)) if pair.test else pair for pair in pairs]


def choose_groups(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Return the groups to compare, in the order of `groups`."""
    ranked = [group for group in groups if group.validation.mean is not None]
    best_of_model = {group.model: group for group in reversed(ranked)}
    best = [group for group in ranked if best_of_model[group.model] is group]
    others = [group for group in ranked if best_of_model[group.model] is not group]
    chosen = (best + others)[:MAX_GROUPS]
    return [group for group in ranked if any(group is one for one in chosen)]


def _compare(
    first: SeedGroup, second: SeedGroup, one: _Correctness | str, other: _Correctness | str
) -> GroupComparison:
    for found in (one, other):
        if isinstance(found, str):
            return GroupComparison(first, second, 0, None, found)
    assert isinstance(one, _Correctness) and isinstance(other, _Correctness)
    if reason := _mismatch(one, other):
        return GroupComparison(first, second, 0, None, reason)
    test = paired_bootstrap(one.shares, _aligned_shares(one, other))
    return GroupComparison(first, second, len(one.names), test)


def _read_correctness(group: SeedGroup) -> _Correctness | str:
    """Return the correctness averaged over the group's seeds, or why there is none."""
    try:
        runs = [(job, _job_correctness(job)) for job in group.finished]
    except CheckpointError as error:
        return str(error)
    _, head = runs[0]
    if len(set(head.names)) < len(head.names):
        return f"{runs[0][0].name}: two test examples have the same name"
    total = np.zeros(len(head.names))
    for job, run in runs:
        if reason := _mismatch(head, run):
            return f"{job.name}: {reason}"
        total += _aligned_shares(head, run)
    return replace(head, shares=total / len(runs))


def _job_correctness(job: JobSummary) -> _Correctness:
    found = read_predictions(job.folder)
    labels = [found.class_names[label] for label in found.labels]
    data = job.data if job.synthetic else ""
    return _Correctness(found.correct.astype(np.float64), found.names, labels, data)


def _aligned_shares(one: _Correctness, other: _Correctness) -> np.ndarray:
    """Return the shares of `other`, its examples in the order of `one`."""
    if one.names == other.names:
        return other.shares
    order = {name: position for position, name in enumerate(other.names)}
    return other.shares[[order[name] for name in one.names]]


def _mismatch(one: _Correctness, other: _Correctness) -> str:
    """Return why the two are not of the same test examples, "" if they are."""
    if len(one.names) != len(other.names):
        return f"{len(other.names):,} test examples against {len(one.names):,}"
    # A generator gives the examples of each of its data sets the same names.
    if one.data != other.data:
        return "different synthetic examples with the same names"
    if (one.names, one.labels) == (other.names, other.labels):
        return ""
    labelled = [dict(zip(run.names, run.labels, strict=True)) for run in (one, other)]
    return "" if labelled[0] == labelled[1] else "different test examples or labels"
