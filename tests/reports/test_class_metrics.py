import numpy as np
import pytest
from sklearn.metrics import classification_report

from rnn_lab.reports.class_metrics import class_metrics

NAMES = ["rare", "common", "never predicted", "absent"]


def test_values_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 400, p=[0.05, 0.85, 0.1])
    predicted = np.where(rng.random(400) < 0.7, labels % 2, rng.choice([0, 1, 3], 400))
    found = class_metrics(labels, predicted, NAMES)
    expected = classification_report(
        labels, predicted, labels=range(4), target_names=NAMES, output_dict=True, zero_division=0
    )
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name] == {
            "precision": pytest.approx(expected[name]["precision"]),
            "recall": pytest.approx(expected[name]["recall"]),
            "f1": pytest.approx(expected[name]["f1-score"]),
            "support": expected[name]["support"],
        }
