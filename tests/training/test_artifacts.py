import csv

import numpy as np

from rnn_lab.training.artifacts import write_predictions


def test_columns_are_named_by_class_and_numbers_read_back_the_same(tmp_path):
    path = tmp_path / "predictions.csv"
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=50).astype(np.float32)
    losses = rng.exponential(size=50).astype(np.float32)
    labels = rng.integers(0, 3, size=50)
    write_predictions(
        path,
        class_names=["no", "so, so", 'the "best"'],
        names=[f"a,b.csv:{line}" for line in range(50)],
        labels=labels,
        lengths=np.arange(1, 51),
        losses=losses,
        probabilities=probabilities,
    )
    with path.open(newline="", encoding="utf-8") as file:
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
