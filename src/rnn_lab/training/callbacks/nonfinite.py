"""Detect a non-finite loss, gradient or weight within a step; stop, or roll back.

On a CPU the values of a step are checked when it is done. On an accelerator that would make every
step wait: they are copied to the CPU as the step ends, and checked when the next one has ended, or
before anything is validated or saved.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from rnn_lab.data.batches import Batch
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.samplers import replacement_batch
from rnn_lab.errors import UserError, WriteError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.gather import gather
from rnn_lab.training.rollback import (
    Rollback,
    RollbackRequestedError,
    excluded_batches,
    write_rollbacks,
)
from rnn_lab.training.trainer import find_callback

EXAMPLES = "nonfinite"  # folder within the output folder for the examples of a bad step
LR_FACTOR = 0.5  # a rollback multiplies the learning rate by it


class NonFiniteError(UserError):
    """The training diverged; the message says at which step, and what to do."""


@dataclass
class _Step:
    """The batches of an optimizer step, and which of its values are not finite."""

    step: int
    epoch: int
    batches: list[tuple[int, Batch]]
    is_bad: Tensor  # bool [batches + 1], on the CPU: the losses, and the gradient
    copied: Any = None  # a torch.cuda.Event: `is_bad` is valid from then on
    is_checked: bool = False


class NonFiniteGuard(Callback):
    """Stop or roll back a training with a non-finite loss, gradient, weight or validation loss.

    Data parallel processes decide together. With float16's loss scaling a gradient may overflow:
    torch skips that step and halves the scale. It is an error only when the scale is used up.
    """

    state_key = "NonFiniteGuard"

    def __init__(
        self, config: TrainerConfig, folder: Path, rollbacks: tuple[Rollback, ...] = ()
    ) -> None:
        """Guard the training of the run in `folder`, which has had those `rollbacks`."""
        self._may_roll_back = config.on_nonfinite == "rollback"
        self._max_rollbacks = config.max_rollbacks
        self._folder = folder
        self.rollbacks = rollbacks
        self._applied = 0  # rollbacks that the learning rate of the checkpoint includes
        self._accumulated: list[tuple[int, Batch, Tensor]] = []
        self._last: _Step | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Lower the learning rate for the rollbacks since the checkpoint was written."""
        factor = LR_FACTOR ** (len(self.rollbacks) - self._applied)
        if factor == 1:
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= factor
                group["initial_lr"] *= factor
        for schedule in trainer.lr_scheduler_configs:
            schedule.scheduler.base_lrs = [lr * factor for lr in schedule.scheduler.base_lrs]

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the step that the batch completes, or the one before."""
        self._accumulated.append((batch_idx, batch, outputs["loss"]))
        step = trainer.global_step - 1
        is_new = self._last is None or step != self._last.step
        is_whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_whole |= trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if step < 0 or not is_new or not is_whole:
            return
        self._check(trainer)
        is_bad = _non_finite([loss for _, _, loss in self._accumulated], module, trainer)
        batches = [(number, batch) for number, batch, _ in self._accumulated]
        self._accumulated = []
        self._last = _Step(step, trainer.current_epoch, batches, *_to_cpu(is_bad))
        if self._last.copied is None:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Check the last step before its epoch is validated."""
        self._check(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Let no non-finite validation loss select an epoch."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not loss.isfinite():
            self._fail(trainer, "the validation loss", [])

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let no non-finite weight into best.ckpt or last.ckpt."""
        self._check(trainer)
        found: list[bool] = []
        apply_to_collection(
            [checkpoint.get("state_dict"), checkpoint.get("optimizer_states")],
            (Tensor, float),
            lambda value: found.append(bool(torch.as_tensor(value).isfinite().all())),
        )
        if not all(found):
            self._fail(trainer, "a weight", self._last.batches if self._last else [])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the rollbacks that its learning rate includes."""
        return {"rollbacks": len(self.rollbacks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a resumed training."""
        self._applied = state_dict["rollbacks"]

    def _check(self, trainer: Trainer) -> None:
        """Check the last step."""
        step = self._last
        if step is None or step.is_checked:
            return
        step.is_checked = True
        if step.copied is not None:
            step.copied.synchronize()
        *losses, gradient = step.is_bad.tolist()
        if any(losses):
            batches = [b for b, is_bad in zip(step.batches, losses, strict=True) if is_bad]
            self._fail(trainer, "the loss", batches, (step.step, step.epoch))
        elif gradient:
            self._fail(trainer, "the gradient", step.batches, (step.step, step.epoch))

    def _fail(
        self,
        trainer: Trainer,
        what: str,
        batches: list[tuple[int, Batch]],
        at: tuple[int, int] | None = None,
    ) -> NoReturn:
        """Save the examples of `batches`, and stop or roll back because of step and epoch `at`."""
        step, epoch = at or (trainer.global_step - 1, trainer.current_epoch)
        excluded = {n for n_epoch, n in excluded_batches(self.rollbacks) if n_epoch == epoch}
        count = len(trainer.train_dataloader)  # type: ignore[arg-type]
        numbers = tuple(replacement_batch(number, excluded, count) for number, _ in batches)
        where = f", batch {', '.join(map(str, numbers))}" if numbers else ""
        why = f"{what} is not finite at step {step} (epoch {epoch}{where})"
        if batches:
            why += f"; its examples: {self._save_examples(trainer, step, epoch, batches)}"
        if not self._may_roll_back and step == 0 and what == "the loss":
            raise NonFiniteError(
                f"{why}. The weights are still those of the start: look for the cause in the "
                "options of model, loss and data.vectors, or in a plugin"
            )
        if not self._may_roll_back:
            raise NonFiniteError(
                f"{why}. Lower optimizer.lr, or clip by trainer.gradient_clip_val; or set "
                "trainer.on_nonfinite=rollback to resume from the last good checkpoint with half "
                "the learning rate and without that batch"
            )
        if len(self.rollbacks) >= self._max_rollbacks:
            raise NonFiniteError(
                f"{why}. It was rolled back {self._max_rollbacks} times (trainer.max_rollbacks). "
                "Lower optimizer.lr, or clip by trainer.gradient_clip_val"
            )
        saved = find_callback(trainer, ExactCheckpoint).saved_step
        rollbacks = (*self.rollbacks, Rollback(step, epoch, numbers, saved, why))
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_rollbacks(self._folder, rollbacks)
        raise RollbackRequestedError(rollbacks)

    def _save_examples(
        self, trainer: Trainer, step: int, epoch: int, batches: list[tuple[int, Batch]]
    ) -> str:
        """Write a line of JSON for each example of the batches; return where they are."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        mine = [
            {"step": step, "epoch": epoch, "batch": number, **example}
            for number, batch in batches
            for example in _describe_examples(batch, data)
        ]
        of_ranks = gather(trainer, mine)
        path = self._folder / EXAMPLES / f"step{step}.jsonl"
        try:
            if trainer.is_global_zero:
                with atomic_write(path) as file:
                    for example in (example for of_rank in of_ranks for example in of_rank):
                        file.write(json.dumps(example, ensure_ascii=False) + "\n")
        except WriteError as error:
            return f"not saved ({error})"
        return str(path)


def _non_finite(losses: list[Tensor], module: Any, trainer: Trainer) -> Tensor:
    """Return which losses are not finite, and whether the gradient is not: bool [losses + 1]."""
    gradient = ~module.gradient_norm.isfinite()
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision) and (scaler := plugin.scaler) is not None:
        # Private: get_scale() would make every step wait for the GPU. tests/training/
        # test_lightning_private.py fails when this changes.
        gradient = gradient & (scaler._get_scale_async() <= 1)  # type: ignore[operator]
    is_bad = torch.stack([*(~loss.isfinite() for loss in losses), gradient])
    if trainer.world_size > 1:
        agreed = is_bad.to(torch.uint8)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
        is_bad = agreed.bool()
    return is_bad


def _to_cpu(is_bad: Tensor) -> tuple[Tensor, Any]:
    """Return `is_bad` on the CPU, and the event after which it is valid; None: it is now."""
    if is_bad.device.type != "cuda":
        return is_bad.cpu(), None
    copy = torch.empty(is_bad.shape, dtype=is_bad.dtype, pin_memory=True)
    copy.copy_(is_bad, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return copy, copied


def _label_of(label: int | list[int], data: TextDataModule) -> dict[str, Any]:
    if isinstance(label, int):
        return {"label": data.class_names[label]}
    return {"labels": list(itertools.compress(data.class_names, label))}


def _describe_examples(batch: Batch, data: Any) -> Iterator[dict[str, Any]]:
    """Yield where each example of a training batch came from and its text, where known."""
    rows, labels = batch.indices.tolist(), batch.labels.tolist()
    if isinstance(data, TextDataModule) and data.use_labels:  # unlabelled texts have no names
        texts = data.training_texts(rows)
        for row, label, (name, text) in zip(rows, labels, texts, strict=True):
            yield {"row": row, "name": name} | _label_of(label, data) | {"text": text}
        return
    tokens, lengths = batch.tokens.tolist(), batch.lengths.tolist()
    for row, label, ids, length in zip(rows, labels, tokens, lengths, strict=True):
        yield {"row": row, "label": label, "tokens": ids[:length]}
