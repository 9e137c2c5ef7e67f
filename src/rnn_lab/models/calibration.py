"""Temperature scaling: one number with which the probabilities of a network are calibrated.

Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2: logits are divided by a
temperature T > 0, the one with which the negative log-likelihood of the validation split is lowest.
The order of the classes does not change, and so no prediction does.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from rnn_lab.models.tasks import TaskFunctions

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_EXAMPLES = 100  # fewer say too little about probabilities
_MAX_STEPS = 100  # Newton's method takes about six
_MAX_NUMBERS = 2**20  # that are float64 at the same time: 8 MiB


class ValidationLogits(Metric):
    """The logits and labels of a split, from all processes, to fit a temperature to."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [batch, classes] and labels [batch], or [batch, classes]."""
        self.logits.append(logits)  # type: ignore[union-attr, operator]
        self.labels.append(labels)  # type: ignore[union-attr, operator]

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return both."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.labels)  # type: ignore[arg-type]


def calibrate(
    task: TaskFunctions, logits: Tensor, labels: Tensor, thresholds: Tensor | None = None
) -> tuple[float, Tensor | None]:
    """Return the temperature for a validation split, and the thresholds that go with it.

    The temperature is 1.0, and `thresholds` stay, where `fit_temperature` finds none, or where
    rounding to float32 would change the prediction for a text of the split.

    Args:
        task: of the network.
        logits: float [texts, classes].
        labels: int64 [texts]; or 0 and 1, [texts, classes], with any number of labels a text.
        thresholds: in the latter case those of uncalibrated probabilities, [classes].
    """
    temperature = fit_temperature(logits, labels)
    scaled = None if thresholds is None else scale_thresholds(thresholds, temperature)
    before = _decisions(task.probabilities(logits), thresholds)
    after = _decisions(task.probabilities(logits / temperature), scaled)
    return (temperature, scaled) if torch.equal(before, after) else (1.0, thresholds)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature with the lowest negative log-likelihood, a float32 number.

    The likelihood is log-concave in 1 / T, so there is one optimum, which Newton's method finds
    in float64. It is 1.0 where the optimum is not between MIN_TEMPERATURE and MAX_TEMPERATURE: the
    likelihood of labels that are all predicted right has none, it grows as T approaches 0. It is
    1.0 for fewer than MIN_EXAMPLES texts, too.

    Args:
        logits: float [texts, classes].
        labels: int64 [texts]; or 0 and 1, [texts, classes], with any number of labels a text.
    """
    if len(logits) < MIN_EXAMPLES:
        return 1.0
    logits, labels = logits.cpu(), labels.cpu()  # not every device has float64
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE  # the optimal 1 / T is between them
    if not _derivatives(logits, labels, low)[0] < 0 < _derivatives(logits, labels, high)[0]:
        return 1.0
    inverse = 1.0
    for _ in range(_MAX_STEPS):
        slope, curvature = _derivatives(logits, labels, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = slope / curvature if curvature > 0 else 0.0
        before, inverse = inverse, inverse - step
        if not low < inverse < high:
            inverse = (low + high) / 2
        if abs(inverse - before) <= 1e-12 * inverse:
            break
    return torch.tensor(1 / inverse, dtype=torch.float32).item()


def scale_thresholds(thresholds: Tensor, temperature: float) -> Tensor:
    """Return the thresholds that predict the same labels of sigmoid(z / T) as those of sigmoid(z).

    Args:
        thresholds: float32 [classes], of sigmoid(z).
        temperature: T.
    """
    if temperature == 1.0:
        return thresholds
    scaled = (thresholds.cpu().double().logit() / temperature).sigmoid()
    return scaled.to(thresholds.device, thresholds.dtype)


def _derivatives(logits: Tensor, labels: Tensor, inverse: float) -> tuple[float, float]:
    """Return the first two derivatives of the negative log-likelihood by 1 / T, at `inverse`."""
    rows = max(1, _MAX_NUMBERS // logits.shape[1])
    slope = curvature = 0.0
    for part, truth in zip(logits.split(rows), labels.split(rows), strict=True):
        z, y = part.double(), truth
        if y.ndim == 2:  # each label is a choice between two classes, whose logits are 0 and z
            z, y = torch.stack([torch.zeros_like(z), z], dim=-1).view(-1, 2), y.reshape(-1)
        # From the true class: then no rounding hides that every text is predicted right.
        margins = z - z.gather(1, y[:, None].long())
        probabilities = (inverse * margins).softmax(dim=1)
        means = (probabilities * margins).sum(dim=1)
        slope += means.sum().item()
        curvature += (probabilities * (margins - means[:, None]).square()).sum().item()
    return slope, curvature


def _decisions(probabilities: Tensor, thresholds: Tensor | None) -> Tensor:
    return probabilities.argmax(dim=1) if thresholds is None else probabilities >= thresholds
