"""The predictions for the examples of a test split, and the files that they are written to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.class_metrics import ClassMetrics, class_metrics
from rnn_lab.runs.csv_table import csv_writer
from rnn_lab.runs.predictions import (
    MAX_TOP_LOSSES,
    TOP_LOSSES,
    HighLossExample,
    format_labels,
    probability_of,
)
from rnn_lab.training.data_report import warn_never_predicted

_MOST_CLASSES = 1_000  # with metrics of their own in result.json, which is read whole


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """The examples of a split, in one order, with what a model predicts for each."""

    class_names: Sequence[str]
    names: Sequence[str]  # [examples], where each came from
    texts: Sequence[str]  # [examples], of which few are read
    # [examples], indices into `class_names`; or, where a text has any number of labels, 0 and 1
    # [examples, classes].
    labels: np.ndarray
    lengths: np.ndarray  # [examples], tokens
    losses: np.ndarray  # [examples], (binary) cross-entropy in nats
    probabilities: np.ndarray  # [examples, classes]
    thresholds: np.ndarray | None = None  # [classes], where a text has any number of labels

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class, int64 [examples].

        With `thresholds`, whether each label is predicted, bool [examples, classes].
        """
        if self.thresholds is None:
            return self.probabilities.argmax(axis=1)
        return self.probabilities >= self.thresholds

    def write(self, folder: Path) -> dict[str, ClassMetrics]:
        """Write predictions.csv, top_losses.csv and per_class.csv into `folder`.

        A class of the split that is never predicted gives a warning.

        Returns:
            The metrics by class for result.json, or {} where there are too many classes for it.
        """
        self._write_predictions(folder / "predictions.csv")
        self._write_top_losses(folder / TOP_LOSSES)
        per_class = class_metrics(self.labels, self.predicted, self.class_names)
        _write_class_metrics(folder / "per_class.csv", per_class)
        warn_never_predicted(self.labels, self.predicted, self.class_names)
        return per_class if len(per_class) <= _MOST_CLASSES else {}

    def _write_predictions(self, path: Path) -> None:
        """Write one row for each example, in their order.

        Losses and probabilities have as many digits as read back the same. With `thresholds`,
        columns label_<class> and prediction_<class> of 0 and 1 are in place of `label` and
        `prediction`.
        """
        columns = ["name", "label", "prediction", "length", "loss"]
        if self.thresholds is None:
            pairs = zip(self.labels, self.predicted, strict=True)
            cells = [(self.class_names[a], self.class_names[b]) for a, b in pairs]
        else:
            kinds = ("label", "prediction")
            columns[1:3] = [f"{kind}_{name}" for kind in kinds for name in self.class_names]
            cells = np.hstack([self.labels, self.predicted]).astype(int).tolist()
        with atomic_write(path, newline="") as file:
            writer = csv_writer(file)
            writer.writerow(columns + [f"probability_{name}" for name in self.class_names])
            for i, name in enumerate(self.names):
                numbers = self.lengths[i], self.losses[i], *self.probabilities[i]
                writer.writerow([name, *cells[i], *map(str, numbers)])

    def _write_top_losses(self, path: Path) -> None:
        """Write the examples with the highest loss and their texts, the highest first."""
        rows = np.argsort(-self.losses, kind="stable")[:MAX_TOP_LOSSES]
        labels, predicted = self.labels[rows], self.predicted[rows]
        columns = (format_labels(which, self.class_names) for which in (labels, predicted))
        chosen = probability_of(predicted, self.probabilities[rows])
        with atomic_write(path, newline="") as file:
            writer = csv_writer(file)
            writer.writerow([*HighLossExample._fields, "text"])
            for i, label, prediction, probability in zip(rows, *columns, chosen, strict=True):
                numbers = str(probability), str(self.losses[i])
                writer.writerow([self.names[i], label, prediction, *numbers, self.texts[i]])


def _write_class_metrics(path: Path, per_class: dict[str, ClassMetrics]) -> None:
    with atomic_write(path, newline="") as file:
        writer = csv_writer(file)
        writer.writerow(["class", *ClassMetrics.__annotations__])
        writer.writerows([name, *metrics.values()] for name, metrics in per_class.items())
