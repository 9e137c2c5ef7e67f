"""Find texts that occur more than once, within a split or in two splits, by their hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from rnn_lab.data.corpus import SPLITS, Corpus
from rnn_lab.data.tokenize import TextHashes, tokenize_corpus


class DuplicateCounts(TypedDict):
    """How many examples are duplicates, and how many of them have another label."""

    examples: int
    label_conflicts: int


def split_hashes(
    corpus: Corpus, cache_dir: Path, train_rows: np.ndarray, validation_rows: np.ndarray
) -> dict[str, TextHashes]:
    """Return the hashes of each non-empty split of a run, by name.

    `train_rows` and `validation_rows` are those of `split_validation`.

    Raises:
        WriteError: the cache cannot be written.
    """
    given = tokenize_corpus(corpus, cache_dir).hashes
    validation = given.get("validation", given["train"].take(validation_rows))
    hashes = given | {"train": given["train"].take(train_rows), "validation": validation}
    return {name: hashes[name] for name in SPLITS if name in hashes and len(hashes[name].labels)}


def count_duplicates(
    hashes: Mapping[str, TextHashes],
) -> dict[str, dict[str, DuplicateCounts]]:
    """Count duplicates: "exact" compares texts, "by_token" their tokens.

    Under the name of a split: how many of its examples repeat an earlier one of it. Under
    "test_in_train" and the like: how many examples of the first occur in the second.
    """
    return {
        "exact": _count({name: (split.text, split.labels) for name, split in hashes.items()}),
        "by_token": _count({name: (split.words, split.labels) for name, split in hashes.items()}),
    }


def _count(keys: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, DuplicateCounts]:
    distinct = {name: _DistinctTexts(*of_split) for name, of_split in keys.items()}
    counts = {name: distinct[name].repeats() for name in keys}
    names = list(keys)
    for place, first in enumerate(names):
        for later in names[place + 1 :]:
            counts[f"{later}_in_{first}"] = distinct[first].matches(*keys[later])
    return counts


class _DistinctTexts:
    """The distinct texts of a split, sorted by key."""

    def __init__(self, keys: np.ndarray, labels: np.ndarray) -> None:
        order = np.lexsort((labels, keys))
        keys, labels = keys[order], labels[order]
        begins = np.ones(len(keys), dtype=bool)
        begins[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(begins)  # [texts]
        ends = np.append(starts, len(keys))[1:]
        self._keys = keys[starts]
        self._sizes = ends - starts
        self._lowest, self._highest = labels[starts], labels[ends - 1]  # label of each text

    def repeats(self) -> DuplicateCounts:
        """Count the examples after the first of each text."""
        repeats = self._sizes - 1
        conflicts = repeats[self._lowest != self._highest]
        return {"examples": int(repeats.sum()), "label_conflicts": int(conflicts.sum())}

    def matches(self, keys: np.ndarray, labels: np.ndarray) -> DuplicateCounts:
        """Count the examples of another split that occur here."""
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[place] == keys
        other = (self._lowest[place] != labels) | (self._highest[place] != labels)
        return {"examples": int(found.sum()), "label_conflicts": int((found & other).sum())}


def leaked_rows(hashes: Mapping[str, TextHashes]) -> np.ndarray:
    """Return a mask, bool [examples], of the training texts whose tokens are also held out."""
    words = hashes["train"].words
    others = [split.words for name, split in hashes.items() if name != "train"]
    return np.isin(words, np.concatenate([words[:0], *others]))
