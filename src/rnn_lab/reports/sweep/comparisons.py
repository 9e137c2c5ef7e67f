"""Model against model on the same test reviews, by a paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.run_files import read_predictions
from rnn_lab.reports.sweep.groups import Group
from rnn_lab.reports.sweep.jobs import JobSummary

RESAMPLES = 10_000
SEED = 0
MOST_GROUPS = 6  # compared with one another: 15 pairs


@dataclass(frozen=True)
class PairedTest:
    """The difference of two accuracies on the same reviews."""

    first: float  # accuracy
    second: float
    difference: float  # first - second
    low: float  # of its 95 % interval
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two groups, `first` the better one by validation."""

    first: Group
    second: Group
    reviews: int
    test: PairedTest | None  # None: not comparable, and `reason` says why
    reason: str = ""
    corrected_p: float | None = None  # for the number of comparisons


@dataclass(frozen=True)
class _Shares:
    """How often each test review was right over the seeds of a group."""

    shares: np.ndarray  # float64 [reviews], 0 to 1
    names: list[str]
    labels: list[str]
    data: str  # fingerprint, where names alone do not tell reviews apart


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> PairedTest:
    """Compare `first` and `second` float64 [reviews], each review's correctness from 0 to 1.

    Reviews are drawn with replacement, the same ones for both (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993). The interval holds the middle 95 % of the differences.
    The p value, two-sided, is the share of resamples whose difference is as far from the observed
    one as that is from zero (their section 16.4; Berg-Kirkpatrick et al. 2012), the observed one
    counted among them, so that it is never zero.

    Only how often each difference of a review was drawn matters: those counts are multinomial, so
    they are drawn in place of the reviews. That is the same law and takes a thousandth of the time.
    """
    differences = first - second
    values, counts = np.unique(np.round(differences, 12), return_counts=True)
    reviews = len(differences)
    draws = np.random.default_rng(seed).multinomial(reviews, counts / reviews, size=resamples)
    observed = float(values @ counts / reviews)
    resampled = draws @ values / reviews
    low, high = np.quantile(resampled, [0.025, 0.975])
    rounding = 1e-12
    as_far = np.abs(resampled - observed) >= abs(observed) - rounding
    p_value = (1 + int(as_far.sum())) / (1 + resamples)
    return PairedTest(
        float(first.mean()), float(second.mean()), observed, float(low), float(high), p_value
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, "A Simple Sequentially Rejective ...", 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()


def compare_groups(groups: Sequence[Group]) -> list[Comparison]:
    """Compare every pair of at most MOST_GROUPS groups, chosen by validation alone.

    They are the best of each model, then the best of the others. `groups` stand in the order of
    their validation means.
    """
    chosen = choose_groups(groups)
    read = {id(group): _read(group) for group in chosen} if len(chosen) > 1 else {}
    pairs = [
        _compare(first, second, read[id(first)], read[id(second)])
        for first, second in combinations(chosen, 2)
    ]
    tested = [pair.test.p_value for pair in pairs if pair.test]
    corrected = iter(holm(tested))
    return [replace(pair, corrected_p=next(corrected)) if pair.test else pair for pair in pairs]


def choose_groups(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that are compared, in the order of `groups`."""
    ranked = [group for group in groups if group.validation.mean is not None]
    best_of_model = {group.model: group for group in reversed(ranked)}
    heads = [group for group in ranked if best_of_model[group.model] is group]
    others = [group for group in ranked if best_of_model[group.model] is not group]
    chosen = (heads + others)[:MOST_GROUPS]
    return [group for group in ranked if any(group is one for one in chosen)]


def _compare(first: Group, second: Group, one: _Shares | str, other: _Shares | str) -> Comparison:
    for found in (one, other):
        if isinstance(found, str):
            return Comparison(first, second, 0, None, found)
    assert isinstance(one, _Shares) and isinstance(other, _Shares)
    if reason := _why_other_reviews(one, other):
        return Comparison(first, second, 0, None, reason)
    test = paired_bootstrap(one.shares, _in_order_of(one, other))
    return Comparison(first, second, len(one.names), test)


def _read(group: Group) -> _Shares | str:
    """The group's shares, or why there are none."""
    try:
        runs = [(job, _shares_of(job)) for job in group.finished]
    except CheckpointError as error:
        return str(error)
    _, head = runs[0]
    if len(set(head.names)) < len(head.names):
        return f"{runs[0][0].name}: two test reviews have one name"
    total = np.zeros(len(head.names))
    for job, run in runs:
        if reason := _why_other_reviews(head, run):
            return f"{job.name}: {reason}"
        total += _in_order_of(head, run)
    return _Shares(total / len(runs), head.names, head.labels, head.data)


def _shares_of(job: JobSummary) -> _Shares:
    found = read_predictions(job.folder)
    labels = [found.class_names[label] for label in found.labels]
    data = job.data if job.synthetic else ""
    return _Shares(found.correct.astype(np.float64), found.names, labels, data)


def _in_order_of(one: _Shares, other: _Shares) -> np.ndarray:
    """The shares of `other`, its reviews in the order of `one`."""
    if one.names == other.names:
        return other.shares
    order = {name: position for position, name in enumerate(other.names)}
    return other.shares[[order[name] for name in one.names]]


def _why_other_reviews(one: _Shares, other: _Shares) -> str:
    """Empty where both hold the same reviews under the same names."""
    if len(one.names) != len(other.names):
        return f"{len(other.names):,} test reviews against {len(one.names):,}"
    # A generator gives each of its data sets the same names.
    if one.data != other.data:
        return "other made-up reviews under the same names"
    if (one.names, one.labels) == (other.names, other.labels):
        return ""
    labelled = [dict(zip(run.names, run.labels, strict=True)) for run in (one, other)]
    return "" if labelled[0] == labelled[1] else "other test reviews, or other labels"
