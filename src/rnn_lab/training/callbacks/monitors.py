"""Callbacks that watch a run: gradients, throughput, validation metrics, test predictions."""

import time
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lab.data.progress import ProgressLines
from rnn_lab.models.evaluation import in_split_order
from rnn_lab.runs.metrics import GRAD_NORM, LEARNING_RATE
from rnn_lab.training.gather import gather


class GradNormMonitor(Callback):
    """Log `lr`, and `grad_norm`: the L2 norm of the whole gradient before it is clipped."""

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure on the steps that loggers record alone: it reads every gradient."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
            lr = optimizer.param_groups[0]["lr"]
            metrics = {LEARNING_RATE: lr, GRAD_NORM: torch.stack(norms).norm()}
            module.log_dict(metrics, on_step=True, on_epoch=False)


class Throughput(Callback):
    """Count examples and seconds of training steps; log `train/examples_per_second` per epoch."""

    state_key = "Throughput"

    def __init__(self) -> None:
        self.examples, self.seconds = 0, 0.0
        self.epoch_examples, self.epoch_seconds = 0, 0.0

    @property
    def examples_per_s(self) -> float | None:
        """The mean over all epochs, without validation; None where nothing was trained."""
        return round(self.examples / self.seconds, 1) if self.seconds else None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Restart the clock in an epoch that has begun."""
        self._start = time.perf_counter() - self.epoch_seconds

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self.epoch_examples, self.epoch_seconds = 0, 0.0
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock after each batch, since validation follows the last one."""
        self.epoch_examples += len(batch.labels) * trainer.world_size
        self.epoch_seconds = time.perf_counter() - self._start

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock again after a validation within the epoch."""
        if not trainer.sanity_checking:
            self._start = time.perf_counter() - self.epoch_seconds

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Add the epoch to the totals and log its throughput."""
        self.examples += self.epoch_examples
        self.seconds += self.epoch_seconds
        speed = self.epoch_examples / self.epoch_seconds
        module.log("train/examples_per_second", speed, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        names = ("examples", "seconds", "epoch_examples", "epoch_seconds")
        return {name: getattr(self, name) for name in names}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the counts of a resumed training; a test of a checkpoint leaves them alone."""
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn == TrainerFn.FITTING and state is not None:
            vars(self).update(state)


class ValidationHistory(Callback):
    """Keep the val/ metrics of each validation, so that those of the best one are known.

    `by_step` has them by the optimizer steps before the validation.
    """

    state_key = "ValidationHistory"

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep the metrics of one validation."""
        if trainer.sanity_checking:
            return
        found = trainer.callback_metrics.items()
        metrics = {name: float(value) for name, value in found if name.startswith("val/")}
        self.by_step[trainer.global_step] = metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the best epoch may be one before the interruption."""
        return {"by_step": self.by_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the metrics of a resumed training."""
        self.by_step = state_dict["by_step"]


class EpochPrinter(Callback):
    """Print a line per epoch, where there is no terminal for a progress bar.

    In an epoch of minutes, a line now and then says how much of it is done.
    """

    def __init__(self, prefix: str = "", monitor: str = "val/accuracy") -> None:
        """Begin each line with `prefix`, where several runs print at the same time.

        `monitor`, the metric that selects the epoch, is printed beside accuracy and loss.
        """
        self._prefix, self._monitor = prefix, monitor

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock in an epoch that has begun."""
        self.on_train_epoch_start(trainer, module)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock of the lines within the epoch."""
        self._is_validated = False
        self._lines = ProgressLines(self._epoch(trainer), trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print how much of the epoch is done, if it is time for a line."""
        if trainer.is_global_zero:
            self._lines.update(batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Know that there are metrics of this epoch."""
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Print the metrics of the epoch; where it was not validated, those of training alone."""
        if trainer.is_global_zero:
            usual = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/perplexity")
            names = dict.fromkeys((*usual, self._monitor))
            if not self._is_validated:
                names = {name: None for name in names if not name.startswith("val/")}
            known = {n: trainer.callback_metrics[n] for n in names if n in trainer.callback_metrics}
            metrics = ", ".join(f"{name} {value:.4f}" for name, value in known.items())
            print(f"{self._epoch(trainer)}: {metrics}", flush=True)

    def _epoch(self, trainer: Trainer) -> str:
        epochs = trainer.max_epochs
        last = "" if epochs is None or epochs == -1 else f" (last {epochs - 1})"
        return f"{self._prefix}epoch {trainer.current_epoch}{last}"


class PredictionCollector(Callback):
    """Keep the predictions of the test split.

    After `trainer.test`, `indices` [examples], `probabilities` [examples, classes] and `losses`
    [examples] hold every example once, in the order of the split, on every rank.
    """

    is_complete = False

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Drop the predictions of an earlier test."""
        self._batches: list[dict[str, np.ndarray]] = []

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the predictions of one batch; a language model has none."""
        if outputs is None:
            return
        kept = ("indices", "probabilities", "loss")
        self._batches.append({name: outputs[name].cpu().numpy() for name in kept})

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Gather the batches of all ranks in the order of the split."""
        batches = [batch for of_rank in gather(trainer, self._batches) for batch in of_rank]
        if not batches:
            return
        found = in_split_order(batches)
        self.indices, self.losses = found["indices"], found["loss"]
        self.probabilities = found["probabilities"]
        self.is_complete = True
