"""One run: reviews, model, training, the test split read once, and all that is kept of it."""

import logging
import signal
import warnings
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import ModelCheckpoint

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import OutputDirConflictError
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.models.lightning_module import TextClassifier, build_classifier
from rnn_lab.sweeps.naming import search_parameters, sweep_run_name, swept_options
from rnn_lab.sweeps.search.pruning import record_pruned, search_callbacks
from rnn_lab.tracking.loggers import build_loggers, finish_wandb
from rnn_lab.training.artifacts import save_artifacts
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.callbacks.monitors import (
    Throughput,
    ValidationHistory,
    find_callback,
)
from rnn_lab.training.callbacks.nonfinite import NonFiniteGuard
from rnn_lab.training.config import RunConfig
from rnn_lab.training.data_warnings import log_duplicates, warn_demo_fallback
from rnn_lab.training.hardware import (
    choose_accelerator,
    choose_devices,
    choose_precision,
    describe_machine,
)
from rnn_lab.training.process import peak_memory_bytes
from rnn_lab.training.reproduce import as_given, check_reviews
from rnn_lab.training.resume import (
    ResumePoint,
    describe_making,
    find_resume_point,
    incompatible_checkpoint,
    is_state_mismatch,
)
from rnn_lab.training.rollbacks import Rollback, excluded_batches, read_rollbacks
from rnn_lab.training.run_metadata import describe_data, git_commit, versions
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.trainer import build_trainer


def run(
    config: RunConfig,
    options: dict[str, Any],
    *,
    marks: dict[str, Any] | None = None,
    signals: GracefulShutdown,
    rollbacks: tuple[Rollback, ...] | None = None,
) -> None:
    """Train, test and describe one run, in the folder that Hydra made for it.

    Where an interrupted run lies in the folder, it goes on from its last checkpoint and ends as it
    would have: on a CPU with the same bits. `options` are those of `config` as they were given, to
    be logged; `marks` go into result.json; `rollbacks` have turned it back in this process before.

    Raises:
        RollbackRequestedError: it is to be turned back (again).
        UserError: whatever the user can mend; for a machine that cannot do what is asked, before
            data is read.
        Interrupted: by one of `signals`.
    """
    silence_lightning()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if (folder / "result.json").exists():
        raise OutputDirConflictError(
            f"hydra.run.dir={folder}: holds a finished run; choose another folder"
        )
    accelerator = choose_accelerator(config.trainer)
    devices = choose_devices(config.trainer, accelerator)
    hydra = HydraConfig.get()

    L.seed_everything(config.seed, workers=True, verbose=False)
    data = TextDataModule(config.data, seed=config.seed, allow_fallback=not is_multirun())
    data.prepare_data()
    data.setup()
    signals.raise_received()  # a library may have swallowed what the signal raised
    identity = run_identity(config, data)
    if identity["demo_fallback"]:
        warn_demo_fallback()
    log_duplicates(data)
    if config.reproduce is not None:
        check_reviews(config.reproduce, data)

    precision = choose_precision(config.trainer, accelerator)
    making = describe_making(
        config, data, accelerator=accelerator, devices=devices, precision=precision
    )
    resume = config.resume if rollbacks is None else "auto"
    resume_point = find_resume_point(folder, resume, making)
    if rollbacks is None:
        rollbacks = read_rollbacks(folder) if resume == "auto" else ()
    data.exclude_batches(excluded_batches(rollbacks))
    if resume_point is not None:
        data.resume_at(resume_point.state["epoch"], resume_point.state["batch"])

    model = build_classifier(
        config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
    )
    name, tags = identity["run_name"], identity["tags"]
    exit_code, stopped = 1, None
    try:
        # A study's database may have a password.
        options = options | {"trial": config.trial.model_dump(exclude={"storage"})}
        described = {"name": name, "tags": tags, "group": None, "options": options}
        if is_multirun():
            sweep = Path(hydra.sweep.dir)
            varied = swept_options(sweep, raw_overrides(hydra))
            described |= {"name": sweep_run_name(name, varied), "group": sweep.name}
            described |= {"options": options | {"search": search_parameters(varied, options)}}
        loggers = build_loggers(config.logger, folder, resume_point=resume_point, **described)
        trainer = build_trainer(
            config.trainer,
            folder,
            loggers,
            accelerator=accelerator,
            devices=devices,
            callbacks=search_callbacks(config.trial),
            rollbacks=rollbacks,
            about=making,
            resumed=resume_point.state if resume_point else None,
            signals=signals,
        )
        figures = fit_and_test(trainer, model, data, resume_point)
        if figures is not None and trainer.is_global_zero:
            made = {"accelerator": accelerator, "devices": devices, "precision": precision}
            result = identity | figures | run_metadata(config, data, model, trainer, made)
            result |= marks or {}
            save_artifacts(folder, result, data, trainer)
        exit_code = 0
    except (Interrupted, SystemExit):  # the latter, where the job is put back into the queue
        if signals.received is not None:
            exit_code, stopped = 128 + signals.received, signal.Signals(signals.received).name
        raise
    finally:
        finish_wandb(exit_code, stopped=stopped)


