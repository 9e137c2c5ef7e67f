"""A Trainer as train.py builds it, for a small run of the tests' own data and models."""

from pathlib import Path
from typing import Any

import lightning as L

from rnn_lab.tracking.loggers import build_loggers
from rnn_lab.training.callbacks import build_callbacks
from rnn_lab.training.checkpoint_io import ResumePoint
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import resolve_hardware
from rnn_lab.training.rollback import Rollback
from rnn_lab.training.signals import GracefulShutdown
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.trainer import build_trainer
from rnn_lab.validation import validate

OPTIONS = {
    "model": {"name": "gru"},
    "data": {"source": "demo"},
    "optimizer": {"name": "adamw"},
    "scheduler": {"name": "one_cycle"},
    "logger": {"name": "csv"},
    "trainer": {
        **{"accelerator": "cpu", "precision": "32-true", "max_epochs": 3, "patience": None},
        "monitor": "val/accuracy",
    },
}


def small_spec(folder: Path, *, logger: str = "csv", **trainer: Any) -> RunSpec:
    """Return the run in `folder` with those trainer options."""
    options = OPTIONS | {"logger": {"name": logger}, "trainer": OPTIONS["trainer"] | trainer}
    return RunSpec(validate(RunConfig, options), folder)


def small_trainer(
    folder: Path,
    *callbacks: L.Callback,
    logger: str = "csv",
    resume_point: ResumePoint | None = None,
    shutdown: GracefulShutdown | None = None,
    rollbacks: tuple[Rollback, ...] = (),
    **options: Any,
) -> L.Trainer:
    """Return the Trainer of the run in `folder`: train.py's callbacks, then `callbacks`."""
    spec = small_spec(folder, logger=logger, **options)
    loggers = build_loggers(
        spec.config.logger,
        folder,
        {},
        metrics_rows=resume_point.metrics_rows if resume_point else 0,
        global_step=resume_point.global_step if resume_point else None,
    )
    return build_trainer(
        spec.config.trainer,
        resolve_hardware(spec.config.trainer),
        folder,
        loggers,
        [
            *build_callbacks(spec, shutdown, resume_point=resume_point, rollbacks=rollbacks),
            *callbacks,
        ],
    )
