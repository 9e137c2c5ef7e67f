"""Labelled reviews as every source gives them, before any token is cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnn_lab.data.text_storage import MemmapTexts


@dataclass(frozen=True)
class Split:
    """Labelled texts. All fields have one entry a review."""

    texts: Sequence[str]
    labels: np.ndarray  # int64, an index into Corpus.class_names
    names: Sequence[str]  # where each text came from: "train/pos/0_9.txt", "reviews.csv:12"
    groups: np.ndarray | None = None  # int64, the film of each review, where known

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Split":
        """The reviews at `rows`, in that order; texts that are on disk stay there."""
        groups = None if self.groups is None else self.groups[rows]
        return Split(_take(self.texts, rows), self.labels[rows], _take(self.names, rows), groups)


@dataclass(frozen=True)
class Corpus:
    """A data set: its splits, its classes, and a fingerprint of all that it holds."""

    name: str  # "imdb", "demo", "long_range" or "files"
    class_names: tuple[str, ...]
    train: Split
    validation: Split | None  # None: to be cut from `train`
    test: Split | None
    fingerprint: str  # sha256 (hex) of the content: texts, labels, order
    synthetic: bool = False
    skipped: Sequence[str] = ()  # one line for each row passed over

    @property
    def splits(self) -> dict[str, Split]:
        """The given splits by name, in the order train, validation, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def _take(texts: Sequence[str], rows: np.ndarray) -> Sequence[str]:
    return texts.take(rows) if isinstance(texts, MemmapTexts) else [texts[row] for row in rows]
