"""Self-training: unlabelled texts, with the labels that finished runs predict, train another run.

Labels of which the teacher is unsure are not used: its errors would be learned (Yarowsky 1995,
"Unsupervised Word Sense Disambiguation Rivaling Supervised Methods"; Lee 2013, "Pseudo-Label";
Xie et al. 2020, "Self-training with Noisy Student").
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rnn_lab.data.cache import build_once, rows_fingerprint, settings_key
from rnn_lab.data.corpus import UnlabelledTexts
from rnn_lab.data.duplicates import split_hashes
from rnn_lab.data.encode import EncodedSplit, EncodedTexts
from rnn_lab.data.storage import ConcatenatedArrays
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.unlabelled import (
    EncodedUnlabelled,
    RunTexts,
    encode_some_unlabelled,
    encode_unlabelled,
)
from rnn_lab.errors import ConfigError, DataError

_VERSION = 1  # part of the cache key; raise it when the probabilities below change


class Teacher(Protocol):
    """What labels the texts: one finished run, or several."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""

    @property
    def key(self) -> dict[str, Any]:
        """What decides its probabilities, in plain types."""

    def probabilities(self, encode: Callable[[Tokenizer], EncodedTexts]) -> np.ndarray:
        """Return calibrated probabilities, float32 [texts, classes]; zeros of a text without ids.

        `encode` returns the texts in the ids of a vocabulary, some of them perhaps without any.
        """


@dataclass(frozen=True)
class PseudoLabelled:
    """The unlabelled texts that a teacher is sure of."""

    split: EncodedSplit
    rows: np.ndarray  # int64 [texts]: positions among those of `unlabelled`
    unlabelled: EncodedUnlabelled  # sure or not
    num_labelled: int  # of these that the training texts have, with a label, and that are not used

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all texts, and of which of them have which labels."""
        labels = self.rows.tobytes() + self.split.labels.tobytes()
        return hashlib.sha256(self.unlabelled.fingerprint.encode() + labels).hexdigest()

    def after(self, labelled: EncodedSplit) -> EncodedSplit:
        """Return the labelled texts, and these after them."""
        return EncodedSplit(
            ConcatenatedArrays(labelled.ids, self.unlabelled.ids.values),
            np.concatenate([labelled.starts, self.split.starts + len(labelled.ids)]),
            np.concatenate([labelled.lengths, self.split.lengths]),
            np.concatenate([labelled.labels, self.split.labels]),
        )


def pseudo_label(
    teacher: Teacher,
    unlabelled: UnlabelledTexts,
    texts: RunTexts,
    class_names: tuple[str, ...],
    *,
    threshold: float,
    cache_dir: Path,
) -> PseudoLabelled:
    """Return the texts whose most probable class has a probability of `threshold` or more; cached.

    A text that occurs in validation or test, word by word, is left out, and so is one that occurs
    in training, with a label.

    Args:
        teacher: labels them.
        unlabelled: the texts of data.unlabelled.
        texts: of the run that is to learn from them.
        class_names: of its labels.
        threshold: above 0 to 1.
        cache_dir: keeps the probabilities.

    Raises:
        ConfigError: the teacher has other classes.
        DataError: the texts cannot be read, all are left out, or the teacher is sure of none.
        WriteError: the cache cannot be written.
    """
    if set(teacher.class_names) != set(class_names):
        raise ConfigError(
            f"data.teacher: has the classes {', '.join(teacher.class_names)}; these texts have "
            f"{', '.join(class_names)}"
        )
    encoded = encode_some_unlabelled(unlabelled, texts, cache_dir)
    # [texts, teacher's classes]
    found = _probabilities(teacher, unlabelled, encoded.texts_fingerprint, texts, cache_dir)
    lengths = np.diff(encoded.ids.offsets)
    labelled = split_hashes(texts.corpus, cache_dir, *texts.rows)["train"]
    is_labelled = np.isin(encoded.words, labelled.words)
    is_new = (lengths > 0) & ~is_labelled
    if not is_new.any():
        raise DataError("data.unlabelled: has no text that is not in training, with a label, too")
    rows = np.flatnonzero(is_new & (found.max(axis=1, initial=0) >= threshold))
    if not len(rows):
        raise DataError(
            f"data.teacher: none of the {is_new.sum():,} texts of data.unlabelled has a class with "
            f"a probability of {threshold:g} or more; lower data.teacher_threshold"
        )
    own_label = np.array([class_names.index(name) for name in teacher.class_names])
    split = EncodedSplit(
        encoded.ids.values,
        encoded.ids.offsets[:-1][rows],
        lengths[rows],
        own_label[found[rows].argmax(axis=1)],
    )
    return PseudoLabelled(split, rows, encoded, int(is_labelled.sum()))


def _probabilities(
    teacher: Teacher,
    unlabelled: UnlabelledTexts,
    texts_fingerprint: str,
    texts: RunTexts,
    cache_dir: Path,
) -> np.ndarray:
    settings = {
        "version": _VERSION,
        "teacher": teacher.key,
        "corpus": texts.corpus.fingerprint,
        "rows": [rows_fingerprint(rows) for rows in texts.rows],
        "unlabelled": texts_fingerprint,
    }

    def encode(vocabulary: Tokenizer) -> EncodedTexts:
        of_teacher = replace(texts, vocabulary=vocabulary)
        return _every_text(encode_unlabelled(unlabelled, of_teacher, cache_dir))

    def build(folder: Path) -> None:
        np.save(folder / "probabilities.npy", teacher.probabilities(encode))

    folder = build_once(cache_dir / "pseudo_labels" / settings_key(settings), build)
    found: np.ndarray = np.load(folder / "probabilities.npy")
    return found


def _every_text(encoded: EncodedUnlabelled) -> EncodedTexts:
    offsets = encoded.ids.offsets
    return EncodedTexts(encoded.ids.values, offsets[:-1], np.diff(offsets))
