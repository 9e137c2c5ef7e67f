"""last.ckpt: all that a training needs to resume exactly.

It is written before the first step of an epoch, at intervals before later ones, and at the end.
Between two steps nothing is in flight: the metrics of the step before are in metrics.csv, no
gradient has been accumulated, and no random number of the next step has been drawn.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.apply_func import apply_to_collection

from rnn_lab.runs.run_folder import LAST
from rnn_lab.tracking.metrics_csv import MetricsCsv
from rnn_lab.training.checkpoint_io import RESUME, ResumePoint
from rnn_lab.training.gather import gather
from rnn_lab.training.rng_state import rng_state, set_rng_state
from rnn_lab.training.signals import PREEMPTION_SIGNALS, GracefulShutdown
from rnn_lab.training.spec import RunSpec


class ExactCheckpoint(Checkpoint):
    """Write last.ckpt, and restore in a resumed training what Lightning does not.

    That is: the random number generators, the metrics that are means over an unfinished epoch, the
    number of logged steps, and that a callback has asked for the end, now or after
    `trainer.min_epochs`.
    """

    def __init__(
        self,
        spec: RunSpec,
        metadata: Mapping[str, Any],
        resume_point: ResumePoint | None,
        shutdown: GracefulShutdown,
    ) -> None:
        """Write to the folder of `spec`, as often as it says.

        Args:
            spec: of the run.
            metadata: of the run, in plain types; saved in the checkpoint.
            resume_point: the checkpoint that the training resumes from; None: it starts over.
            shutdown: receives the signals that ask the training to stop.
        """
        config = spec.config.trainer
        self.path = spec.checkpoint_dir / LAST
        self.saved_step = 0  # optimizer steps before the saved last.ckpt; 0: none, or the start
        self._every_n_steps = config.checkpoint_every_n_steps
        self._every_seconds = (config.checkpoint_every_n_minutes or math.inf) * 60
        # A longer patience may have no need of the end that a shorter one has asked for.
        self._ignores_stop = resume_point is not None and (
            resume_point.extends or "trainer.patience" in resume_point.changed
        )
        # Also where the further epochs were interrupted. A copy is not all that is left of its run.
        self._is_extension = resume_point is not None and (
            (resume_point.extends and not resume_point.is_copy)
            or resume_point.state.get("extends", False)
        )
        self._metadata = dict(metadata)
        self._resume_state = resume_point.state if resume_point else None
        self._shutdown = shutdown
        self._metric_sums: dict[str, Any] = {}
        self._before_validation: dict[str, Any] | None = None
        before = self._resume_state["seconds"] if self._resume_state else 0.0
        self._started = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """The seconds of the run, with those before an interruption that were not lost."""
        return time.perf_counter() - self._started

    @property
    def is_restoring(self) -> bool:
        """Whether a resumed training has not yet restored all of its checkpoint."""
        return self._resume_state is not None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Convert the module to `trainer.precision` before Lightning restores its weights.

        Lightning does so after that, which would round saved float64 weights to float32.
        """
        trainer.precision_plugin.convert_module(module)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start to count steps and minutes, and to check for signals."""
        self.saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._shutdown.deferred = True
        self._group = None
        if trainer.world_size > 1 and torch.distributed.get_backend() != "gloo":
            # CPUs exchange the signals: each step would have to wait for a GPU.
            self._group = torch.distributed.new_group(backend="gloo")

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore, or save where that is due, and stop where a signal asks for it."""
        accumulate = trainer.accumulate_grad_batches
        if self._resume_state is not None:
            mine = self._resume_state["ranks"][trainer.global_rank]
            set_rng_state(mine["rng_state"])
            if self._resume_state["training_complete"]:
                # What the data loader drew before this epoch, from a state that is replaced now.
                torch.empty((), dtype=torch.int64).random_()
            self._metric_sums, self._resume_state = mine["metric_sums"], None
            # Private: the `step` of the loggers, which Lightning counts once more where it resumes
            # after a validation. tests/training/test_lightning_private.py fails when this changes.
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._logged_steps
        elif batch_idx % accumulate == 0:
            self._before_validation = None
            if trainer.global_step:
                signum, late = self._agree(trainer)
                if self._is_due(trainer, batch_idx, at_once=late or signum is not None):
                    self._save(trainer, batch_idx)
                self._raise(signum)
            if _is_validated_after(trainer, batch_idx):
                self._remember(trainer, batch_idx)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Add the sums of the epoch's means before the interruption to those of the first step."""
        for name, (value, count) in self._metric_sums.items():
            mean = _epoch_means(trainer)[name]
            mean.value = value.to(mean.value.device) + mean.value
            mean.cumulated_batch_size = count.to(mean.value.device) + mean.cumulated_batch_size
        self._metric_sums = {}

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the trained weights."""
        self._save(trainer, 0, training_complete=True)
        signum = self._agree(trainer)[0]
        self._shutdown.deferred = False
        self._raise(signum)

    def on_validation_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Stop in validation too, which may take long: the run resumes before the last step."""
        if trainer.sanity_checking:
            return  # a signal is not deferred yet
        signum = self._agree(trainer)[0]
        if signum is not None and self._before_validation is not None:
            self._write(trainer, self._before_validation)
        self._raise(signum)

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop at once where the training was complete."""
        if trainer.state.fn == TrainerFn.FITTING:
            state = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]
            self._logged_steps = state["_batches_that_stepped"]
            state = checkpoint[RESUME]
            stopped = state["training_complete"] or state.get("should_stop", False)
            trainer.should_stop = stopped and not self._ignores_stop

    def _is_due(self, trainer: Trainer, batch_idx: int, *, at_once: bool) -> bool:
        step = trainer.global_step
        if step == self.saved_step:
            return False
        every = self._every_n_steps
        return batch_idx == 0 or at_once or (every is not None and step % every == 0)

    def _agree(self, trainer: Trainer) -> tuple[int | None, bool]:
        """Return a signal that one of the processes has received, and whether saving is due.

        All processes return the same and stop in the same step: otherwise they would wait for each
        other.
        """
        signum = self._shutdown.received or 0
        late = trainer.is_global_zero and time.monotonic() - self._saved_at >= self._every_seconds
        if trainer.world_size > 1:
            # A preemption signal takes precedence over SIGTERM, which some clusters send too.
            mine = torch.tensor([signum, signum * (signum in PREEMPTION_SIGNALS), int(late)])
            torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX, group=self._group)
            any_signal, preemption, any_late = mine.tolist()
            signum, late = preemption or any_signal, bool(any_late)
        return signum or None, late

    def _raise(self, signum: int | None) -> None:
        if signum is not None:
            # Not before the checkpoint is saved: then a signal of its own would end this process.
            self._shutdown.received = signum
            self._shutdown.raise_received()

    def _remember(self, trainer: Trainer, batch: int) -> None:
        """Keep a copy of the checkpoint before a step after which Lightning validates.

        It does so before it calls this callback again. Where last.ckpt already is of that step,
        there is nothing to copy.
        """
        if trainer.global_step != self.saved_step:
            self._before_validation = apply_to_collection(
                self._content(trainer, batch), torch.Tensor, lambda one: one.to("cpu", copy=True)
            )

    def _save(self, trainer: Trainer, batch: int, *, training_complete: bool = False) -> None:
        self._write(trainer, self._content(trainer, batch, training_complete=training_complete))
        self.saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _write(self, trainer: Trainer, content: dict[str, Any]) -> None:
        if not getattr(trainer, "fast_dev_run", False):
            trainer.strategy.save_checkpoint(content, self.path)
        trainer.strategy.barrier(LAST)

    def _content(
        self, trainer: Trainer, batch: int, *, training_complete: bool = False
    ) -> dict[str, Any]:
        """Return the content of last.ckpt before batch number `batch` of the epoch."""
        mine = {"rng_state": rng_state(), "metric_sums": _metric_sums(trainer) if batch else {}}
        csv = next((logger for logger in trainer.loggers if isinstance(logger, MetricsCsv)), None)
        about = self._metadata | {
            "epoch": trainer.current_epoch,
            "batch_idx": batch,
            "training_complete": training_complete,
            "should_stop": trainer.should_stop,
            "extends": self._is_extension,
            "metrics_rows": csv.rows if csv and trainer.is_global_zero else 0,
            "seconds": self.seconds,
            "ranks": gather(trainer, mine),
        }
        # Private: no public method returns a checkpoint without writing it, and one of several
        # moments has to be kept in memory (_remember). tests/training/test_lightning_private.py
        # fails when Lightning changes it.
        content: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(False)
        content[RESUME] = about
        if not training_complete:
            _set_before_step(content["loops"]["fit_loop"], batch)
        if batch == 0:
            content["epoch"] -= 1  # the last one that its weights have seen
        return content


def _is_validated_after(trainer: Trainer, batch: int) -> bool:
    """Return whether the epoch ends or is validated in the step that begins with batch `batch`."""
    stop = batch + trainer.accumulate_grad_batches
    if stop >= trainer.num_training_batches:
        return True
    every = trainer.val_check_batch  # infinite without validation batches
    return every is not None and stop // every > batch // every


def _epoch_means(trainer: Trainer) -> Any:
    # Private: Lightning saves and restores these sums in no checkpoint within an epoch, and has no
    # public access to them. tests/training/test_lightning_private.py fails when this changes.
    return trainer.fit_loop.epoch_loop._results


def _metric_sums(trainer: Trainer) -> dict[str, Any]:
    """Return sum and number of examples of each mean over the unfinished training epoch."""
    return {
        name: (metric.value.cpu(), metric.cumulated_batch_size.cpu())
        for name, metric in _epoch_means(trainer).items()
        if name.startswith("training_step.") and metric.meta.on_epoch
    }


def _set_before_step(loops: dict[str, Any], batch: int) -> None:
    """Set Lightning's counters to before the step that it is about to take; before an epoch's first
    step, to before the epoch, which it then starts as any other."""
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    batches["is_last_batch"] = False
    for scope in ("total", "current"):
        batches[scope]["ready"] = batches[scope]["completed"]
        if batch == 0:
            epochs[scope]["ready"] = epochs[scope]["started"] = epochs[scope]["completed"]
