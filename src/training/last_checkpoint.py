"""last.ckpt: all that a training needs to go on exactly where it was.

It is written before the first step of an epoch, now and then before a later one, and at the end.
Between two steps nothing is in flight: the figures of the step before stand in metrics.csv, no
gradient has begun to be gathered, and no random number of the next step is drawn.
"""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from src.training.checkpoint_file import LAST
from src.training.config import TrainerConfig
from src.training.interrupt import StopSignals
from src.training.metrics_csv import MetricsCsv
from src.training.random_state import random_state, set_random_state

RESUME = "resume"  # the key of a checkpoint under which stands what Lightning does not keep


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt, and in a resumed training restores what Lightning does not.

    That is: the random number generators, the figures that are means over an epoch which has
    begun, and that an early stop was the end.
    """

    def __init__(
        self,
        config: TrainerConfig,
        checkpoints: Path,
        *,
        about: dict[str, Any] | None = None,
        resumed: dict[str, Any] | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        """Write to the folder `checkpoints`.

        Args:
            config: says how often.
            checkpoints: of the run.
            about: the run, in plain types; kept in the checkpoint.
            resumed: what the checkpoint that the training goes on from has under RESUME.
            signals: that may ask the training to stop.
        """
        minutes = config.checkpoint_every_n_minutes
        self.path = checkpoints / LAST
        self._every_n_steps = config.checkpoint_every_n_steps
        self._every_seconds = None if minutes is None else minutes * 60
        self._about = about or {}
        self._resumed = resumed
        self._sums: dict[str, Any] = {}
        self._note: dict[str, Any] | None = None
        self._signals = signals or StopSignals()
        self._started = time.perf_counter() - (resumed["seconds"] if resumed else 0.0)

    @property
    def saved_step(self) -> int:
        """The step of the last.ckpt that there is; 0: there is none, or it is the start."""
        return self._saved_step

    @property
    def seconds(self) -> float:
        """That the run has taken, those before an interruption counted as far as they led."""
        return time.perf_counter() - self._started

    @property
    def is_restoring(self) -> bool:
        """Whether a training that goes on has not yet taken over all of its checkpoint."""
        return self._resumed is not None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to count steps and minutes."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._signals.trainer = trainer

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore, or save where it is time to."""
        if self._resumed is not None:
            mine = self._resumed["ranks"][trainer.global_rank]
            set_random_state(mine["random"])
            self._sums, self._resumed = mine["sums"], None
        elif trainer.global_step and batch_idx % trainer.accumulate_grad_batches == 0:
            if self._is_due(trainer, batch_idx):
                self._save(trainer, batch_idx)
            self._signals.raise_received()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add what the epoch's means had gathered to what the first step gave them."""
        for name, (value, count) in self._sums.items():
            mean = trainer.fit_loop.epoch_loop._results[name]
            mean.value = value.to(mean.value.device) + mean.value
            mean.cumulated_batch_size = count.to(mean.value.device) + mean.cumulated_batch_size
        self._sums = {}

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save what came out."""
        self._save(trainer, 0, trained=True)
        self._signals.trainer = None
        self._signals.raise_received()

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here too, with the last.ckpt that there is: validation may take long."""
        self._signals.raise_received()

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put into last.ckpt what Lightning leaves out, and its counters between two steps."""
        if self._note is None:
            return  # best.ckpt
        checkpoint[RESUME] = self._note
        if not self._note["trained"]:
            _step_not_begun(checkpoint["loops"]["fit_loop"], self._note["batch"])
        if self._note["batch"] == 0:
            checkpoint["epoch"] -= 1  # the last one that its weights have seen

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Be at the end where the training was; find the checkpoints where the folder is now."""
        if trainer.state.fn == TrainerFn.FITTING and checkpoint[RESUME]["trained"]:
            trainer.should_stop = True
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state is not None:
                _move(state, os.path.realpath(self.path.parent))
                callback.current_score = state["current_score"]  # which it forgets

    def _is_due(self, trainer: L.Trainer, batch_idx: int) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        if batch_idx == 0 or self._signals.received is not None:
            return True
        if self._every_n_steps is not None and step % self._every_n_steps == 0:
            return True
        if self._every_seconds is None:
            return False
        late = time.monotonic() - self._saved_at >= self._every_seconds
        return trainer.strategy.broadcast(late)

    def _save(self, trainer: L.Trainer, batch: int, *, trained: bool = False) -> None:
        mine = {"random": random_state(), "sums": _sums(trainer) if batch else {}}
        ranks = [mine]
        if trainer.world_size > 1:
            ranks = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(ranks, mine)
        csv = next((logger for logger in trainer.loggers if isinstance(logger, MetricsCsv)), None)
        self._note = self._about | {
            "epoch": trainer.current_epoch,
            "batch": batch,
            "trained": trained,
            "rows": csv.rows if csv and trainer.is_global_zero else 0,
            "seconds": self.seconds,
            "ranks": ranks,
        }
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._note = None
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()


def _sums(trainer: L.Trainer) -> dict[str, Any]:
    """What the means over the training epoch have gathered so far: sum and number of reviews."""
    return {
        name: (metric.value.cpu(), metric.cumulated_batch_size.cpu())
        for name, metric in trainer.fit_loop.epoch_loop._results.items()
        if name.startswith("training_step.") and metric.meta.on_epoch
    }


def _step_not_begun(loops: dict[str, Any], batch: int) -> None:
    """Set Lightning's counters to before the step that it is about to make; in an epoch's first,
    to before the epoch, which it then begins as any other."""
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    batches["is_last_batch"] = False
    for scope in ("total", "current"):
        batches[scope]["ready"] = batches[scope]["completed"]
        if batch == 0:
            epochs[scope]["ready"] = epochs[scope]["started"] = epochs[scope]["completed"]


def _move(state: dict[str, Any], folder: str) -> None:
    """Let a ModelCheckpoint's state speak of the checkpoints in `folder`."""

    def moved(path: str) -> str:
        return os.path.join(folder, os.path.basename(path)) if path else path  # noqa: PTH118, PTH119

    state["dirpath"] = folder
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])
    state["best_k_models"] = {moved(path): at for path, at in state["best_k_models"].items()}
