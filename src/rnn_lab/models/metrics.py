"""Metrics of a split over all its texts: accuracy, F1, loss and others that fit the task."""

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
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat

from rnn_lab.errors import ConfigError, whole_message
from rnn_lab.models.tasks import DEFAULT_THRESHOLD, TASKS, best_thresholds

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


class ExactMatch(MultilabelExactMatch):
    """Share of the texts whose labels are exactly those predicted (subset accuracy)."""

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add predictions and labels, each 0 or 1, [batch, classes]."""
        super().update(predicted, target)


class LabelF1(MultilabelF1Score):
    """F1 of labels that are predicted or not: the mean over labels, or of all labels together.

    As scikit-learn, a label that no text has and that is never predicted counts as 0.
    """

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add predictions and labels, each 0 or 1, [batch, classes]."""
        super().update(predicted, target)


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Mean over labels of the average precision; exact, without bins.

    A label that no text has is excluded: it has no recall. If none is left, the result is NaN.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]  # one number
        """Return the mean, a scalar."""
        has_texts = dim_zero_cat(self.target).any(dim=0)
        with warnings.catch_warnings():  # about the labels that are excluded below
            warnings.simplefilter("ignore")
            found = super().compute()  # [num_labels]
        return found[has_texts].mean()


class LabelThresholds(Metric):
    """The threshold of each label at which its F1 is highest, see `best_thresholds`."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add probabilities and labels, [batch, classes]."""
        self.preds.append(preds)  # type: ignore[union-attr, operator]
        self.target.append(target)  # type: ignore[union-attr, operator]

    def compute(self) -> Tensor:
        """Return the thresholds, float32 [classes]."""
        return best_thresholds(dim_zero_cat(self.preds), dim_zero_cat(self.target))  # type: ignore[arg-type]


def metric_inputs(
    probabilities: Tensor, labels: Tensor, losses: Tensor, thresholds: Tensor | None = None
) -> dict[str, Tensor]:
    """Return what metrics of `build_metrics` are updated with, for the results of one batch.

    Where a text has any number of labels, those are predicted whose probability is at least the
    threshold: `thresholds` [classes], or 0.5.
    """
    inputs = {"preds": probabilities, "target": labels, "value": losses}
    if labels.ndim == 2:
        least = DEFAULT_THRESHOLD if thresholds is None else thresholds
        inputs["predicted"] = (probabilities >= least).long()
    return inputs


def _metrics_of(task: str, num_classes: int) -> dict[str, Metric | MetricCollection]:
    # By default NaN is left out of the mean: it would hide non-finite losses.
    loss = MeanMetric(nan_strategy="disable")
    if TASKS[task].is_multilabel:
        return {
            "accuracy": ExactMatch(num_classes, validate_args=False),
            "f1": LabelF1(num_classes, average="macro", validate_args=False),
            "f1_micro": LabelF1(num_classes, average="micro", validate_args=False),
            "map": MeanAveragePrecision(num_classes),
            "loss": loss,
        }
    return {
        "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
        "auroc": MacroAUROC(num_classes),
        "calibration_error": CalibrationError(num_classes),
        "loss": loss,
    }


def build_calibration_metrics(
    num_classes: int, prefix: str, task: str = "multiclass"
) -> MetricCollection:
    """Build the metrics of `build_metrics` that a temperature is to improve.

    They are calibration_error and loss; of the task `multilabel` loss alone.
    """
    names = ("calibration_error", "loss")
    metrics = _metrics_of(task, num_classes)
    return MetricCollection({n: metrics[n] for n in names if n in metrics}, prefix=prefix)


def build_metrics(
    num_classes: int,
    prefix: str,
    extra: Mapping[str, MetricFactory] | None = None,
    task: str = "multiclass",
) -> MetricCollection:
    """Build metrics named prefix + accuracy, f1, auroc, calibration_error, loss, and `extra`.

    With the task `multilabel` they are accuracy (of exact matches), f1, f1_micro, map, loss.

    They are updated with `update(preds=, target=, value=)`, see `metric_inputs`: probabilities
    [batch, num_classes] (not logits, which torchmetrics takes for probabilities if they happen to
    be in [0, 1]), labels and the loss of each text [batch]. Each metric gets those that its own
    update names.

    Each `extra` metric is built as factory(num_classes).

    Raises:
        ConfigError: an extra metric has a built-in name, or cannot be built.
    """
    metrics = _metrics_of(task, num_classes)
    for name, factory in (extra or {}).items():
        if name in metrics:
            raise ConfigError(f"metrics.{name}: {name} is built in; choose another name")
        if not name.isidentifier():
            raise ConfigError(f"metrics.{name}: a name has only letters, digits and _")
        try:
            metrics[name] = factory(num_classes)
        except ConfigError:  # names the option already
            raise
        except Exception as error:  # the code of the user's module, or arguments it does not take
            message = f"metrics.{name}: cannot be built: {whole_message(error)}"
            raise ConfigError(message) from error
        if not isinstance(metrics[name], Metric):
            raise ConfigError(f"metrics.{name}: is not a torchmetrics.Metric")
    return MetricCollection(metrics, prefix=prefix)
