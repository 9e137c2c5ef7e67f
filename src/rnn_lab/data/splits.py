"""Split validation examples off the training split, the same on every machine for a seed."""

import random

import numpy as np

from rnn_lab.data.corpus import Corpus
from rnn_lab.data.options import TextOptions
from rnn_lab.errors import DataError


def split_validation(corpus: Corpus, config: TextOptions) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows of `corpus.train` to train on and those to validate on.

    data.val_split=by_film moves whole groups until `val_fraction` of the examples is reached.
    Reviews of one film share its names and plot: with a film on both sides, validation would
    reward a model for memorising it. `stratified` takes that fraction of each class, `random` of
    all examples.

    Returns:
        Two ascending int64 arrays: the rows to train on, [train], and to validate on,
        [validation]. The second is empty if the corpus has a validation split.

    Raises:
        DataError: by_film is chosen and the corpus has no groups, or a side would be empty.
    """
    size = len(corpus.train)
    if corpus.validation is not None or size == 0:
        return np.arange(size), np.arange(0)
    config = config.resolve(corpus)
    method, fraction, seed = config.val_split, config.val_fraction, config.split_seed
    if method == "by_film":
        if corpus.train.groups is None:
            raise DataError(
                f"data.val_split=by_film: {corpus.name} does not know the films of its texts; "
                "choices: random, stratified"
            )
        held_out = _whole_groups(corpus.train.groups, fraction, seed)
    elif method == "stratified":
        held_out = stratified(corpus.train.labels, fraction, seed)
    else:
        held_out = np.isin(np.arange(size), _permutation(size, seed)[: round(fraction * size)])
    if held_out.all() or not held_out.any():
        raise DataError(
            f"{corpus.name}: {size} training texts are too few for a validation split "
            f"with data.val_split={method} data.val_fraction={fraction:g}"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask, bool [examples], of `fraction` of each class: at least one, but never all."""
    held_out = np.zeros(len(labels), dtype=bool)
    order = _permutation(len(labels), seed)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        held_out[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    return held_out


def _whole_groups(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    names, counts = np.unique(groups, return_counts=True)
    order = _permutation(len(names), seed)
    before = np.cumsum(counts[order]) - counts[order]  # examples held out before each group
    return np.isin(groups, names[order[before < fraction * len(groups)]])


def _permutation(size: int, seed: int) -> np.ndarray:
    """Return a permutation, int64 [size]. NumPy may change its own between versions."""
    draw = random.Random(seed).random
    return np.argsort(np.fromiter((draw() for _ in range(size)), float, size), kind="stable")
