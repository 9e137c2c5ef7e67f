"""What a split is judged by: accuracy, F1, AUROC, calibration and loss, over all its reviews."""

import warnings

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat


class MacroAUROC(MulticlassAUROC):
    """Mean over classes of the area under the one-against-rest ROC curve; exact, no thresholds.

    A class that none of the reviews has, or all of them have, has no such curve, and is left out:
    torchmetrics counts it as 0, which reads as a ranking worse than chance. With no class left,
    NaN. With two classes both areas are the binary AUROC.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]  # one number, not a curve
        """The mean area, a scalar."""
        labels = dim_zero_cat(self.target)
        counts = torch.bincount(labels, minlength=self.num_classes)
        with warnings.catch_warnings():  # of the classes that are left out below
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


def build_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """Metrics named prefix + accuracy, f1, auroc, calibration_error, loss.

    They are updated with `update(preds=, target=, value=)`: probabilities [batch, num_classes]
    (not logits, which torchmetrics takes for probabilities where they happen to lie in [0, 1]),
    labels [batch] and the loss of each review [batch].
    """
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
            "auroc": MacroAUROC(num_classes),
            "calibration_error": CalibrationError(num_classes),
            # By default the mean is over those losses that are numbers: it would hide the others.
            "loss": MeanMetric(nan_strategy="disable"),
        },
        prefix=prefix,
    )
