"""predictions.csv: the test split as a model saw it, one row a review."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnn_lab.io.atomic import atomic_write


def write_predictions(
    path: Path,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    labels: np.ndarray,
    lengths: np.ndarray,
    losses: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Write one row a review, in the order given; classes stand under their names.

    Args:
        path: the file, whole or absent.
        class_names: of the model's classes, in their order.
        names: [reviews], where each review came from.
        labels: integers [reviews], an index into `class_names`.
        lengths: integers [reviews], tokens.
        losses: float [reviews], cross-entropy in nats.
        probabilities: float [reviews, classes], written with the digits that read back the same.
    """
    predicted = probabilities.argmax(axis=1)
    columns = ["name", "label", "prediction", "length", "loss"]
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns + [f"probability_{name}" for name in class_names])
        for i, name in enumerate(names):
            label, prediction = class_names[labels[i]], class_names[predicted[i]]
            numbers = [str(number) for number in (lengths[i], losses[i], *probabilities[i])]
            writer.writerow([name, label, prediction, *numbers])
