"""What a table of predictions shows beyond one figure: ranking, calibration, certainty."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rnn_lab.reports.run_files import Predictions, read_predictions

MACRO = "macro average"


@dataclass(frozen=True)
class Curve:
    """One class against the rest, from the strictest threshold to the loosest.

    Fawcett, "An introduction to ROC analysis", 2006; ties in score are one step. All arrays are
    float64 [thresholds + 1] and start before the first review is accepted.
    """

    name: str  # the class taken as positive, or MACRO
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray  # precision[i] holds on (recall[i - 1], recall[i]]
    auroc: float
    average_precision: float
    base_rate: float  # share of positives: the precision of a coin

    def thinned(self, max_points: int) -> "Curve":
        """Return the curve with at most `max_points` points, both ends kept."""

        def pick(points: np.ndarray) -> np.ndarray:
            keep = np.linspace(0, len(points) - 1, min(max_points, len(points)))
            return points[keep.round().astype(int)]

        return replace(
            self,
            false_positive_rate=pick(self.false_positive_rate),
            true_positive_rate=pick(self.true_positive_rate),
            recall=pick(self.recall),
            precision=pick(self.precision),
        )


def load_curves(run_folder: Path) -> list[Curve]:
    """Return the ROC and precision-recall curves of a run's test split.

    Two classes give one curve, of the second class; more give one a class and then their macro
    average. A class that no test review has, or that all have, has no curve.
    """
    return class_curves(read_predictions(run_folder))


def class_curves(predictions: Predictions) -> list[Curve]:
    """Return the curves of `load_curves` from predictions already read."""
    names = predictions.class_names
    curves = []
    for index in [1] if len(names) == 2 else range(len(names)):
        positive = predictions.labels == index
        if positive.any() and not positive.all():
            curves.append(curve(names[index], positive, predictions.probabilities[:, index]))
    return [*curves, _macro_average(curves)] if len(names) > 2 and curves else curves


def curve(name: str, positive: np.ndarray, scores: np.ndarray) -> Curve:
    """Return the curve of `scores` float [reviews] for `positive` bool [reviews], both kinds in."""
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
    """Average the classes at equal false-positive rate, and at equal recall, each counting once."""
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
    """How often the model is right when it is so sure; one entry for each bin with reviews in it.

    Guo et al., "On Calibration of Modern Neural Networks", 2017: the probability of the predicted
    class, in bins of equal width, and their expected calibration error (equation 3).
    """

    width: float  # of every bin
    starts: np.ndarray  # least probability of each bin
    confidence: np.ndarray  # mean probability of the predicted class
    hits: np.ndarray  # int64, reviews classified as labelled
    counts: np.ndarray  # int64, reviews
    error: float


def reliability(predictions: Predictions, bins: int = 15) -> Reliability:
    """Return the reliability diagram of `predictions`, in `bins` bins."""
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
    """Cut `lengths` int [reviews] into at most `bins` bins of about as many reviews each.

    Returns the greatest length of each bin [bins], and the bin of each review [reviews]. Reviews
    of one length stay together, so the bins are fewer or uneven where many are cut to one length.
    """
    ends = -(np.arange(1, bins + 1) * len(lengths) // -bins)  # rounded up
    greatest = np.unique(np.sort(lengths)[ends - 1])
    return greatest, np.searchsorted(greatest, lengths)
