"""predictions.csv and top_losses.csv: the examples of the test split."""

import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.runs.csv_table import CsvTable

TOP_LOSSES = "top_losses.csv"  # the test examples with the highest loss, and their texts
MAX_TOP_LOSSES = 100  # in it
_LABEL, _PREDICTION, _PROBABILITY = "label_", "prediction_", "probability_"


class HighLossExample(NamedTuple):
    """One example of the test split."""

    name: str  # where it came from: file and line
    label: str  # or several, joined by `format_labels`
    prediction: str  # likewise
    probability: float  # of the prediction; see `probability_of`
    loss: float  # cross-entropy in nats


def format_labels(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return the name of each label, an index [examples]; several, [examples, classes], joined.

    They are joined with ", ", or are JSON lists where the name of a class has a comma.
    """
    if labels.ndim == 1:
        return [class_names[label] for label in labels]
    found = [list(itertools.compress(class_names, row)) for row in labels]
    if _are_lists(class_names):
        return [json.dumps(names, ensure_ascii=False) for names in found]
    return [", ".join(names) for names in found]


def parse_labels(text: str, class_names: Sequence[str]) -> np.ndarray:
    """Return whether `text`, which `format_labels` returned, names each class: bool [classes]."""
    names: object = text.split(", ")
    if _are_lists(class_names):
        with contextlib.suppress(ValueError, RecursionError):  # a file that anyone may have edited
            names = json.loads(text)
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return np.isin(class_names, known)


def _are_lists(class_names: Sequence[str]) -> bool:
    return any("," in name for name in class_names)


def probability_of(predicted: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the probability [examples] of what is predicted, of probabilities [examples, classes].

    Of any number of labels, [examples, classes], it is that all of them are right, if they are
    independent.
    """
    if predicted.ndim == 2:
        return np.where(predicted, probabilities, 1 - probabilities).prod(axis=1)
    return probabilities[np.arange(len(predicted)), predicted]


@dataclass(frozen=True)
class Predictions:
    """The predictions of the test split, one entry per example in every array."""

    class_names: tuple[str, ...]
    names: list[str]  # where each example came from: file and line
    # Each int64 [examples], an index into class_names; or, where a text has any number of labels,
    # bool [examples, classes].
    labels: np.ndarray
    predicted: np.ndarray
    lengths: np.ndarray  # int64 [examples], tokens
    losses: np.ndarray  # float64 [examples], cross-entropy in nats
    probabilities: np.ndarray  # float64 [examples, classes]

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction equals the label, or exactly the labels: bool [examples]."""
        is_equal: np.ndarray = self.predicted == self.labels
        return is_equal.reshape(len(self.names), -1).min(axis=1)

    @property
    def is_multilabel(self) -> bool:
        """Whether a text has any number of labels."""
        return self.labels.ndim == 2

    def format_labels(self, labels: np.ndarray) -> list[str]:
        """Return the names of `labels`, rows of one of the two arrays."""
        return format_labels(labels, self.class_names)


def read_predictions(run_folder: Path) -> Predictions:
    """Return predictions.csv. The order of its probability columns is that of the classes."""
    path = run_folder / "predictions.csv"
    table = CsvTable(path, ("name", "length", "loss"))
    columns = [name for name in table.columns if name.startswith(_PROBABILITY)]
    class_names = tuple(name.removeprefix(_PROBABILITY) for name in columns)
    if len(class_names) < 2:
        raise CheckpointError(f"{path}: has fewer than two columns {_PROBABILITY}<class>")
    class_index = {name: index for index, name in enumerate(class_names)}

    def classes(name: str) -> np.ndarray:
        found = np.array([class_index.get(cell, -1) for cell in table.columns[name]])
        if (found < 0).any():
            row = int(found.argmin())
            cell, known = table.columns[name][row], ", ".join(class_names)
            raise table.error(row, f"{name} {cell!r} is not one of {known}")
        return found

    def numbers(name: str) -> np.ndarray:
        found = table.numbers(name)
        if np.isnan(found).any():
            raise table.error(int(np.isnan(found).argmax()), f"{name} is not a number")
        return found

    labels, predicted = (
        np.stack([numbers(f"{kind}{name}") for name in class_names], axis=1) > 0
        if f"{_LABEL}{class_names[0]}" in table.columns
        else classes(kind.rstrip("_"))
        for kind in (_LABEL, _PREDICTION)
    )
    return Predictions(
        class_names=class_names,
        names=list(table.columns["name"]),
        labels=labels,
        predicted=predicted,
        lengths=numbers("length").astype(np.int64),
        losses=numbers("loss"),
        probabilities=np.stack([numbers(name) for name in columns], axis=1),
    )


class TopLoss(NamedTuple):
    """One row of top_losses.csv: a test example with a high loss, and its text."""

    example: HighLossExample
    text: str


def read_top_losses(run_folder: Path) -> list[TopLoss]:
    """Return top_losses.csv, the highest loss first."""
    table = CsvTable(run_folder / TOP_LOSSES, (*HighLossExample._fields, "text"))
    names, labels, predictions = (table.columns[name] for name in HighLossExample._fields[:3])
    numbers = (table.numbers(name).tolist() for name in HighLossExample._fields[3:])
    columns = zip(names, labels, predictions, *numbers, strict=True)
    examples = [HighLossExample(*row) for row in columns]
    return [TopLoss(*row) for row in zip(examples, table.columns["text"], strict=True)]
