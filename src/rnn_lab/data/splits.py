"""Cut validation reviews from the training split, the same ones on every machine for a seed."""

import random

import numpy as np

from rnn_lab.data.config import AutoConfig, DataConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.errors import DataError


def split_validation(corpus: Corpus, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Choose which rows of `corpus.train` to train on and which to validate on.

    `by_film` moves whole films until `val_fraction` of the reviews is reached: reviews of
    one film share its names and plot, so a film on both sides lets a model be validated on what
    it has memorised. `stratified` takes that fraction of each class, `random` of all reviews.

    Returns:
        Two ascending int64 arrays: the rows to train on, [train], and to validate on,
        [validation]. The second is empty where the corpus brings its own validation split.

    Raises:
        DataError: films are asked for where none are known, or a side would be left empty.
    """
    size = len(corpus.train)
    if corpus.validation is not None or size == 0:
        return np.arange(size), np.arange(0)
    method = config.validation
    if isinstance(config, AutoConfig) and corpus.name == "demo":
        method = config.demo().validation
    fraction, seed = config.val_fraction, config.split_seed
    if method == "by_film":
        if corpus.train.groups is None:
            raise DataError(
                f"data.validation=by_film: no films are known for {corpus.name}; "
                "choices: random, stratified"
            )
        held_out = _whole_groups(corpus.train.groups, fraction, seed)
    elif method == "stratified":
        held_out = stratified(corpus.train.labels, fraction, seed)
    else:
        held_out = np.isin(np.arange(size), _shuffled(size, seed)[: round(fraction * size)])
    if held_out.all() or not held_out.any():
        raise DataError(
            f"{corpus.name}: {size} training reviews are too few to cut validation from "
            f"with data.validation={method} data.val_fraction={fraction:g}"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask, bool [reviews], over `fraction` of each class: one at least, but never all."""
    held_out = np.zeros(len(labels), dtype=bool)
    order = _shuffled(len(labels), seed)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        held_out[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    return held_out


def _whole_groups(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    films, counts = np.unique(groups, return_counts=True)
    order = _shuffled(len(films), seed)
    before = np.cumsum(counts[order]) - counts[order]  # reviews held out ahead of each film
    return np.isin(groups, films[order[before < fraction * len(groups)]])


def _shuffled(size: int, seed: int) -> np.ndarray:
    """A permutation, int64 [size]. NumPy may change its own between versions, `random` not."""
    draw = random.Random(seed).random
    return np.argsort(np.fromiter((draw() for _ in range(size)), float, size), kind="stable")
