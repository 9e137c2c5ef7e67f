"""One run: reviews, model, training, the test split read once, and all that is kept of it."""

import logging
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import ModelCheckpoint

from src.data.datamodule import ReviewDataModule
from src.errors import ConfigError
from src.files import whole_file
from src.models.modules import TextClassifier, build_classifier
from src.reports.plots import draw_plots
from src.reports.summary import print_run
from src.sweeps.pruning import search_callbacks, stopped_by_search
from src.training.announce import announce_demo
from src.training.callbacks import (
    TestPredictions,
    Throughput,
    ValidationFigures,
    find_callback,
)
from src.training.config import RunConfig
from src.training.loggers import build_loggers, finish_wandb, wandb_logger
from src.training.machine import choose_accelerator, choose_devices
from src.training.predictions import write_predictions
from src.training.result import (
    describe_data,
    git_commit,
    peak_memory_bytes,
    versions,
    write_result,
)
from src.training.trainer import build_trainer
from src.training.wandb_report import report_to_wandb


def run(config: RunConfig, options: dict[str, Any]) -> None:
    """Train, test and describe one run, in the folder that Hydra made for it.

    `options` are those of `config` as they were given, to be logged. Raises a UserError for
    whatever the user can mend; for a machine that cannot do what is asked, before data is read.
    """
    started = time.perf_counter()
    quieten_lightning()
    accelerator = choose_accelerator(config.trainer)
    devices = choose_devices(config.trainer, accelerator)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if (folder / "result.json").exists():
        raise ConfigError(f"hydra.run.dir={folder}: holds a finished run; choose another folder")

    L.seed_everything(config.seed, workers=True, verbose=False)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    data = ReviewDataModule(config.data, seed=config.seed, allow_fallback=not in_sweep)
    data.prepare_data()
    data.setup()
    identity = identify(config, data)
    if identity["fallback"]:
        announce_demo()

    model = build_classifier(
        config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
    )
    name, tags = identity["run_name"], identity["tags"]
    failed = True
    try:
        group = Path(hydra.sweep.dir).name if in_sweep else None
        # A study's database may have a password.
        options = options | {"trial": config.trial.model_dump(exclude={"storage"})}
        loggers = build_loggers(
            config.logger, folder, name=name, tags=tags, group=group, options=options
        )
        trainer = build_trainer(
            config.trainer,
            folder,
            loggers,
            accelerator=accelerator,
            devices=devices,
            callbacks=search_callbacks(config.trial),
        )
        figures = fit_and_test(trainer, model, data)
        if figures is not None and trainer.is_global_zero:
            result = identity | figures | describe(config, data, model, trainer)
            result["timing"]["seconds"] = round(time.perf_counter() - started, 1)
            keep(folder, result, data, trainer)
        failed = False
    finally:
        finish_wandb(failed=failed)


def quieten_lightning() -> None:
    """Leave Lightning's messages to train.log, and drop those that mean nothing here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root handlers have them already
    for meaningless in (
        r"Experiment logs directory .* exists and is not empty",  # Hydra made it a moment ago
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"The '\w+_dataloader' does not have many workers",  # a batch is cheaper than a process
        r"The number of training batches \(\d+\) is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", meaningless)


def identify(config: RunConfig, data: ReviewDataModule) -> dict[str, Any]:
    """Name the run by what it trains on: made-up reviews are never to be taken for IMDB."""
    corpus = data.corpus
    fallback = config.data.source == "auto" and corpus.synthetic
    marks = {"synthetic": corpus.synthetic, "fallback-to-demo": fallback}
    name = config.name or f"{config.model.name}-{corpus.name}-seed{config.seed}"
    if fallback and "demo" not in name:
        name += "-demo"
    return {
        "run_name": name,
        "tags": [config.model.name, corpus.name, *config.tags, *(m for m in marks if marks[m])],
        "synthetic": corpus.synthetic,
        "fallback": fallback,
        "seed": config.seed,
    }


def fit_and_test(
    trainer: L.Trainer, model: TextClassifier, data: ReviewDataModule
) -> dict[str, Any] | None:
    """Train, then test the epoch that validation chose. Returns that epoch's figures.

    None where a search stopped the training: such a run does not read the test split.
    """
    trainer.fit(model, datamodule=data)
    if stopped_by_search(trainer, Path(trainer.default_root_dir)):
        return None
    best = find_callback(trainer, ModelCheckpoint).best_model_path
    epoch = torch.load(best, weights_only=True, mmap=True)["epoch"]
    tested = trainer.test(model, ckpt_path=best, datamodule=data, verbose=False, weights_only=True)
    return {
        "best_epoch": epoch,
        "epochs": trainer.current_epoch,
        **find_callback(trainer, ValidationFigures).of_epoch[epoch],
        **tested[0],
    }


def describe(
    config: RunConfig, data: ReviewDataModule, model: TextClassifier, trainer: L.Trainer
) -> dict[str, Any]:
    """Say what a run was made of. Everything that differs between two equal runs is `timing`."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": config.model.model_dump() | {"parameters": parameters},
        "data": describe_data(data),
        "optimizer": config.optimizer.model_dump(),
        "scheduler": config.scheduler.model_dump(),
        "trainer": config.trainer.model_dump() | {"precision": trainer.precision},
        "versions": versions(),
        "git_commit": git_commit(),
        "overrides": list(HydraConfig.get().overrides.task),
        "timing": {
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "train_reviews_per_second": round(
                find_callback(trainer, Throughput).reviews_per_second, 1
            ),
            "peak_memory_bytes": peak_memory_bytes(),
        },
    }


def keep(folder: Path, result: dict[str, Any], data: ReviewDataModule, trainer: L.Trainer) -> None:
    """Write the run's predictions, result and pictures, log them, and print the table."""
    predictions = find_callback(trainer, TestPredictions)
    test, encoded = data.corpus.test, data.splits["test"]
    assert test is not None
    seen = predictions.indices
    names = [test.names[i] for i in seen]
    write_predictions(
        folder / "predictions.csv",
        class_names=data.class_names,
        names=names,
        labels=encoded.labels[seen],
        lengths=encoded.lengths[seen],
        losses=predictions.losses,
        probabilities=predictions.probabilities,
    )
    if data.corpus.skipped:
        with whole_file(folder / "skipped_rows.txt") as file:
            file.writelines(f"{row}\n" for row in data.corpus.skipped)
    write_result(folder, result)
    draw_plots(folder)
    if logger := wandb_logger(trainer.loggers):
        best = find_callback(trainer, ModelCheckpoint).best_model_path
        row = dict(zip(names, seen, strict=True))
        report_to_wandb(logger.experiment, folder, lambda name: test.texts[row[name]], Path(best))
    print_run(folder)
