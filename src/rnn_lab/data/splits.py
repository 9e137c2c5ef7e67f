"""Cut examples into splits and folds, the same on every machine for a seed."""

import random
from collections.abc import Sequence

import numpy as np

from rnn_lab.data.class_balance import count_classes
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.options import TextOptions
from rnn_lab.errors import DataError

ONLY_ONE = "the only one of its class"
_MAX_SHARE = 1 / 3  # held out so that each class has a text there; or twice the fraction, if more
_MOVES = 3  # times that each group may move to another part


def split_validation(corpus: Corpus, config: TextOptions) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows of `corpus.train` to train on and those to validate on.

    With data.train_size, `draw_training` chooses from which; the others are in neither.

    data.val_split=by_film and by_group move whole groups. Reviews of one film share its names and
    plot: with a film on both sides, validation would reward a model for memorising it. `by_film`,
    the cut that IMDB's published metrics have, moves groups until `val_fraction` of the examples
    is reached; `by_group` also balances the classes, see `assign_groups`. `stratified` takes that
    fraction of each class or label, `random` of all examples.

    Returns:
        Two ascending int64 arrays: the rows to train on, [train], and to validate on,
        [validation]. The second is empty if the corpus has a validation split.

    Raises:
        DataError: groups are to be moved and the corpus has none, or a side would be empty, or
            there are fewer texts than data.train_size.
    """
    config = config.resolve(corpus)
    chosen = np.arange(len(corpus.train))
    if config.train_size is not None:
        chosen = draw_training(corpus, config.train_size, config.split_seed)
    if corpus.validation is not None or not len(chosen):
        return chosen, np.arange(0)
    held_out = _validation_mask(corpus, chosen, config)
    return chosen[~held_out], chosen[held_out]


def draw_training(corpus: Corpus, number: int, seed: int) -> np.ndarray:
    """Return `number` rows of `corpus.train`, int64 [number], ascending.

    Each class has about its share of them, at least one text. Where a text has any number
    of labels, the rows are drawn without regard to them. With the same seed, the rows of a smaller
    number are among those of a larger one.

    Raises:
        DataError: there are fewer texts, or more classes.
    """
    labels = corpus.train.labels
    classes = np.unique(labels) if labels.ndim == 1 else ()
    least = max(2, len(classes))
    if not least <= number <= len(labels):
        raise DataError(
            f"data.train_size={number}: {corpus.name} has {len(labels):,} training texts"
            + (f" of {len(classes)} classes" if len(classes) else "")
            + f"; give a number from {least} to {len(labels)}"
        )
    order = _permutation(len(labels), seed)
    if labels.ndim == 1:
        # Text i of n of a class is at i / n: the first ones of all classes, then equal shares.
        place = np.empty(len(labels))
        for label in classes:
            rows = order[labels[order] == label]
            place[rows] = np.arange(len(rows)) / len(rows)
        order = order[np.argsort(place[order], kind="stable")]
    return np.sort(order[:number])


def _validation_mask(corpus: Corpus, chosen: np.ndarray, config: TextOptions) -> np.ndarray:
    """Return which of the rows `chosen` of `corpus.train` validate, bool [chosen]."""
    size = len(chosen)
    method, fraction, seed = config.val_split, config.val_fraction, config.split_seed
    labels, groups = corpus.train.labels[chosen], corpus.train.groups
    groups = None if groups is None else groups[chosen]
    if method in ("by_film", "by_group"):
        if groups is None:
            what = "films" if method == "by_film" else "groups"
            raise DataError(
                f"data.val_split={method}: {corpus.name} does not know the {what} of its texts; "
                "choices: random, stratified"
            )
        if method == "by_film":
            held_out = _first_groups(groups, fraction, seed)
        else:
            held_out = hold_out_groups(labels, groups, fraction, seed)
    elif method == "stratified":
        held_out = stratified(labels, fraction, seed)
    else:
        held_out = np.isin(np.arange(size), _permutation(size, seed)[: round(fraction * size)])
    if held_out.all() or not held_out.any():
        if method == "stratified" and labels.ndim == 1:
            raise DataError(
                f"{corpus.name}: each of the {size} training texts is {ONLY_ONE}, so none is left "
                "for validation; data.val_path names other texts, and data.val_split=random leaves "
                "some classes without a training text"
            )
        raise DataError(
            f"{corpus.name}: {size} training texts are too few for a validation split "
            f"with data.val_split={method} data.val_fraction={fraction:g}"
        )
    return held_out


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask, bool [examples], of `fraction` of each class: at least one, but never all.

    If that is over a third of the examples, as where classes have two each, some of the smallest
    classes have none in it: it is `fraction` of all examples then.

    Of labels [examples, classes], where a text has any number of them, it is about that fraction
    of each label and of the texts without one, and a rare label may have no text in the mask.
    """
    if labels.ndim == 2:
        return _iteratively_stratified(labels, (1 - fraction, fraction), seed) == 1
    held_out, rare = np.zeros((2, len(labels)), dtype=bool)
    order = _permutation(len(labels), seed)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        share = round(fraction * len(rows))
        held_out[rows[: min(max(1, share), len(rows) - 1)]] = True
        rare[rows] = share == 0
    if held_out.sum() > max(2 * fraction, _MAX_SHARE) * len(labels):
        rest = max(1, round(fraction * len(labels))) - (held_out & ~rare).sum()
        held_out[order[(held_out & rare)[order]][max(0, rest) :]] = False
    return held_out


