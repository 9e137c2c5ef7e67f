"""Metrics of a split: accuracy, F1, AUROC, calibration error and loss, over all its texts."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat

from rnn_lab.errors import ConfigError

MetricFactory = Callable[[int], Any]  # from the number of classes to a torchmetrics.Metric


class MacroAUROC(MulticlassAUROC):
    """Mean over classes of the area under the one-against-rest ROC curve; exact, no thresholds.

    A class that no text has, or that all have, has no such curve and is excluded: torchmetrics
    counts it as 0, worse than chance. If no class is left, the result is NaN.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]  # one number, not a curve
        """Return the mean area, a scalar."""
        labels = dim_zero_cat(self.target)
        counts = torch.bincount(labels, minlength=self.num_classes)
        with warnings.catch_warnings():  # about the classes that are excluded below
            warnings.simplefilter("ignore")
            areas = super().compute()  # [num_classes]
        return areas[(counts > 0) & (counts < len(labels))].mean()


class CalibrationError(MulticlassCalibrationError):
    """Expected calibration error (Guo et al. 2017, equation 3): 15 bins of the top probability."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, n_bins=15, norm="l1", validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add probabilities [batch, num_classes] and labels [batch]."""
        # A top probability of exactly 1 would get a sixteenth bin of its own.
        super().update(preds.clamp(max=1 - 2**-24), target)


def build_metrics(
    num_classes: int, prefix: str, extra: Mapping[str, MetricFactory] | None = None
) -> MetricCollection:
    """Build metrics named prefix + accuracy, f1, auroc, calibration_error, loss, and `extra`.

    They are updated with `update(preds=, target=, value=)`: probabilities [batch, num_classes]
    (not logits, which torchmetrics takes for probabilities if they happen to be in [0, 1]), labels
    [batch] and the loss of each text [batch]. Each metric gets those that its own update names.

    Each `extra` metric is built as factory(num_classes).

    Raises:
        ConfigError: an extra metric has a built-in name, or cannot be built.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
        "auroc": MacroAUROC(num_classes),
        "calibration_error": CalibrationError(num_classes),
        # By default NaN is left out of the mean: it would hide non-finite losses.
        "loss": MeanMetric(nan_strategy="disable"),
    }
    for name, factory in (extra or {}).items():
        if name in metrics or not name.isidentifier():
            raise ConfigError(
                f"metrics.{name}: a name beside {', '.join(metrics)}, of letters, digits and _"
            )
        try:
            metrics[name] = factory(num_classes)
        except Exception as error:  # the code of the user's module, or arguments it does not take
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"metrics.{name}: cannot be built: {reason}") from error
        if not isinstance(metrics[name], Metric):
            raise ConfigError(f"metrics.{name}: is not a torchmetrics.Metric")
    return MetricCollection(metrics, prefix=prefix)
