"""Precision, recall, F1 and support of each class."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np


class ClassMetrics(TypedDict):
    """The metrics of one class."""

    precision: float  # of the texts with this prediction, the share with this label; 0 without any
    recall: float  # of the texts with this label, the share with this prediction; 0 without any
    f1: float  # the harmonic mean of both
    support: int  # texts with this label


def class_metrics(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> dict[str, ClassMetrics]:
    """Return the metrics of each class by its name, as scikit-learn's classification_report.

    Args:
        labels: integers [examples], indices into `class_names`; or, where a text has any number of
            labels, 0 and 1 [examples, classes].
        predicted: the same.
        class_names: of all classes, in their order.
    """
    size = len(class_names)
    if labels.ndim == 2:
        parts = labels > 0, predicted > 0, (labels > 0) & (predicted > 0)
        support, guesses, hits = (part.sum(axis=0) for part in parts)
    else:
        support, guesses, hits = (
            np.bincount(indices, minlength=size)
            for indices in (labels, predicted, labels[labels == predicted])
        )

    def ratio(part: np.ndarray, whole: np.ndarray) -> list[float]:
        shares: list[float] = (part / np.maximum(whole, 1)).tolist()  # 0 / 0 is 0
        return shares

    columns = ratio(hits, guesses), ratio(hits, support), ratio(2 * hits, guesses + support)
    rows = zip(class_names, *columns, support.tolist(), strict=True)
    return {
        name: {"precision": precision, "recall": recall, "f1": f1, "support": count}
        for name, precision, recall, f1, count in rows
    }
