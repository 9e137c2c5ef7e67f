"""The callbacks of a run: the built-in ones, then those of the user's `callbacks` option."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar

from rnn_lab.training.callbacks.exact_checkpoint import BestCheckpoint, ExactCheckpoint
from rnn_lab.training.callbacks.freeze import FreezePretrained
from rnn_lab.training.callbacks.gradient_flow import GradientFlow
from rnn_lab.training.callbacks.monitors import (
    EpochPrinter,
    GradNormMonitor,
    PredictionCollector,
    Throughput,
    ValidationHistory,
)
from rnn_lab.training.callbacks.nonfinite import NonFiniteGuard
from rnn_lab.training.callbacks.weight_average import WeightAverage
from rnn_lab.training.rollback import Rollback
from rnn_lab.training.signals import GracefulShutdown
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import build_object

CallbackType = TypeVar("CallbackType", bound=Callback)


def build_callbacks(
    spec: RunSpec,
    shutdown: GracefulShutdown | None = None,
    *,
    rollbacks: tuple[Rollback, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    resume_state: Mapping[str, Any] | None = None,
    changed: Sequence[str] = (),
    extends: bool = False,
) -> list[Callback]:
    """Return the callbacks that every run has, then those of its `callbacks` option.

    `rollbacks` are those of the run so far, `metadata` is saved in last.ckpt, and `resume_state` is
    what the checkpoint that the run resumes from has under RESUME; `changed` and `extends` are
    those of its ResumePoint.
    """
    config, folder = spec.config.trainer, spec.output_dir
    freezing: list[Callback] = []
    if epochs := config.freeze_pretrained_epochs:
        with_layers = spec.config.model.init_from is not None
        freezing.append(FreezePretrained(epochs, recurrent=with_layers))
    callbacks: list[Callback] = [
        NonFiniteGuard(config, folder, rollbacks),  # first: no other sees a number that is none
        *([] if config.ema_decay is None else [WeightAverage(config.ema_decay)]),
        BestCheckpoint(spec.checkpoint_dir, config.monitor, config.monitored_mode),
        ExactCheckpoint(
            *(spec, metadata or {}, resume_state, shutdown or GracefulShutdown()),
            changed=changed,
            extends=extends,
        ),
        *freezing,
        GradNormMonitor(),
        Throughput(),
        ValidationHistory(),
        PredictionCollector(),
    ]
    if (patience := config.patience) is not None:
        callbacks.append(
            EarlyStopping(
                config.monitor,
                mode=config.monitored_mode,
                patience=patience,
                check_finite=False,  # NaN is no better metric; it would end the training in silence
            )
        )
    if config.gradient_flow is not None:
        callbacks.append(GradientFlow(config.gradient_flow, folder / "gradient_flow.csv"))
    if config.enable_progress_bar:
        bar = TQDMProgressBar(refresh_rate=10)
        prefix = f"{folder.name}: " if spec.shares_terminal else ""
        has_terminal = sys.stderr.isatty() and not spec.shares_terminal
        callbacks.append(bar if has_terminal else EpochPrinter(prefix, config.monitor))
    for name, target in spec.config.callbacks.items():
        if target is not None:
            callbacks.append(build_object(target, f"callbacks.{name}", Callback))
    return callbacks


def find_callback(trainer: L.Trainer, kind: type[CallbackType]) -> CallbackType:
    """Return the trainer's callback of that class."""
    return next(c for c in trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]


def skips_test(trainer: L.Trainer) -> bool:
    """Return whether a callback decided that the run is not tested, as a pruned trial's does."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "skip_test", False) for callback in callbacks)
