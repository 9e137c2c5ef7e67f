"""What a finished run leaves in its folder. result.json comes last: where it is, all is there."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.plots import draw_plots
from rnn_lab.reports.run_summary import print_run
from rnn_lab.tracking.loggers import wandb_logger
from rnn_lab.tracking.wandb_report import report_to_wandb
from rnn_lab.training.callbacks.monitors import PredictionCollector, find_callback
from rnn_lab.training.predictions import write_predictions
from rnn_lab.training.run_metadata import write_result

STAGE = ".finishing"  # within the run folder


def save_artifacts(
    folder: Path, result: dict[str, Any], data: TextDataModule, trainer: L.Trainer
) -> None:
    """Write the run's predictions, result and pictures, log them, and print the table.

    They are made in a folder of their own and moved when complete: a run that is killed among
    them is not taken for a finished one.
    """
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in ("metrics.csv", "gradient_flow.csv"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, stage / name)  # pictures are drawn from them
    predictions = find_callback(trainer, PredictionCollector)
    test, encoded = data.corpus.test, data.splits["test"]
    assert test is not None
    seen = predictions.indices
    names = [test.names[i] for i in seen]
    write_predictions(
        stage / "predictions.csv",
        class_names=data.class_names,
        names=names,
        labels=encoded.labels[seen],
        lengths=encoded.lengths[seen],
        losses=predictions.losses,
        probabilities=predictions.probabilities,
    )
    if data.corpus.skipped:
        with atomic_write(stage / "skipped_rows.txt") as file:
            file.writelines(f"{row}\n" for row in data.corpus.skipped)
    write_result(stage, result)
    draw_plots(stage)
    logger = wandb_logger(trainer.loggers)
    if logger and not logger.lost:
        best = find_callback(trainer, ModelCheckpoint).best_model_path
        row = dict(zip(names, seen, strict=True))
        with logger.tolerate():  # the run is whole without its dashboard
            report_to_wandb(
                logger.experiment, stage, lambda name: test.texts[row[name]], Path(best)
            )
    _move(stage, folder)
    print_run(folder)


def _move(stage: Path, folder: Path) -> None:
    """Move the files of `stage` into `folder`, but for those that are there, result.json last."""
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    last = stage / "result.json"
    for path in (*(path for path in files if path != last), last):
        place = folder / path.relative_to(stage)
        if path.name not in {"metrics.csv", "gradient_flow.csv"}:
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
    shutil.rmtree(stage, ignore_errors=True)