def hold_out_groups(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Return a mask, bool [examples], of about `fraction` of each class, of whole groups alone.

    All False if there is only one group.
    """
    return assign_groups(labels, groups, (1 - fraction, fraction), seed) == 1


def assign_folds(
    labels: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the fold of each example, int64 [examples], from 0: equal parts with equal classes.

    The counts of each class in two folds differ by at most one, and so do the sizes of two folds:
    those of scikit-learn's StratifiedKFold. With `groups`, [examples], each is in one fold whole.
    Labels [examples, classes], any number a text, are about equally frequent in all folds.

    Raises:
        ValueError: there are fewer examples, or fewer groups, than folds; says so.
    """
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < folds:
        what = "rows" if groups is None else "groups"
        raise ValueError(f"{units} {what} are too few for {folds} folds")
    if groups is not None:
        return assign_groups(labels, groups, [1 / folds] * folds, seed)
    if labels.ndim == 2:
        return _iteratively_stratified(labels, [1 / folds] * folds, seed)
    shuffled = _permutation(len(labels), seed)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def assign_groups(
    labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Return the part of each example, int64 [examples], so that each group is in one part.

    Greedy, the large groups first: each goes where it lowers the sum over classes of
    (count - wanted)² / wanted, and the same of all examples, the most. Then each in turn may move.
    Groups of similar size (the same power of two) are in an order drawn by the seed. No part is
    empty if there are enough groups.

    Args:
        labels: int64 [examples], or 0 and 1 [examples, classes].
        groups: int64 [examples].
        shares: of each part, which sum to 1; positive.
        seed: of the order.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    num_classes = labels.shape[1] if labels.ndim == 2 else len(np.unique(labels))
    classes = labels if labels.ndim == 2 else np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(group_of).tolist()
    class_counts = count_classes(classes, num_classes).tolist()
    # Column 0 counts all examples, column k + 1 those of class k.
    wanted = [[share * count for count in (len(labels), *class_counts)] for share in shares]
    counts = [[0] * (1 + len(class_counts)) for _ in shares]
    contents = _count_classes(group_of, classes, len(sizes))

    def add(group: int, number: int, sign: int = 1) -> None:
        for column, count in contents[group]:
            counts[number][column] += sign * count

    def best_part(group: int) -> int:
        # Python's floats: their sums are the same on every machine.
        costs = [
            sum(
                count * (count + 2 * (have[column] - want[column])) / want[column]
                for column, count in contents[group]
            )
            for have, want in zip(counts, wanted, strict=True)
        ]
        return costs.index(min(costs))

    drawn = _permutation(len(sizes), seed).tolist()
    order = sorted(drawn, key=lambda group: -sizes[group].bit_length())
    part = [-1] * len(sizes)
    for group in order:
        part[group] = best_part(group)
        add(group, part[group])
    for _ in range(_MOVES):
        before = part.copy()
        for group in order:
            add(group, part[group], -1)
            part[group] = best_part(group)
            add(group, part[group])
        if part == before:
            break
    members = [part.count(number) for number in range(len(shares))]
    for empty in (number for number, count in enumerate(members) if not count):
        for group in reversed(order):  # a small one
            if members[part[group]] > 1:
                members[part[group]] -= 1
                part[group] = empty
                break
    return np.array(part, dtype=np.int64)[group_of]


def _count_classes(
    group_of: np.ndarray, classes: np.ndarray, num_groups: int
) -> list[list[tuple[int, int]]]:
    """Return of each group (0, its size), then (k + 1, count) of each class k that it has."""
    sizes = np.bincount(group_of, minlength=num_groups).tolist()
    class_of = classes
    if classes.ndim == 2:
        rows, class_of = np.nonzero(classes)
        group_of = group_of[rows]
    width = int(class_of.max(initial=0)) + 1
    pairs, counts = np.unique(group_of * width + class_of, return_counts=True)
    contents = [[(0, size)] for size in sizes]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        contents[pair // width].append((pair % width + 1, count))
    return contents


def _iteratively_stratified(labels: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return the part of each text, int64 [examples]: of the rarest label first, where it lacks it.

    Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", 2011. Having no
    label counts as a label.

    Args:
        labels: uint8 [examples, classes].
        shares: of each part, which sum to 1.
        seed: of the order.
    """
    order = _permutation(len(labels), seed)
    left = np.column_stack([labels[order] > 0, ~labels[order].any(axis=1)])  # not yet assigned
    remaining = left.sum(axis=0)  # [classes + 1]
    lacking, places = np.outer(shares, remaining), np.array(shares) * len(labels)
    part = np.empty(len(labels), dtype=np.int64)
    while remaining.any():
        label = np.where(remaining > 0, remaining, len(labels) + 1).argmin()
        for row in np.flatnonzero(left[:, label]):
            number = max(range(len(shares)), key=lambda i: (lacking[i, label], places[i]))
            lacking[number] -= left[row]
            places[number] -= 1
            part[order[row]] = number
            remaining -= left[row]
            left[row] = False
    return part


def _first_groups(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    names, counts = np.unique(groups, return_counts=True)
    order = _permutation(len(names), seed)
    before = np.cumsum(counts[order]) - counts[order]  # examples held out before each group
    return np.isin(groups, names[order[before < fraction * len(groups)]])


def _permutation(size: int, seed: int) -> np.ndarray:
    """Return a permutation, int64 [size]. NumPy may change its own between versions."""
    draw = random.Random(seed).random
    return np.argsort(np.fromiter((draw() for _ in range(size)), float, size), kind="stable")
