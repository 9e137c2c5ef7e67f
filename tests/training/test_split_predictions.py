import csv
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from rnn_lab.reports.class_metrics import class_metrics
from rnn_lab.runs.predictions import (
    HighLossExample,
    parse_labels,
    read_predictions,
    read_top_losses,
)
from rnn_lab.training.split_predictions import SplitPredictions


def test_columns_are_named_by_class_and_numbers_read_back_the_same(tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=50).astype(np.float32)
    losses = rng.exponential(size=50).astype(np.float32)
    labels = rng.integers(0, 3, size=50)
    SplitPredictions(
        class_names=["no", "so, so", 'the "best"'],
        names=[f"a,b.csv:{line}" for line in range(50)],
        texts=[f"text {line}" for line in range(50)],
        labels=labels,
        lengths=np.arange(1, 51),
        losses=losses,
        probabilities=probabilities,
    ).write(tmp_path)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("no", "so, so", 'the "best"')
    assert list(rows[0]) == [
        *("name", "label", "prediction", "length", "loss"),
        *(f"probability_{name}" for name in names),
    ]
    assert rows[49]["name"] == "a,b.csv:49"
    assert rows[49]["length"] == "50"
    assert [row["label"] for row in rows] == [names[label] for label in labels]
    assert [row["prediction"] for row in rows] == [names[i] for i in probabilities.argmax(axis=1)]
    assert np.array_equal(np.float32([row["loss"] for row in rows]), losses)
    for i, name in enumerate(names):
        written = np.float32([row[f"probability_{name}"] for row in rows])
        assert np.array_equal(written, probabilities[:, i])


def test_the_hundred_highest_losses_come_first_with_their_texts(tmp_path):
    size = 150
    positive = np.full(size, 0.9)
    positive[[3, 140]] = 0.01, 0.4
    losses = -np.log(positive)
    SplitPredictions(
        class_names=["neg", "pos"],
        names=[f"a.csv:{line}" for line in range(size)],
        texts=[f'line {line},\nand "another"' for line in range(size)],
        labels=np.ones(size, np.int64),
        lengths=np.ones(size, np.int64),
        losses=losses,
        probabilities=np.stack([1 - positive, positive], axis=1),
    ).write(tmp_path)
    found = read_top_losses(tmp_path)
    assert len(found) == 100
    assert [one.example for one in found[:2]] == [
        HighLossExample("a.csv:3", "pos", "neg", 0.99, losses[3]),
        HighLossExample("a.csv:140", "pos", "neg", 0.6, losses[140]),
    ]
    # Of equal losses, in the order of the split.
    assert [one.example.name for one in found[2:5]] == ["a.csv:0", "a.csv:1", "a.csv:2"]
    assert found[0].text == 'line 3,\nand "another"'


def test_predictions_of_any_number_of_labels_read_back_the_same(tmp_path):
    rng = np.random.default_rng(0)
    labels = (rng.random((30, 3)) < (0.5, 0.2, 0.0)).astype(np.uint8)
    probabilities = rng.random((30, 3)).astype(np.float32)
    thresholds = np.float32([0.5, 0.3, 0.9])
    names = ("toxic, too", "threat", "never")
    per_class = SplitPredictions(
        class_names=names,
        names=[f"a.csv:{line}" for line in range(30)],
        texts=[f"text {line}" for line in range(30)],
        labels=labels,
        lengths=np.arange(1, 31),
        losses=rng.exponential(size=30),
        probabilities=probabilities,
        thresholds=thresholds,
    ).write(tmp_path)
    found = read_predictions(tmp_path)
    assert found.class_names == names and found.is_multilabel
    assert np.array_equal(found.labels, labels > 0)
    assert np.array_equal(found.predicted, probabilities >= thresholds)
    assert np.array_equal(np.float32(found.probabilities), probabilities)
    assert found.correct.mean() == accuracy_score(labels, found.predicted)
    worst = read_top_losses(tmp_path)[0].example
    row = found.names.index(worst.name)
    assert json.loads(worst.label) == list(np.array(names)[labels[row] > 0])
    assert np.array_equal(parse_labels(worst.label, names), labels[row] > 0)
    assert np.array_equal(parse_labels(worst.prediction, names), found.predicted[row])
    report = class_metrics(labels, found.predicted, names)
    scores = precision_recall_fscore_support(labels, found.predicted, zero_division=0)
    for i, expected in enumerate(zip(*scores, strict=True)):
        assert list(report[names[i]].values()) == pytest.approx(expected)
    assert per_class == report
