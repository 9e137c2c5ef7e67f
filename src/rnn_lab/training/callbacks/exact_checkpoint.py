"""last.ckpt: all that a training needs to go on exactly where it was.

It is written before the first step of an epoch, now and then before a later one, and at the end.
Between two steps nothing is in flight: the figures of the step before stand in metrics.csv, no
gradient has begun to be gathered, and no random number of the next step is drawn.
"""

import math
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.apply_func import apply_to_collection

from rnn_lab.tracking.metrics_csv import MetricsCsv
from rnn_lab.training.checkpoint_io import LAST
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.rng_state import random_state, set_random_state
from rnn_lab.training.signals import PREEMPTION_SIGNALS, GracefulShutdown

RESUME = "resume"  # the key of a checkpoint under which stands what Lightning does not keep


class ExactCheckpoint(Checkpoint):
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
        signals: GracefulShutdown | None = None,
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
        self._before_last_step: dict[str, Any] | None = None
        self._signals = signals or GracefulShutdown()
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
        """Begin to count steps and minutes, and to look for signals."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._signals.kept = True
        self._group = None
        if trainer.world_size > 1 and torch.distributed.get_backend() != "gloo":
            # Processors agree on signals: a GPU would have to be waited for at each step.
            self._group = torch.distributed.new_group(backend="gloo")

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore, or save where it is time to, and stop where a signal asks for it."""
        accumulate = trainer.accumulate_grad_batches
        if self._resumed is not None:
            mine = self._resumed["ranks"][trainer.global_rank]
            set_random_state(mine["random"])
            self._sums, self._resumed = mine["sums"], None
        elif batch_idx % accumulate == 0:
            self._before_last_step = None
            if trainer.global_step:
                signum, late = self._agree(trainer)
                if self._is_due(trainer, batch_idx, at_once=late or signum is not None):
                    self._save(trainer, batch_idx)
                self._raise(signum)
            if batch_idx + accumulate >= trainer.num_training_batches:
                self._remember(trainer, batch_idx)

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
        signum, _ = self._agree(trainer)
        self._signals.kept = False
        self._raise(signum)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here too, since validation may take long: to go on with the step before it."""
        signum, _ = self._agree(trainer)
        if signum is not None and self._before_last_step is not None:
            self._write(trainer, self._before_last_step)
        self._raise(signum)

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

    def _is_due(self, trainer: L.Trainer, batch_idx: int, *, at_once: bool) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        every = self._every_n_steps
        return batch_idx == 0 or at_once or (every is not None and step % every == 0)

    def _agree(self, trainer: L.Trainer) -> tuple[int | None, bool]:
        """Return a signal that one of the processes has received, and whether it is time to save.

        All processes return the same, to stop in the same step: else they would wait for each
        other.
        """
        signum = self._signals.received or 0
        every = math.inf if self._every_seconds is None else self._every_seconds
        late = trainer.is_global_zero and time.monotonic() - self._saved_at >= every
        if trainer.world_size > 1:
            # A queue's signal goes before SIGTERM, which some clusters send too.
            mine = torch.tensor(
                [signum, signum in PREEMPTION_SIGNALS and signum, late], dtype=torch.int64
            )
            torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX, group=self._group)
            any_signal, make_room, any_late = mine.tolist()
            signum, late = make_room or any_signal, bool(any_late)
        return signum or None, late

    def _raise(self, signum: int | None) -> None:
        if signum is not None:
            self._signals.received = signum
            self._signals.raise_received()

    def _remember(self, trainer: L.Trainer, batch: int) -> None:
        """Keep a copy of what would be written before the epoch's last step.

        After that step Lightning does not come here again before it has validated. Where the step
        has a last.ckpt already, there is nothing to copy.
        """
        if trainer.global_step != self._saved_step:
            self._before_last_step = apply_to_collection(
                self._content(trainer, batch), torch.Tensor, lambda one: one.to("cpu", copy=True)
            )

    def _save(self, trainer: L.Trainer, batch: int, *, trained: bool = False) -> None:
        self._write(trainer, self._content(trainer, batch, trained=trained))
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _write(self, trainer: L.Trainer, content: dict[str, Any]) -> None:
        trainer.strategy.save_checkpoint(content, self.path)
        trainer.strategy.barrier("last.ckpt")

    def _content(self, trainer: L.Trainer, batch: int, *, trained: bool = False) -> dict[str, Any]:
        """What last.ckpt is to hold before batch number `batch` of the epoch."""
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
            return trainer._checkpoint_connector.dump_checkpoint(False)
        finally:
            self._note = None


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
