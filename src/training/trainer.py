"""Lightning's Trainer for one run, from the `trainer` options."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from src.training.callbacks import build_callbacks
from src.training.config import TrainerConfig
from src.training.machine import Accelerator, choose_precision


def build_trainer(
    config: TrainerConfig,
    folder: Path,
    loggers: list[Logger],
    *,
    accelerator: Accelerator,
    devices: int,
    callbacks: Sequence[Callback] = (),
) -> L.Trainer:
    """Return the Trainer of the run in `folder`, with `callbacks` beside its own."""
    # cuBLAS repeats its results only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return L.Trainer(
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
        enable_progress_bar=config.progress_bar and sys.stderr.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn" if accelerator == "gpu" else None,
        use_distributed_sampler=False,  # it would test some reviews twice to even the ranks out
        default_root_dir=folder,
        callbacks=[*build_callbacks(config, folder), *callbacks],
        logger=loggers,
    )