def is_multirun() -> bool:
    """Whether the run is one of many."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def silence_lightning() -> None:
    """Leave Lightning's messages to train.log, and drop those that mean nothing here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root handlers have them already
    for meaningless in (
        r"Experiment logs directory .* exists and is not empty",  # Hydra made it a moment ago
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"The '\w+_dataloader' does not have many workers",  # a batch is cheaper than a process
        r"Checkpoint directory .* exists and is not empty",  # a run that goes on
        r"You're resuming from a checkpoint that ended before the epoch",  # the sampler goes on too
        r"The `srun` command is available on your system but is not used",  # nor needed
        r"The number of training batches \(\d+\) is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", meaningless)


def run_identity(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
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
        "demo_fallback": fallback,
        "seed": config.seed,
    }


def fit_and_test(
    trainer: L.Trainer,
    model: TextClassifier,
    data: TextDataModule,
    resume_point: ResumePoint | None,
) -> dict[str, Any] | None:
    """Train (on), then test the epoch that validation chose. Returns that epoch's figures.

    None where a search stopped the training: such a run does not read the test split.
    """
    checkpoint = resume_point.path if resume_point else None
    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        restoring = find_callback(trainer, ExactCheckpoint).is_restoring
        if resume_point is None or not restoring or not is_state_mismatch(error):
            raise
        raise incompatible_checkpoint(resume_point.path, error) from error
    if record_pruned(trainer, Path(trainer.default_root_dir)):
        return None
    best = find_callback(trainer, ModelCheckpoint).best_model_path
    epoch = torch.load(best, weights_only=True, mmap=True)["epoch"]
    tested = trainer.test(model, ckpt_path=best, datamodule=data, verbose=False, weights_only=True)
    return {
        "best_epoch": epoch,
        "epochs": trainer.current_epoch,
        **find_callback(trainer, ValidationHistory).of_epoch[epoch],
        **tested[0],
    }


def run_metadata(
    config: RunConfig,
    data: TextDataModule,
    model: TextClassifier,
    trainer: L.Trainer,
    chosen: dict[str, Any],
) -> dict[str, Any]:
    """Say what a run was made of. Everything that differs between two equal runs is `timing`.

    `chosen` are the options of the trainer that this machine decided over, as it did.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": config.model.model_dump() | {"parameters": parameters},
        "data": describe_data(data) | {"duplicates": data.duplicates},
        "optimizer": config.optimizer.model_dump()
        | {"sparse_embedding": model.uses_sparse_embedding},
        "scheduler": config.scheduler.model_dump(),
        "trainer": config.trainer.model_dump() | chosen,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": describe_machine(chosen["accelerator"]),
        "overrides": as_given(raw_overrides(HydraConfig.get())),
        "rollbacks": [
            asdict(rollback) for rollback in find_callback(trainer, NonFiniteGuard).rollbacks
        ],
        "timing": {
            "wall_time_s": round(find_callback(trainer, ExactCheckpoint).seconds, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "train_examples_per_s": round(find_callback(trainer, Throughput).reviews_per_second, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "threads": torch.get_num_threads(),  # of each process
        },
    }
