"""Compute ROC, precision-recall and calibration curves, and length bins, from predictions."""

from dataclasses import dataclass, replace

import numpy as np

from rnn_lab.iteration import pick_evenly
from rnn_lab.runs.predictions import Predictions

MACRO = "macro average"
# Plots for one label a text: of one row and one column, and of the probability of one class.
NOT_MULTILABEL = ("confusion_matrix", "calibration")


@dataclass(frozen=True)
class Curve:
    """The ROC and precision-recall curves of one class against the rest.

    Fawcett, "An introduction to ROC analysis", 2006; equal scores are one step. All arrays are
    float64 [thresholds + 1], from the highest threshold to the lowest, and start where no example
    is accepted yet.
    """

    name: str  # the class taken as positive, or MACRO
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray  # precision[i] holds on (recall[i - 1], recall[i]]
    auroc: float
    average_precision: float
    base_rate: float  # share of positives: the precision of random guesses

    def thinned(self, max_points: int) -> "Curve":
        """Return the curve with at most `max_points` points, both ends included."""

        def pick(points: np.ndarray) -> np.ndarray:
            return points[pick_evenly(len(points), max_points)]

        rates = pick(self.false_positive_rate), pick(self.true_positive_rate)
        areas = self.auroc, self.average_precision, self.base_rate
        return Curve(self.name, *rates, pick(self.recall), pick(self.precision), *areas)


def class_curves(predictions: Predictions) -> list[Curve]:
    """Return the ROC and precision-recall curves of a test split.

    With two classes that is one curve, of the second class. With more, or where a text has any
    number of labels, it is one per class, then their macro average. A class that no test example
    has, or that all have, has no curve.
    """
    names = predictions.class_names
    curves = []
    is_binary = len(names) == 2 and not predictions.is_multilabel
    for index in [1] if is_binary else range(len(names)):
        positive = predictions.labels == index
        if predictions.is_multilabel:
            positive = predictions.labels[:, index]
        if positive.any() and not positive.all():
            curves.append(make_curve(names[index], positive, predictions.probabilities[:, index]))
    return [*curves, _macro_average(curves)] if curves and not is_binary else curves


def make_curve(name: str, positive: np.ndarray, scores: np.ndarray) -> Curve:
    """Return the curve of `scores` float [examples] for `positive` bool [examples].

    `positive` needs at least one True and one False.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[ends]
    accepted = ends + 1
    recall = np.append(0.0, hits / hits[-1])
    precision = hits / accepted
    false_positive_rate = np.append(0.0, (accepted - hits) / (len(scores) - hits[-1]))
    return Curve(
        name,
        false_positive_rate,
        recall,
        recall,
        np.append(precision[0], precision),
        float(np.trapezoid(recall, false_positive_rate)),
        float(np.sum(np.diff(recall) * precision)),
        float(positive.mean()),
    )


def _macro_average(curves: list[Curve]) -> Curve:
    """Average the curves at equal false-positive rate, and at equal recall, without weights."""
    grid = np.linspace(0, 1, 1001)
    rises = [np.interp(grid, c.false_positive_rate, c.true_positive_rate) for c in curves]
    precisions = [c.precision[np.searchsorted(c.recall, grid)] for c in curves]
    return Curve(
        MACRO,
        np.append(0.0, grid),
        np.append(0.0, np.mean(rises, axis=0)),
        grid,
        np.mean(precisions, axis=0),
        float(np.mean([c.auroc for c in curves])),
        float(np.mean([c.average_precision for c in curves])),
        float(np.mean([c.base_rate for c in curves])),
    )


def wilson_interval(hits: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % score interval of each proportion hits / counts (Wilson, 1927)."""
    z = 1.959963984540054
    share = hits / counts
    centre = (share + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(share * (1 - share) / counts + (z / (2 * counts)) ** 2)
    return centre - half, centre + half


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: accuracy by confidence, one entry per bin that has examples.

    Guo et al., "On Calibration of Modern Neural Networks", 2017: confidence is the probability of
    the predicted class, in bins of equal width; `error` is the expected calibration error
    (equation 3).
    """

    width: float  # of every bin
    starts: np.ndarray  # lower bound of each bin
    confidence: np.ndarray  # mean confidence in each bin
    hits: np.ndarray  # int64, correct predictions
    counts: np.ndarray  # int64, examples
    error: float


def without_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Return predictions of one label a text with the probabilities before their calibration.

    Those after it are softmax(z / T), so those before it are proportional to their T-th power.
    """
    with np.errstate(divide="ignore"):  # of a probability that is rounded to 0
        logs = np.log(predictions.probabilities)
    powers = np.exp((logs - logs.max(axis=1, keepdims=True)) * temperature)
    return replace(predictions, probabilities=powers / powers.sum(axis=1, keepdims=True))


def reliability(predictions: Predictions, bins: int = 15) -> Reliability:
    """Return the reliability diagram of `predictions` with `bins` bins."""
    confidence = predictions.probabilities.max(axis=1)
    position = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(position, minlength=bins)
    filled = np.flatnonzero(counts)
    sums = np.bincount(position, confidence, minlength=bins)[filled]
    hits = np.bincount(position, predictions.correct, minlength=bins)[filled]
    counts = counts[filled]
    error = float(np.abs(hits - sums).sum() / counts.sum())
    return Reliability(1 / bins, filled / bins, sums / counts, hits.astype(np.int64), counts, error)


def length_bins(lengths: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Split `lengths` int [examples] into at most `bins` bins of about equal counts.

    Returns the greatest length of each bin [bins], and the bin of each example [examples]. Examples
    of one length share a bin, so bins are fewer or uneven if many are truncated to one length.
    """
    ends = -(np.arange(1, bins + 1) * len(lengths) // -bins)  # rounded up
    greatest = np.unique(np.sort(lengths)[ends - 1])
    return greatest, np.searchsorted(greatest, lengths)
