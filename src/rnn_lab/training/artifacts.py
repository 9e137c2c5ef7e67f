"""The files that a finished run leaves. result.json comes last: where it is, all others are."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.plots import draw_plots
from rnn_lab.reports.run_summary import print_run
from rnn_lab.tracking.loggers import wandb_logger
from rnn_lab.tracking.wandb_report import report_to_wandb
from rnn_lab.training.callbacks import find_callback
from rnn_lab.training.callbacks.exact_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.monitors import PredictionCollector
from rnn_lab.training.run_metadata import write_result

STAGE = ".finishing"  # folder within the output folder
_IN_PLACE = ("metrics.csv", "gradient_flow.csv")  # were written while the run trained


def save_artifacts(
    folder: Path, result: dict[str, Any], data: TextDataModule, trainer: L.Trainer
) -> None:
    """Write the predictions, result.json and plots of a run, log them, and print its table.

    They are made in a folder of their own and moved when complete: a run that is killed meanwhile
    is not taken for a finished one.
    """
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in _IN_PLACE:
        if (folder / name).exists():
            shutil.copyfile(folder / name, stage / name)  # plots are drawn from them
    _save_predictions(stage / "predictions.csv", data, trainer)
    if data.corpus.skipped:
        with atomic_write(stage / "skipped_rows.txt") as file:
            file.writelines(f"{row}\n" for row in data.corpus.skipped)
    write_result(stage, result)
    draw_plots(stage)
    logger = wandb_logger(trainer.loggers)
    if logger and not logger.failed:
        best = find_callback(trainer, BestCheckpoint).best_model_path
        checkpoint = Path(best) if best else None
        with logger.tolerate():  # the run is complete without its dashboard
            report_to_wandb(logger.experiment, stage, _TestTexts(data), checkpoint)
    _move(stage, folder)
    print_run(folder)


def _save_predictions(path: Path, data: TextDataModule, trainer: L.Trainer) -> None:
    predictions = find_callback(trainer, PredictionCollector)
    test = data.corpus.test
    if not predictions.is_complete or test is None:  # test=false
        return
    encoded, rows = data.splits["test"], predictions.indices
    write_predictions(
        path,
        class_names=data.class_names,
        names=[test.names[row] for row in rows],
        labels=encoded.labels[rows],
        lengths=encoded.lengths[rows],
        losses=predictions.losses,
        probabilities=predictions.probabilities,
    )


class _TestTexts:
    """The text of a test example by its name."""

    def __init__(self, data: TextDataModule) -> None:
        self._split = data.corpus.test
        self._row: dict[str, int] | None = None

    def __call__(self, name: str) -> str:
        assert self._split is not None
        if self._row is None:
            self._row = {found: row for row, found in enumerate(self._split.names)}
        return self._split.texts[self._row[name]]


def write_predictions(
    path: Path,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    labels: np.ndarray,
    lengths: np.ndarray,
    losses: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Write predictions.csv: one row for each example of the test split, in the order given.

    Args:
        path: of the file.
        class_names: names of the model's classes, in their order.
        names: [examples], where each example came from.
        labels: integers [examples], an index into `class_names`.
        lengths: integers [examples], tokens.
        losses: float [examples], cross-entropy in nats.
        probabilities: float [examples, classes], written with as many digits as read back the same.
    """
    predicted = probabilities.argmax(axis=1)
    columns = ["name", "label", "prediction", "length", "loss"]
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns + [f"probability_{name}" for name in class_names])
        for i, name in enumerate(names):
            label, prediction = class_names[labels[i]], class_names[predicted[i]]
            numbers = [str(number) for number in (lengths[i], losses[i], *probabilities[i])]
            writer.writerow([name, label, prediction, *numbers])


def _move(stage: Path, folder: Path) -> None:
    """Move the files of `stage` into `folder`, result.json last."""
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    last = stage / "result.json"
    for path in (*(path for path in files if path != last), last):
        place = folder / path.relative_to(stage)
        if path.name not in _IN_PLACE:
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
    shutil.rmtree(stage, ignore_errors=True)
