"""Files of a run are read exactly; a missing or malformed one is named in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.runs.metrics import best_validations, by_epoch, by_step, read_metrics
from rnn_lab.runs.predictions import read_predictions
from rnn_lab.runs.result_json import read_result

MakeRun = Callable[..., Path]


def test_sparse_rows_become_columns(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        "epoch,lr,step,train/loss,val/loss\n"
        ",0.001,9,,\n"
        "0,,9,,0.6\n"
        "0,,9,0.7,\n"
        ",0.002,19,,\n"
        "1,,19,,0.5\n"
        "1,,14,0.4,\n"
        "1,,19,0.2,\n"
    )
    metrics = read_metrics(tmp_path)
    assert list(metrics) == ["epoch", "lr", "step", "train/loss", "val/loss"]
    np.testing.assert_array_equal(metrics["lr"][:2], [0.001, np.nan])
    np.testing.assert_allclose(by_epoch(metrics, "train/loss"), ([0, 1], [0.7, 0.3]))
    np.testing.assert_allclose(by_epoch(metrics, "val/loss"), ([0, 1], [0.6, 0.5]))
    np.testing.assert_allclose(by_step(metrics, "lr"), ([9, 19], [0.001, 0.002]))
    assert [len(values) for values in by_epoch(metrics, "val/accuracy")] == [0, 0]


@pytest.mark.parametrize(
    ("monitor", "mode", "losses", "f1"),
    [
        # Of the equal F1 in epoch 0, the one with the lower loss.
        ("val/f1", "max", [0.5, 0.8], [0.7, 0.6]),
        ("val/loss", "min", [0.4, 0.2], [0.5, 0.5]),
        ("val/auroc", "max", [0.6, 0.2], [0.7, 0.5]),  # not logged: the last
    ],
)
def test_an_epoch_has_the_metrics_of_its_best_validation(
    tmp_path: Path, monitor: str, mode: Literal["min", "max"], losses: list[float], f1: list[float]
) -> None:
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train/loss,val/f1,val/loss\n"
        "0,3,,0.5,0.4\n"
        "0,6,,0.7,0.5\n"
        "0,9,,0.7,0.6\n"
        "0,9,0.9,,\n"
        "1,12,,0.6,0.8\n"
        "1,15,,,nan\n"
        "1,18,,0.5,0.2\n"
        "1,19,0.8,,\n"
    )
    metrics = best_validations(read_metrics(tmp_path), monitor, mode)
    np.testing.assert_allclose(by_epoch(metrics, "val/loss"), ([0, 1], losses))
    np.testing.assert_allclose(by_epoch(metrics, "val/f1"), ([0, 1], f1))
    np.testing.assert_allclose(by_epoch(metrics, "train/loss"), ([0, 1], [0.9, 0.8]))


def test_reads_what_lightning_writes(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"lr": 1e-3}, step=3)
    logger.log_metrics({"val/loss": 0.5, "epoch": 0}, step=3)
    logger.save()
    logger.log_metrics({"test/loss": 0.4, "epoch": 1}, step=4)
    logger.save()
    metrics = read_metrics(tmp_path)
    np.testing.assert_array_equal(metrics["step"], [3, 3, 4])
    np.testing.assert_array_equal(metrics["val/loss"], [np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(metrics["test/loss"], [np.nan, np.nan, 0.4])


def test_predictions_keep_order_classes_and_awkward_names(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(
        "name,label,prediction,length,loss,probability_bad,probability_so so,probability_good\n"
        '"reviews, old.csv:2",good,good,12,0.105,0.05,0.05,0.9\n'
        "reviews.csv:3,so so,bad,1,inf,1.0,0.0,0.0\n"
    )
    test = read_predictions(tmp_path)
    assert test.class_names == ("bad", "so so", "good")
    assert test.names == ["reviews, old.csv:2", "reviews.csv:3"]
    assert test.labels.tolist() == [2, 1]
    assert test.predicted.tolist() == [2, 0]
    assert test.correct.tolist() == [True, False]
    assert test.lengths.tolist() == [12, 1]
    assert test.losses.tolist() == [0.105, np.inf]
    np.testing.assert_array_equal(test.probabilities, [[0.05, 0.05, 0.9], [1, 0, 0]])


@pytest.mark.parametrize("read", [read_result, read_metrics, read_predictions])
def test_missing_and_empty_files_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(CheckpointError, match=r"(result\.json|metrics\.csv|predictions\.csv): no"):
        read(tmp_path)
    for name in ("result.json", "metrics.csv", "predictions.csv"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"(json|csv): empty"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("result.json", read_result),
        ("metrics.csv", read_metrics),
        ("predictions.csv", read_predictions),
    ],
)
def test_a_truncated_file_is_refused_or_read_up_to_a_whole_line(
    make_run: MakeRun, name: str, read: Callable[[Path], object]
) -> None:
    run = make_run(examples=3, epochs=1)
    whole = (run / name).read_bytes()
    refused = 0
    for size in range(len(whole)):
        (run / name).write_bytes(whole[:size])
        try:
            read(run)
            assert whole[:size].endswith((b"\r", b"\n"))
        except CheckpointError as error:
            assert name in str(error) and "\n" not in str(error)
            refused += 1
    assert refused >= len(whole) - 2 * whole.count(b"\n")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("length", "size", "no column 'length'"),
        (
            "a,good,good,7",
            "a,fine,good,7",
            r"predictions\.csv:2: label 'fine' is not one of bad, g",
        ),
        ("a,good,good,7", "a,good,good,x", r"predictions\.csv:2: 'x' is not a number"),
        ("0.1,0.9", "nan,0.9", r"predictions\.csv:2: probability_bad is not a number"),
        ("0.1,0.9", "0.9", r"predictions\.csv:2: 6 fields, expected 7"),
        ("probability_bad", "bad", "fewer than two columns probability_<class>"),
    ],
)
def test_a_malformed_row_is_named_by_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = "name,label,prediction,length,loss,probability_bad,probability_good\n"
    text += "a,good,good,7,0.105,0.1,0.9\n"
    (tmp_path / "predictions.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=says):
        read_predictions(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda result: [], "expected an object, found list"),
        (lambda result: result | {"schema_version": 1}, "result.json: has schema_version 1; "),
        (lambda result: result.pop("schema_version") and result, "has no schema_version; "),
        (lambda result: result.pop("seed") and result, "has no 'seed'"),
        (lambda result: result | {"model": "gru"}, "'model' has no 'name'"),
    ],
)
def test_a_result_without_its_keys_is_refused(
    make_run: MakeRun, change: Callable[[dict[str, object]], object], says: str
) -> None:
    path = make_run(examples=3) / "result.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CheckpointError, match=says):
        read_result(path.parent)
