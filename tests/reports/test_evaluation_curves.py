"""Curves equal scikit-learn's, calibration equals torchmetrics', intervals the literature's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.classification import MulticlassCalibrationError

from rnn_lab.reports.evaluation_curves import (
    MACRO,
    class_curves,
    length_bins,
    make_curve,
    reliability,
    wilson_interval,
    without_temperature,
)
from rnn_lab.runs.predictions import Predictions, read_predictions

MakeRun = Callable[..., Path]


def predictions(labels: list[int], probabilities: np.ndarray) -> Predictions:
    count, classes = probabilities.shape
    return Predictions(
        class_names=tuple("abcdefgh"[:classes]),
        names=[str(i) for i in range(count)],
        labels=np.array(labels),
        predicted=probabilities.argmax(axis=1),
        lengths=np.ones(count, dtype=np.int64),
        losses=np.zeros(count),
        probabilities=probabilities,
    )


@pytest.mark.parametrize("levels", [3, 20, 10**9])  # few levels: many ties
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_curves_equal_scikit_learns(levels: int, share: float) -> None:
    random = np.random.default_rng(levels)
    positive = random.random(500) < share
    positive[:2] = [True, False]
    scores = np.round((random.random(500) + positive) / 2 * levels) / levels
    ours = make_curve("x", positive, scores)

    false_rate, true_rate, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(ours.false_positive_rate, false_rate, atol=1e-12)
    np.testing.assert_allclose(ours.true_positive_rate, true_rate, atol=1e-12)
    assert ours.auroc == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-12)

    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(ours.recall, recall[::-1], atol=1e-12)
    np.testing.assert_allclose(ours.precision[1:], precision[-2::-1], atol=1e-12)
    expected = metrics.average_precision_score(positive, scores)
    assert ours.average_precision == pytest.approx(expected, abs=1e-12)
    assert ours.base_rate == positive.mean()


def test_a_curve_counted_by_hand() -> None:
    """Scores 0.9 +, 0.8 -, 0.7 +, 0.7 -: equal scores are one step."""
    ours = make_curve("x", np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.7]))
    assert ours.false_positive_rate.tolist() == [0, 0, 0.5, 1]
    assert ours.true_positive_rate.tolist() == [0, 0.5, 0.5, 1]
    assert ours.precision.tolist() == [1, 1, 0.5, 0.5]
    assert ours.auroc == 0.625
    assert ours.average_precision == 0.75


def test_two_classes_give_the_curve_of_the_second(make_run: MakeRun) -> None:
    test = read_predictions(make_run(examples=300))
    (only,) = class_curves(test)
    assert only.name == "pos"
    assert only.auroc == pytest.approx(
        metrics.roc_auc_score(test.labels, test.probabilities[:, 1]), abs=1e-12
    )


def test_more_classes_give_one_each_and_their_macro_average(make_run: MakeRun) -> None:
    test = read_predictions(make_run(class_names=("a", "b", "c", "d"), examples=400))
    *classes, macro = class_curves(test)
    assert [one.name for one in classes] == ["a", "b", "c", "d"]
    assert macro.name == MACRO
    one_hot = np.eye(4)[test.labels]
    assert macro.auroc == pytest.approx(
        metrics.roc_auc_score(one_hot, test.probabilities, average="macro"), abs=1e-12
    )
    assert macro.average_precision == pytest.approx(
        metrics.average_precision_score(one_hot, test.probabilities, average="macro"), abs=1e-12
    )
    # The drawn averages enclose the areas that are printed beside them.
    area = np.trapezoid(macro.true_positive_rate, macro.false_positive_rate)
    assert area == pytest.approx(macro.auroc, abs=2e-3)
    area = np.sum(np.diff(macro.recall) * macro.precision[1:])
    assert area == pytest.approx(macro.average_precision, abs=2e-3)


def test_classes_without_a_curve_are_omitted() -> None:
    thirds = np.full((4, 3), 1 / 3)
    assert class_curves(predictions([0, 0, 0, 0], thirds)) == []
    assert class_curves(predictions([1], np.array([[0.2, 0.8]]))) == []
    *classes, macro = class_curves(predictions([0, 2, 0, 2], thirds))
    assert [one.name for one in classes] == ["a", "c"]
    assert macro.auroc == 0.5


def test_a_thinned_curve_keeps_its_ends_and_its_shape(make_run: MakeRun) -> None:
    (whole,) = class_curves(read_predictions(make_run(examples=3000)))
    thin = whole.thinned(200)
    assert len(whole.recall) > 1000
    for name in ("false_positive_rate", "true_positive_rate", "recall", "precision"):
        points, all_points = getattr(thin, name), getattr(whole, name)
        assert len(points) == 200
        assert (points[0], points[-1]) == (all_points[0], all_points[-1])
    area = np.trapezoid(thin.true_positive_rate, thin.false_positive_rate)
    assert area == pytest.approx(whole.auroc, abs=2e-3)
    np.testing.assert_array_equal(whole.thinned(10**6).recall, whole.recall)


def test_wilson_intervals_equal_published_ones() -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    low, high = wilson_interval(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    np.testing.assert_allclose(low, [0.2553, 0.0624, 0, 0.0061], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1605, 0.1611, 0.1718], atol=5e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_error_equals_torchmetrics(classes: int) -> None:
    random = np.random.default_rng(classes)
    probabilities = random.dirichlet(np.full(classes, 0.4), 2000)
    labels = random.integers(classes, size=2000)
    bins = reliability(predictions(labels.tolist(), probabilities))
    theirs = MulticlassCalibrationError(classes, n_bins=15, norm="l1")
    expected = theirs(torch.from_numpy(probabilities), torch.from_numpy(labels))
    assert bins.error == pytest.approx(float(expected), abs=1e-5)
    assert bins.counts.sum() == 2000
    assert bins.hits.sum() == (probabilities.argmax(axis=1) == labels).sum()
    assert ((bins.starts <= bins.confidence) & (bins.confidence <= bins.starts + 1 / 15)).all()


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.5])
def test_the_probabilities_before_calibration_are_those_of_the_logits(temperature: float) -> None:
    logits = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)) * 3
    calibrated = (logits / temperature).softmax(dim=1).double().numpy()  # float32, as in the file
    found = without_temperature(predictions([0] * 300, calibrated), temperature).probabilities
    np.testing.assert_allclose(found, logits.double().softmax(dim=1).numpy(), atol=1e-6)
    certain = without_temperature(predictions([0], np.array([[1.0, 0.0]])), 1e308).probabilities
    assert certain.tolist() == [[1.0, 0.0]]


def test_probability_one_is_in_the_last_bin() -> None:
    bins = reliability(predictions([0, 1], np.array([[1.0, 0.0], [1.0, 0.0]])))
    assert (bins.counts.tolist(), bins.hits.tolist(), bins.error) == ([2], [1], 0.5)


def test_length_bins_have_equal_counts_and_keep_equal_lengths_together() -> None:
    greatest, position = length_bins(np.arange(1, 1001))
    assert greatest.tolist() == list(range(100, 1001, 100))
    assert np.bincount(position).tolist() == [100] * 10

    cut = np.minimum(np.arange(1, 1001), 400)  # most texts truncated to 400 tokens
    greatest, position = length_bins(cut)
    assert greatest.tolist() == [100, 200, 300, 400]
    assert np.bincount(position).tolist() == [100, 100, 100, 700]

    for lengths in ([7], [7, 7, 7], [1, 2, 3]):
        greatest, position = length_bins(np.array(lengths))
        assert greatest.tolist() == sorted(set(lengths))
        assert greatest[position].tolist() == lengths
