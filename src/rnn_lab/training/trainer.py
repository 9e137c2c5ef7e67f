"""Lightning's Trainer for one run, from the `trainer` options."""

import inspect
import logging
import os
import warnings
from pathlib import Path
from typing import TypeVar

import lightning as L
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from rnn_lab.errors import ConfigError, whole_message
from rnn_lab.process import started_by_srun
from rnn_lab.training.checkpoint_io import AtomicCheckpointIO
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.hardware import Hardware
from rnn_lab.validation import build_object

CallbackType = TypeVar("CallbackType", bound=Callback)

# Options that the Trainer takes as they are: the others are resolved, or the project's own.
_PASSED = TrainerConfig.model_fields.keys() & inspect.signature(L.Trainer).parameters.keys() - {
    "accelerator",
    "devices",
    "precision",
    "enable_progress_bar",
}


def build_trainer(
    config: TrainerConfig,
    hardware: Hardware,
    folder: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
) -> L.Trainer:
    """Return the Trainer of the run in `folder`.

    Raises:
        ConfigError: Lightning refuses the options or the callbacks.
    """
    # cuBLAS repeats its results only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = config.model_dump(include=set(_PASSED))
    if options["deterministic"] is None and hardware.accelerator == "gpu":
        options["deterministic"] = "warn"
    if isinstance(config.profiler, dict):
        options["profiler"] = build_object(config.profiler, "trainer.profiler", Profiler)
    try:
        trainer = L.Trainer(
            **options,
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            precision=hardware.precision,
            enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
            use_distributed_sampler=False,  # it would test some examples twice to even ranks out
            default_root_dir=folder,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), _environment(config)],
            logger=loggers,
        )
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {whole_message(error)}") from error
    # Private: Lightning has no option to leave signals alone. tests/training/
    # test_lightning_private.py fails when this changes.
    trainer._signal_connector = _NoSignals(trainer)
    return trainer


class _NoSignals(_SignalConnector):
    """Leaves signals to rnn_lab.training.signals.

    Lightning would stop where nothing can be saved, and would make one of several processes
    communicate with the others in the middle of another communication.
    """

    def register_signal_handlers(self) -> None:
        """Register none."""


def _environment(config: TrainerConfig) -> ClusterEnvironment:
    """Return what started this process, so that Lightning need not guess.

    Under Slurm, Lightning would requeue the job. That is submitit's or Slurm's task: where both do,
    a job is queued twice. The run resumes from its own last.ckpt in any case.
    """
    if config.strategy == "ddp" and TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if config.strategy == "ddp" and "LOCAL_RANK" not in os.environ and started_by_srun():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def silence_lightning() -> None:
    """Leave Lightning's messages to the log file, and drop those that mean nothing here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root handlers have them already
    for meaningless in (
        r"Experiment logs directory .* exists and is not empty",  # Hydra made it a moment ago
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"The '\w+_dataloader' does not have many workers",  # a batch is cheaper than a process
        r"Checkpoint directory .* exists and is not empty",  # a resumed run
        r"You're resuming from a checkpoint that ended before the epoch",  # the sampler resumes too
        r"The `srun` command is available on your system but is not used",  # nor needed
        r"The number of training batches \(\d+\) is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", meaningless)


def find_callback(trainer: L.Trainer, kind: type[CallbackType]) -> CallbackType:
    """Return the trainer's callback of that class."""
    return next(c for c in trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]


def skips_test(trainer: L.Trainer) -> bool:
    """Return whether a callback decided that the run is not tested, as a pruned trial's does."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "skip_test", False) for callback in callbacks)
