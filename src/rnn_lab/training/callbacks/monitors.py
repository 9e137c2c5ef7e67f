"""What a run watches while it trains: gradients, throughput, test predictions."""

import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.callbacks.gradient_flow import GradientFlow
from rnn_lab.training.callbacks.nonfinite import NonFiniteGuard
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.rollbacks import Rollback


class GradNormMonitor(Callback):
    """Logs `lr`, and `grad_norm`: the L2 norm of the whole gradient before it is clipped."""

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure only on the steps that the loggers write down: it reads every gradient."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
            figures = {
                "lr": optimizer.param_groups[0]["lr"],
                "grad_norm": torch.stack(norms).norm(),
            }
            module.log_dict(figures, on_step=True, on_epoch=False)


class Throughput(Callback):
    """Counts reviews and seconds of training steps; logs `train/examples_per_second` an epoch."""

    def __init__(self) -> None:
        self.reviews = 0
        self.seconds = 0.0
        self._epoch_reviews = 0
        self._epoch_seconds = 0.0

    @property
    def reviews_per_second(self) -> float:
        """Over all epochs, validation left out."""
        return self.reviews / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Go on with the clock in an epoch that has begun."""
        self._start = time.perf_counter() - self._epoch_seconds

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock."""
        self._epoch_reviews, self._epoch_seconds = 0, 0.0
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop the clock after every batch, since validation follows the last one."""
        self._epoch_reviews += len(batch.labels) * trainer.world_size
        self._epoch_seconds = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Add the epoch up."""
        self.reviews += self._epoch_reviews
        self.seconds += self._epoch_seconds
        speed = self._epoch_reviews / self._epoch_seconds
        module.log("train/examples_per_second", speed, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint."""
        epoch = {"epoch_reviews": self._epoch_reviews, "epoch_seconds": self._epoch_seconds}
        return {"reviews": self.reviews, "seconds": self.seconds} | epoch

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Come back from the checkpoint, to train on; a test of one leaves the counts alone."""
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn == TrainerFn.FITTING and state is not None:
            self.reviews, self.seconds = state["reviews"], state["seconds"]
            self._epoch_reviews = state["epoch_reviews"]
            self._epoch_seconds = state["epoch_seconds"]


class ValidationHistory(Callback):
    """Keeps the val/ figures of every epoch, so that the chosen one's are known at the end."""

    def __init__(self) -> None:
        self.of_epoch: dict[int, dict[str, float]] = {}

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep one epoch's."""
        figures = trainer.callback_metrics.items()
        self.of_epoch[trainer.current_epoch] = {
            name: float(value) for name, value in figures if name.startswith("val/")
        }

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint: a resumed run may choose an epoch from before."""
        return {"of_epoch": self.of_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come back from the checkpoint."""
        self.of_epoch = state_dict["of_epoch"]


class EpochPrinter(Callback):
    """Prints a line an epoch, where there is no terminal for a progress bar."""

    def __init__(self, of: str = "") -> None:
        """Begin each line with `of`, where several runs print at a time."""
        self._of = of

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Say what the epoch brought."""
        if trainer.is_global_zero:
            names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
            figures = ", ".join(f"{name} {trainer.callback_metrics[name]:.4f}" for name in names)
            last = trainer.max_epochs - 1  # type: ignore[operator]
            print(f"{self._of}epoch {trainer.current_epoch} (last {last}): {figures}", flush=True)


class PredictionCollector(Callback):
    """Keeps what the test split's reviews were taken for.

    After `trainer.test`, `indices` [reviews], `probabilities` [reviews, classes] and `losses`
    [reviews] hold every review once, in the order of the split, on every rank.
    """

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Forget an earlier test."""
        self._batches: list[dict[str, np.ndarray]] = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch."""
        kept = ("indices", "probabilities", "loss")
        self._batches.append({name: outputs[name].cpu().numpy() for name in kept})

    def on_test_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put the batches of all ranks into the order of the split."""
        batches = self._batches
        if trainer.world_size > 1:
            gathered: list[list[dict[str, np.ndarray]]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(gathered, batches)
            batches = [batch for rank in gathered for batch in rank]
        order = np.argsort(np.concatenate([batch["indices"] for batch in batches]))
        self.indices, self.probabilities, self.losses = (
            np.concatenate([batch[name] for batch in batches])[order]
            for name in ("indices", "probabilities", "loss")
        )


def build_callbacks(
    config: TrainerConfig,
    folder: Path,
    *,
    rollbacks: tuple[Rollback, ...] = (),
    **last_checkpoint: Any,
) -> list[Callback]:
    """Return the callbacks of the run in `folder`; best.ckpt and last.ckpt go to checkpoints/.

    It has been turned back by `rollbacks`. `last_checkpoint` are further arguments of
    ExactCheckpoint.
    """
    checkpoints = folder / "checkpoints"
    callbacks: list[Callback] = [
        NonFiniteGuard(
            config, folder, rollbacks
        ),  # the first: none of the others sees what is no number
        ModelCheckpoint(
            dirpath=checkpoints,
            filename="best",
            monitor=config.monitor,
            mode=config.monitor_mode,
            enable_version_counter=False,
        ),
        # Not the first one's `save_last`: that keeps the last epoch that was better than before.
        ExactCheckpoint(config, checkpoints, **last_checkpoint),
        GradNormMonitor(),
        Throughput(),
        ValidationHistory(),
        PredictionCollector(),
    ]
    if config.patience is not None:
        callbacks.append(
            EarlyStopping(config.monitor, mode=config.monitor_mode, patience=config.patience)
        )
    if config.gradient_flow is not None:
        callbacks.append(GradientFlow(config.gradient_flow, folder / "gradient_flow.csv"))
    if config.enable_progress_bar:
        of = f"{folder.name}: " if is_one_of_many() else ""
        in_terminal = has_own_terminal()
        callbacks.append(TQDMProgressBar(refresh_rate=10) if in_terminal else EpochPrinter(of))
    return callbacks


def is_one_of_many() -> bool:
    """Whether other runs print to the same place at the same time."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return hydra is not None and hydra.runtime.choices.get("hydra/launcher") == "joblib"


def has_own_terminal() -> bool:
    """Whether there is a place to draw a progress bar."""
    return sys.stderr.isatty() and not is_one_of_many()


Wanted = TypeVar("Wanted", bound=Callback)


def find_callback(trainer: L.Trainer, kind: type[Wanted]) -> Wanted:
    """Return the trainer's callback of that class."""
    return next(c for c in trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]
