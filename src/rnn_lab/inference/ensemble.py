"""Several finished runs as one model, whose probabilities are the mean of theirs.

The errors of networks that were trained with other seeds, or on other folds, differ in part, and
the mean of their predictions has fewer (Hansen and Salamon 1990, "Neural Network Ensembles"). This
module does not import torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.errors import ConfigError
from rnn_lab.inference.predictor import Predictor, SingleModel
from rnn_lab.models.averaging import mean_probabilities


class Ensemble(Predictor):
    """The mean of the calibrated probabilities of models with the same classes.

    Where a text has any number of labels, the threshold of a label is the mean of theirs. The ids
    of a text are those of each vocabulary, one after the other: `probabilities` divides them.
    """

    def __init__(self, members: Sequence[SingleModel]) -> None:
        """Combine two or more models.

        Raises:
            ConfigError: their classes differ, or one predicts one label a text and another one any
                number of them.
        """
        first = members[0]
        for other in members[1:]:
            if difference := _difference(first, other):
                raise ConfigError(
                    f"run: {first.path} and {other.path} cannot be combined: {difference}"
                )
        self.members = tuple(members)
        self.class_names = first.class_names
        self.path = Path(os.path.commonpath([member.path.absolute() for member in members]))
        infos = [member.read_info for member in members]
        self.read_info: ReadInfo | None = infos[0] if infos.count(infos[0]) == len(infos) else None
        # Equal ones, such as those of several seeds, encode a text once.
        encoders = {_identity(member.text_encoder): member.text_encoder for member in members}
        self._encoders = list(encoders.values())
        self._encoder_of = [
            list(encoders).index(_identity(member.text_encoder)) for member in members
        ]

    @property
    def cell(self) -> str:
        """The names of their cells, each once."""
        return " + ".join(dict.fromkeys(member.cell for member in self.members))

    @property
    def text_columns(self) -> set[tuple[str, ...]]:
        """The columns with the texts that they were trained on; more than one: they differ."""
        infos = [member.read_info for member in self.members]
        return {info.columns.text for info in infos if info and info.columns}

    @property
    def thresholds(self) -> np.ndarray | None:
        """Where a text has any number of labels, the mean threshold of each, float32 [classes]."""
        found = [one for member in self.members if (one := member.thresholds) is not None]
        return np.stack(found).mean(axis=0) if found else None

    @property
    def label_separator(self) -> str:
        """What joins several labels in one cell of a table: as of the first."""
        return self.members[0].label_separator

    def encode(self, text: str) -> np.ndarray:
        """Return the number of ids of each vocabulary, then the ids of each, int64."""
        parts = [encoder.encode(text) for encoder in self._encoders]
        return np.concatenate([[len(part) for part in parts], *parts])

    def probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean probabilities, float32 [texts, classes], of what `encode` returned."""
        count = len(self._encoders)
        # [texts, vocabularies]
        divided = [np.split(text[count:], np.cumsum(text[: count - 1])) for text in texts]
        found = [
            member.probabilities([parts[position] for parts in divided])
            for member, position in zip(self.members, self._encoder_of, strict=True)
        ]
        return mean_probabilities(found)

    def explain(self, text: str, label: str | None = None) -> NoReturn:
        """Raise a ConfigError, which says what to load to explain."""
        raise ConfigError("an ensemble only predicts; to explain, load one of its runs")


def _identity(encoder: TextEncoder) -> tuple[str, int, str]:
    return encoder.fingerprint, encoder.max_length, encoder.truncation_side


def _difference(one: Predictor, other: Predictor) -> str:
    """Return why two models cannot be combined, "" where they can."""
    if one.task != other.task:
        return "one of them predicts one label a text, the other any number of labels"
    if one.class_names == other.class_names:
        return ""
    names = set(one.class_names), set(other.class_names)
    if names[0] == names[1]:
        return "their classes have another order"
    only = [", ".join(sorted(mine - theirs)[:4]) for mine, theirs in (names, names[::-1])]
    return f"their classes differ; only one of them has {' / '.join(filter(None, only))}"
