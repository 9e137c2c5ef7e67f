"""Model against model on the same test reviews, by a paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from src.errors import CheckpointError
from src.reports.run_files import Predictions, read_predictions
from src.reports.sweep_groups import Group

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
class _Correctness:
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


def _compare(
    first: Group, second: Group, one: _Correctness | str, other: _Correctness | str
) -> Comparison:
    for found in (one, other):
        if isinstance(found, str):
            return Comparison(first, second, 0, None, found)
    assert isinstance(one, _Correctness) and isinstance(other, _Correctness)
    if reason := _why_other_reviews(one, other):
        return Comparison(first, second, 0, None, reason)
    order = {name: position for position, name in enumerate(other.names)}
    matched = other.shares[[order[name] for name in one.names]]
    return Comparison(first, second, len(one.names), paired_bootstrap(one.shares, matched))


def _read(group: Group) -> _Correctness | str:
    """The group's correctness, or why there is none."""
    try:
        runs = [
            (job, _correctness(read_predictions(job.folder), job.data if job.synthetic else ""))
            for job in group.finished
        ]
    except CheckpointError as error:
        return str(error)
    _, head = runs[0]
    order = {name: position for position, name in enumerate(head.names)}
    if len(order) < len(head.names):
        return f"{runs[0][0].name}: two test reviews have one name"
    total = np.zeros(len(order))
    for job, run in runs:
        if reason := _why_other_reviews(head, run):
            return f"{job.name}: {reason}"
        total[[order[name] for name in run.names]] += run.shares
    return _Correctness(total / len(runs), head.names, head.labels, head.data)


def _correctness(predictions: Predictions, data: str) -> _Correctness:
    labels = [predictions.class_names[label] for label in predictions.labels]
    return _Correctness(predictions.correct.astype(np.float64), predictions.names, labels, data)


def _why_other_reviews(one: _Correctness, other: _Correctness) -> str:
    """Empty where both hold the same reviews under the same names."""
    if len(one.names) != len(other.names):
        return f"{len(other.names):,} test reviews against {len(one.names):,}"
    # A generator gives each of its data sets the same names.
    if one.data != other.data:
        return "other made-up reviews under the same names"
    if dict(zip(one.names, one.labels, strict=True)) != dict(
        zip(other.names, other.labels, strict=True)
    ):
        return "other test reviews, or other labels"
    return ""
