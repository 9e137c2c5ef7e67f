"""Lightning's Trainer for one run, from the `trainer` options."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from rnn_lab.training.callbacks.monitors import build_callbacks, has_own_terminal
from rnn_lab.training.checkpoint_io import AtomicCheckpointIO
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.distributed import started_by_srun
from rnn_lab.training.hardware import Accelerator, choose_precision


def build_trainer(
    config: TrainerConfig,
    folder: Path,
    loggers: list[Logger],
    *,
    accelerator: Accelerator,
    devices: int,
    callbacks: Sequence[Callback] = (),
    **last_checkpoint: Any,
) -> L.Trainer:
    """Return the Trainer of the run in `folder`, with `callbacks` beside its own.

    `last_checkpoint` are further arguments of rnn_lab.training.callbacks.monitors.build_callbacks.
    """
    # cuBLAS repeats its results only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=config.strategy,
        num_nodes=config.num_nodes,
        precision=choose_precision(config, accelerator),
        max_epochs=config.max_epochs,
        gradient_clip_val=config.gradient_clip_val,
        accumulate_grad_batches=config.accumulate_grad_batches,
        limit_train_batches=config.limit_train_batches,
        limit_val_batches=config.limit_val_batches,
        limit_test_batches=config.limit_test_batches,
        log_every_n_steps=config.log_every_n_steps,
        enable_progress_bar=config.enable_progress_bar and has_own_terminal(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn" if accelerator == "gpu" else None,
        use_distributed_sampler=False,  # it would test some reviews twice to even the ranks out
        default_root_dir=folder,
        callbacks=[*build_callbacks(config, folder, **last_checkpoint), *callbacks],
        plugins=[AtomicCheckpointIO(), choose_environment(config)],
        logger=loggers,
    )
    trainer._signal_connector = _NoSignals(trainer)
    return trainer


class _NoSignals(_SignalConnector):
    """Leaves signals to rnn_lab.training.signals.

    Lightning would stop where nothing can be saved, and in one of several processes tell the others
    in the midst of whatever they are telling each other.
    """

    def register_signal_handlers(self) -> None:
        """Register none."""


def choose_environment(config: TrainerConfig) -> ClusterEnvironment:
    """Return who started this process and its like, so that Lightning need not guess.

    Under Slurm it would see to a second life of the job itself. That is for submitit to do, or for
    Slurm; where both do, a job is put back into the queue twice. The run goes on from its own
    last.ckpt, whoever does.
    """
    if config.strategy == "ddp" and TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if config.strategy == "ddp" and "LOCAL_RANK" not in os.environ and started_by_srun():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()
