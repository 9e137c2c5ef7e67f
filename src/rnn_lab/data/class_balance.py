"""Uneven classes: weights of the training loss, and when macro F1 says more than accuracy."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rnn_lab.data.corpus import Corpus
from rnn_lab.data.options import TextOptions
from rnn_lab.errors import ConfigError, sanitize

UNEVEN = 3  # times as many training texts in the largest class as in the smallest one


def count_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of texts with each class, int64 [classes], of labels as in Split."""
    if labels.ndim == 2:
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(labels, minlength=classes)


def is_uneven(counts: np.ndarray) -> bool:
    """Return whether the largest class has more than `UNEVEN` times the texts of the smallest one.

    Args:
        counts: integers [classes], training texts; a class without any does not count.
    """
    present = counts[counts > 0]
    return bool(present.max() > UNEVEN * present.min())


def resolve_class_weights(
    option: Literal["balanced"] | Sequence[float] | None,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray | None:
    """Return the weight of each class in the training loss, float64 [classes]; None: all equal.

    `balanced` is texts / (classes * texts of the class), as scikit-learn's compute_class_weight, so
    that the mean weight of a training text is 1. A class without training texts has weight 0.

    Args:
        option: data.class_weights.
        labels: of the training texts, indices into `class_names`.
        class_names: in the order of the weights.

    Raises:
        ConfigError: there is not one weight for each class.
    """
    if option is None:
        return None
    if option == "balanced":
        counts = np.bincount(labels, minlength=len(class_names))
        present = counts > 0
        weights = np.zeros(len(class_names))
        weights[present] = len(labels) / (present.sum() * counts[present])
        return weights
    if len(option) != len(class_names):
        listed = sanitize(", ".join(class_names), longest=200)
        raise ConfigError(
            f"data.class_weights has {len(option)} weights for {len(class_names)} classes; "
            f"give one for each class, in this order: {listed}"
        )
    return np.array(option, dtype=np.float64)


def check_balance(config: TextOptions, corpus: Corpus, *, use_labels: bool) -> None:
    """Raise a ConfigError if the options balance classes where a text has not one label."""
    options = {
        "class_weights": config.class_weights is not None,
        "weighted_sampling": config.weighted_sampling,
    }
    option = next(filter(options.get, options), None)
    if option is not None and not use_labels:
        raise ConfigError(f"data.{option}: is for classes, and a language model has none")
    if option is not None and corpus.is_multilabel:
        raise ConfigError(
            f"data.{option}: is for one label a text, and the texts have any number of labels; "
            "their thresholds fit rare labels"
        )
