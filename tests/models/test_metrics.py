"""Every metric against scikit-learn, or worked out by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    roc_auc_score,
)
from torchmetrics import Metric
from torchmetrics.classification import MulticlassMatthewsCorrCoef

from rnn_lab.errors import ConfigError
from rnn_lab.models.language_module import LanguageModel
from rnn_lab.models.metric_table import (
    LANGUAGE_MODEL,
    MULTICLASS,
    MULTILABEL,
    metric_mode,
    metrics_of,
)
from rnn_lab.models.metrics import LabelThresholds, build_metrics, metric_inputs
from rnn_lab.models.tasks import best_thresholds
from rnn_lab.validation import metric_factories


def evaluate(probabilities: torch.Tensor, labels: torch.Tensor, batch_sizes: list[int]) -> dict:
    metrics = build_metrics(probabilities.shape[1], prefix="val/")
    losses = torch.nn.functional.nll_loss(probabilities.log(), labels, reduction="none")
    for preds, target, value in zip(
        probabilities.split(batch_sizes),
        labels.split(batch_sizes),
        losses.split(batch_sizes),
        strict=True,
    ):
        metrics.update(preds=preds, target=target, value=value)
    return {name: float(value) for name, value in metrics.compute().items()}


def random_case(num_classes: int, reviews: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.randint(0, num_classes, (reviews,), generator=generator)
    logits = torch.randn(reviews, num_classes, generator=generator)
    logits[torch.arange(reviews), labels] += 0.7
    return logits.softmax(dim=1), labels


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL, LANGUAGE_MODEL])
def test_the_table_has_every_built_in_metric_and_which_values_are_better(task):
    if task == LANGUAGE_MODEL:
        found = LanguageModel({"name": "gru"}, 10, {}, {}).val_metrics
    else:
        found = build_metrics(3, "val/", task=task)
    assert set(found) == {f"val/{metric.name}" for metric in metrics_of(task)}
    for name, metric in found.items():
        if metric.higher_is_better is not None:  # not of a loss
            assert metric_mode(name) == ("max" if metric.higher_is_better else "min"), name


def test_the_mode_of_a_metric_of_ones_own_follows_from_its_name():
    own = ("val/error_rate", "val/my_loss", "val/my_error", "val/kappa")
    assert [metric_mode(name) for name in own] == ["max", "min", "min", "max"]
    assert metric_mode("val/loss") == metric_mode("test/perplexity") == "min"
    assert metric_mode("val/loss", "max") == "max"


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_equal_scikit_learn_whatever_the_batches(num_classes):
    probabilities, labels = random_case(num_classes)
    chosen = probabilities.argmax(1)
    scores = probabilities[:, 1] if num_classes == 2 else probabilities
    expected = {
        "val/accuracy": accuracy_score(labels, chosen),
        "val/f1": f1_score(labels, chosen, average="macro"),
        "val/auroc": roc_auc_score(labels, scores, multi_class="ovr", average="macro"),
        "val/loss": -np.log(probabilities.numpy()[range(len(labels)), labels]).mean(),
    }
    for batch_sizes in ([200], [64, 64, 64, 8], [1, 199]):
        found = evaluate(probabilities, labels, batch_sizes)
        assert found.keys() == expected.keys() | {"val/calibration_error"}
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), name


def test_calibration_error_by_hand():
    # Bins are 1/15 wide. 0.70 and 0.72 share the eleventh (0.667 to 0.733), one of two right;
    # 0.90 stands alone in the fourteenth (0.867 to 0.933), wrong; 1.0 in the last, right.
    first = torch.tensor([0.70, 0.72, 0.90, 1.0])
    labels = torch.tensor([0, 1, 1, 0])
    expected = (2 * abs(0.5 - 0.71) + abs(0 - 0.9) + abs(1 - 1.0)) / 4
    found = evaluate(torch.stack([first, 1 - first], dim=1), labels, [4])
    assert found["val/calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_calibration_error_has_fifteen_bins_up_to_certainty():
    # 0.95 and 1.0 share the last bin: 0.975 expected, half of them right. Apart: 0.525.
    first = torch.tensor([0.95, 1.0])
    found = evaluate(torch.stack([first, 1 - first], dim=1), torch.tensor([0, 1]), [2])
    assert found["val/calibration_error"] == pytest.approx(0.475, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_calibration_error_equals_a_loop_over_bins(num_classes):
    probabilities, labels = random_case(num_classes, reviews=500)
    confidence, chosen = (part.numpy() for part in probabilities.max(1))
    right = chosen == labels.numpy()
    expected = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            expected += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    found = evaluate(probabilities, labels, [250, 250])
    assert found["val/calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_auroc_leaves_out_a_class_that_no_review_has():
    probabilities, labels = random_case(4)
    labels[labels == 2] = 0
    present = [0, 1, 3]
    expected = np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in present])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a rare class is no news at every epoch
        found = evaluate(probabilities, labels, [200])
    assert found["val/auroc"] == pytest.approx(expected, abs=1e-6)


def test_auroc_of_a_single_class_is_not_a_number():
    probabilities, _ = random_case(2)
    found = evaluate(probabilities, torch.ones(200, dtype=torch.int64), [200])
    assert math.isnan(found["val/auroc"])
    assert found["val/accuracy"] == pytest.approx(float((probabilities[:, 1] > 0.5).float().mean()))


def test_metrics_start_empty_after_a_reset():
    probabilities, labels = random_case(3)
    metrics = build_metrics(3, prefix="")
    metrics.update(preds=probabilities, target=labels, value=torch.ones(200))
    metrics.compute()
    metrics.reset()
    metrics.update(preds=torch.eye(3), target=torch.arange(3), value=torch.zeros(3))
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values == pytest.approx(
        {"accuracy": 1, "f1": 1, "auroc": 1, "calibration_error": 0, "loss": 0}, abs=1e-6
    )


def test_extra_metrics_stand_beside_the_others():
    probabilities, labels = random_case(3)
    extra = {"matthews": MulticlassMatthewsCorrCoef}
    metrics = build_metrics(3, "val/", extra)
    metrics.update(preds=probabilities, target=labels, value=torch.ones(200))
    found = {name: float(value) for name, value in metrics.compute().items()}
    plain = evaluate(probabilities, labels, [200])
    assert found.keys() == plain.keys() | {"val/matthews"}
    expected = matthews_corrcoef(labels, probabilities.argmax(1))
    assert found["val/matthews"] == pytest.approx(expected, abs=1e-6)
    assert found["val/accuracy"] == plain["val/accuracy"]


def test_impossible_extra_metrics_are_one_line():
    def broken(num_classes: int) -> Metric:
        raise TypeError("no such argument: averge")

    for extra, message in (
        (
            {"accuracy": MulticlassMatthewsCorrCoef},
            "^metrics.accuracy: accuracy is built in; choose another name$",
        ),
        ({"my-own": broken}, "^metrics.my-own: a name has only letters, digits and _$"),
        (
            metric_factories({"own": {"_target_": "torchmetrics.MeanMetrik"}}),
            "^metrics.own: torchmetrics.MeanMetrik cannot be built: torchmetrics has no MeanMetrik"
            r"\. Did you mean MeanMetric\?$",
        ),
        (
            metric_factories({"own": {"_target_": "my_nowhere.Nope"}}),
            "^metrics.own: my_nowhere.Nope cannot be built: No module named 'my_nowhere'$",
        ),
        (
            metric_factories({"own": {"_target_": "torchmetrics.MeanMetric", "averge": 1}}),
            "^metrics.own: torchmetrics.MeanMetric cannot be built: .*`averge`",
        ),
        ({"broken": broken}, "metrics.broken: cannot be built: no such argument: averge"),
        ({"none": lambda num_classes: None}, "metrics.none: is not a torchmetrics.Metric"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            build_metrics(2, "val/", extra)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_sizes", [[200], [64, 64, 64, 8]])
def test_metrics_of_several_labels_equal_scikit_learn(batch_sizes):
    rng = torch.Generator().manual_seed(1)
    labels = (torch.rand(200, 4, generator=rng) < torch.tensor([0.5, 0.3, 0.1, 0.0])).long()
    scores = (torch.randn(200, 4, generator=rng) + labels).sigmoid()
    thresholds = torch.tensor([0.5, 0.6, 0.7, 0.999])
    losses = torch.rand(200, generator=rng)
    for used in (None, thresholds):
        metrics = build_metrics(4, "val/", task="multilabel")
        parts = (part.split(batch_sizes) for part in (scores, labels, losses))
        for batch in zip(*parts, strict=True):
            metrics.update(**metric_inputs(*batch, used))
        chosen = scores >= (0.5 if used is None else used)
        with_texts = labels[:, :3]  # no text has the last one: it has no recall
        expected = {
            "val/accuracy": accuracy_score(labels, chosen),
            "val/f1": f1_score(labels, chosen, average="macro", zero_division=0),
            "val/f1_micro": f1_score(labels, chosen, average="micro"),
            "val/map": average_precision_score(with_texts, scores[:, :3], average="macro"),
            "val/loss": losses.mean().item(),
        }
        found = {name: float(value) for name, value in metrics.compute().items()}
        assert found == pytest.approx(expected, abs=1e-6)


def test_thresholds_do_not_depend_on_the_batches():
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (30, 3), generator=rng)
    scores = torch.rand(30, 3, generator=rng)
    thresholds = LabelThresholds()
    for first in (0, 10, 20):
        thresholds.update(scores[first : first + 10], labels[first : first + 10])
    assert torch.equal(thresholds.compute(), best_thresholds(scores, labels))
