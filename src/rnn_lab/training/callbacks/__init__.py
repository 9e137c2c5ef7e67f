"""The callbacks of a run: the built-in ones, then those of the user's `callbacks` option."""

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    StochasticWeightAveraging,
    TQDMProgressBar,
)

from rnn_lab.errors import ConfigError
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.changed_options import ChangedOptions
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
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
from rnn_lab.training.checkpoint_io import ResumePoint
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.rollback import Rollback
from rnn_lab.training.signals import GracefulShutdown
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import build_object


def build_callbacks(
    spec: RunSpec,
    shutdown: GracefulShutdown | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    resume_point: ResumePoint | None = None,
    rollbacks: tuple[Rollback, ...] = (),
) -> list[Callback]:
    """Return the callbacks that every run has, then those of its `callbacks` option.

    `metadata` is saved in last.ckpt, `resume_point` is the checkpoint that the run resumes from,
    and `rollbacks` are those of the run so far.
    """
    config, folder = spec.config.trainer, spec.output_dir
    freezing: list[Callback] = []
    if epochs := config.freeze_pretrained_epochs:
        with_layers = spec.config.model.init_from is not None
        freezing.append(FreezePretrained(epochs, recurrent=with_layers))
    stopping = _early_stopping(config)
    changed: list[Callback] = []
    if resume_point is not None and resume_point.changed:
        changed.append(ChangedOptions(resume_point.changed, stopping))
    callbacks: list[Callback] = [
        *changed,  # a rollback multiplies the changed learning rate
        NonFiniteGuard(config, folder, rollbacks),  # no callback below sees a non-finite number
        *([] if config.ema_decay is None else [WeightAverage(config.ema_decay)]),
        BestCheckpoint(spec.checkpoint_dir, config.monitor, config.monitored_mode),
        ExactCheckpoint(spec, metadata or {}, resume_point, shutdown or GracefulShutdown()),
        *freezing,
        GradNormMonitor(),
        Throughput(),
        ValidationHistory(),
        PredictionCollector(),
    ]
    if stopping is not None:
        callbacks.append(stopping)
    if config.gradient_flow is not None:
        callbacks.append(GradientFlow(config.gradient_flow, folder / "gradient_flow.csv"))
    if config.enable_progress_bar:
        bar = TQDMProgressBar(refresh_rate=10)
        prefix = f"{folder.name}: " if spec.shares_terminal else ""
        has_terminal = sys.stderr.isatty() and not spec.shares_terminal
        callbacks.append(bar if has_terminal else EpochPrinter(prefix, config.monitor))
    for name, target in spec.config.callbacks.items():
        if target is not None:
            callbacks.append(_build(name, target, stopping))
    for callback in callbacks:
        if isinstance(callback, EarlyStopping):
            _check_after_validation(callback)
    return callbacks


def _early_stopping(config: TrainerConfig) -> EarlyStopping | None:
    """Return the callback of `trainer.patience`; None without one."""
    if config.patience is None:
        return None
    return EarlyStopping(
        config.monitor,
        mode=config.monitored_mode,
        patience=config.patience,
        check_finite=False,  # NaN is no better metric; it would end the training in silence
    )


def _build(name: str, target: dict[str, Any], stopping: EarlyStopping | None) -> Callback:
    """Return the callback that the user named `name`.

    Raises:
        ConfigError: it cannot be built, or is of no use beside the built-in ones, of which
            `stopping` is one.
    """
    option = f"callbacks.{name}"
    callback: Callback = build_object(target, option, Callback)
    if isinstance(callback, StochasticWeightAveraging):
        raise ConfigError(
            f"{option}: best.ckpt would keep weights that are not averaged, since Lightning "
            "averages them after the last validation; give trainer.ema_decay instead"
        )
    if stopping is not None and callback.state_key == stopping.state_key:
        raise ConfigError(
            f"{option}: trainer.patience={stopping.patience} watches {stopping.monitor} too; "
            f"give trainer.patience=null, or leave out {option}"
        )
    return callback


def _check_after_validation(stopping: EarlyStopping) -> None:
    """Let early stopping see a validation metric when it is new.

    By default Lightning looks at it after each epoch, also after one that trainer.max_steps ends
    before its validation. There it counts the epoch before once more, and a resumed run, which has
    no metric yet, fails.
    """
    # Private: a callback of the user is already built. tests/training/test_kill_and_resume.py fails
    # when this changes.
    if stopping._check_on_train_epoch_end is None and stopping.monitor.startswith("val/"):
        stopping._check_on_train_epoch_end = False
