"""Evaluate a classifier: the metrics of a split, and the result of each of its texts.

`trainer.test` and `rnn-lab eval` test with the same code: for the same batches, with the same bits.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torchmetrics import MetricCollection

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.metrics import (
    MetricFactory,
    build_calibration_metrics,
    build_metrics,
    metric_inputs,
)
from rnn_lab.models.tasks import TaskFunctions

if TYPE_CHECKING:
    from rnn_lab.data.batches import Batch


class CalibratedMetrics(nn.Module):
    """The test/ metrics of calibrated probabilities, and those that calibration is to improve."""

    def __init__(
        self, num_classes: int, task: str, extra: Mapping[str, MetricFactory] | None = None
    ) -> None:
        """Build the metrics of `build_metrics`, to which `extra` adds."""
        super().__init__()
        self.calibrated = build_metrics(num_classes, "test/", extra, task)
        self.uncalibrated = build_calibration_metrics(num_classes, "test/", task)

    def update(
        self, classifier: RecurrentClassifier, logits: Tensor, batch: "Batch"
    ) -> dict[str, Tensor]:
        """Add the logits [batch, num_classes] of a batch; return its calibrated results.

        They are those of `update_metrics`, with the temperature and thresholds of `classifier`.
        """
        update_metrics(self.uncalibrated, classifier.task, logits, batch)
        calibrated = classifier.calibrated(logits)
        return update_metrics(
            self.calibrated, classifier.task, calibrated, batch, classifier.thresholds
        )


def update_metrics(
    metrics: MetricCollection,
    task: TaskFunctions,
    logits: Tensor,
    batch: "Batch",
    thresholds: Tensor | None = None,
) -> dict[str, Tensor]:
    """Add a batch to metrics of `build_metrics`, and return its results by text.

    Args:
        metrics: are updated.
        task: of the classifier.
        logits: [batch, num_classes].
        batch: the texts, on the device of the metrics.
        thresholds: see `metric_inputs`.

    Returns:
        indices [batch], labels [batch, ...], probabilities [batch, num_classes] and loss [batch].
    """
    probabilities = task.probabilities(logits)
    losses = task.losses(logits, batch.labels)
    metrics.update(**metric_inputs(probabilities, batch.labels, losses, thresholds))
    of_batch = {"indices": batch.indices, "labels": batch.labels}
    return of_batch | {"probabilities": probabilities, "loss": losses}


def to_numbers(metrics: MetricCollection) -> dict[str, float]:
    """Return the metrics as numbers by name."""
    return {name: float(value) for name, value in metrics.compute().items()}


def in_split_order(batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join results of batches, each [batch, ...], in the order of the split: by `indices`."""
    found = list(batches)
    joined = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    order = np.argsort(joined["indices"])
    return {name: values[order] for name, values in joined.items()}
