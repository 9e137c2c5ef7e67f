"""A loss or gradient that is no finite number: found within a step, told, gone back from.

On the processor the figures of a step are looked at when it is done. On an accelerator that would
make every step wait: they are copied from there as the step ends, and looked at when the next one
has ended, or before anything is validated or saved.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.samplers import Batch, replacement_batch
from rnn_lab.errors import UserError, WriteError
from rnn_lab.io.atomic import atomic_write, write_json
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.rollbacks import ROLLBACKS, Rollback, RollbackRequestedError, excluded_batches

REVIEWS = "nonfinite"  # the folder in the run's for the reviews of what went wrong
LEARNING_RATE = 0.5  # by which a rollback multiplies it


class NonFiniteError(UserError):
    """The training has come to no finite number; the message says at which step, and what to do."""


@dataclass(frozen=True)
class _Step:
    """What a step of the optimizer was made of, and which of its figures are not finite."""

    step: int
    epoch: int
    batches: list[tuple[int, Batch]]
    wrong: Tensor  # bool [batches + 1], on the processor: of the losses, and of the gradient
    copied: Any = None  # a torch.cuda.Event: `wrong` is there from then on


class NonFiniteGuard(Callback):
    """Ends or turns back a training whose loss, gradient, weights or validation loss are no number.

    Data parallel, all processes come to the same verdict. With float16's loss scaling a gradient
    may overflow: that step is left out and the scale halved, by torch. It is wrong only where there
    is nothing left of the scale.
    """

    def __init__(
        self, config: TrainerConfig, folder: Path, rollbacks: tuple[Rollback, ...] = ()
    ) -> None:
        """Watch the training of the run in `folder`, which has been turned back so often."""
        self._may_go_back = config.on_nonfinite == "rollback"
        self._most = config.max_rollbacks
        self._folder = folder
        self.rollbacks = rollbacks
        self._known = 0  # rollbacks, to the checkpoint that the training goes on from
        self._gathered: list[tuple[int, Batch, Tensor]] = []
        self._last: _Step | None = None
        self._settled = True

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Lower the learning rate by what has happened since the checkpoint was written."""
        factor = LEARNING_RATE ** (len(self.rollbacks) - self._known)
        if factor == 1:
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= factor
                group["initial_lr"] *= factor
        for schedule in trainer.lr_scheduler_configs:
            schedule.scheduler.base_lrs = [lr * factor for lr in schedule.scheduler.base_lrs]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the step, where the batch completes one, or at the one before."""
        self._gathered.append((batch_idx, batch, outputs["loss"]))
        step = trainer.global_step - 1
        made = self._last is None or step != self._last.step
        if step < 0 or not made or not self._is_whole(trainer, batch_idx):
            return
        self._settle(trainer)
        assert isinstance(module, TextClassifier)
        wrong = _not_finite([loss for _, _, loss in self._gathered], module, trainer)
        batches = [(number, batch) for number, batch, _ in self._gathered]
        self._gathered, self._settled = [], False
        self._last = _Step(step, trainer.current_epoch, batches, *_to_processor(wrong))
        if self._last.copied is None:
            self._settle(trainer)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """No epoch is judged after a step that nobody has looked at."""
        self._settle(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """A validation loss that is no number chooses no epoch."""
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn == TrainerFn.FITTING and loss is not None and not loss.isfinite():
            self._end(trainer, "the validation loss", trainer.global_step - 1, [])

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Only what is finite is written, be it as best.ckpt or last.ckpt."""
        self._settle(trainer)
        kept = {name: checkpoint.get(name) for name in ("state_dict", "optimizer_states")}
        if not all(bool(tensor.isfinite().all()) for tensor in _tensors(kept)):
            batches = self._last.batches if self._last else []
            self._end(trainer, "a weight", trainer.global_step - 1, batches)

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint: the rollbacks that its learning rate has seen."""
        return {"rollbacks": len(self.rollbacks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come back from it."""
        self._known = state_dict["rollbacks"]

    def _is_whole(self, trainer: L.Trainer, batch_idx: int) -> bool:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def _settle(self, trainer: L.Trainer) -> None:
        """Look at the last step."""
        step = self._last
        if self._settled or step is None:
            return
        self._settled = True
        if step.copied is not None:
            step.copied.synchronize()
        *losses, gradient = step.wrong.tolist()
        if any(losses):
            batches = [b for b, wrong in zip(step.batches, losses, strict=True) if wrong]
            self._end(trainer, "the loss", step.step, batches, step.epoch)
        elif gradient:
            self._end(trainer, "the gradient", step.step, step.batches, step.epoch)

    def _end(
        self,
        trainer: L.Trainer,
        what: str,
        step: int,
        batches: list[tuple[int, Batch]],
        epoch: int | None = None,
    ) -> None:
        epoch = trainer.current_epoch if epoch is None else epoch
        numbers = self._told_apart(trainer, epoch, batches)
        where = f"step {step} (epoch {epoch}{', batch ' if numbers else ''}"
        where += f"{', '.join(map(str, numbers))})"
        why = f"{what} is no finite number at {where}"
        if batches:
            why += f"; its reviews: {self._save_reviews(trainer, step, epoch, batches)}"
        if not self._may_go_back:
            raise NonFiniteError(
                f"{why}. Lower optimizer.lr, or clip by trainer.gradient_clip_val; or say "
                "trainer.on_nonfinite=rollback, to go on from the last good checkpoint at half the "
                "learning rate and without that batch"
            )
        if len(self.rollbacks) >= self._most:
            raise NonFiniteError(
                f"{why}. It went back {self._most} times before (trainer.max_rollbacks). Lower "
                "optimizer.lr, or clip by trainer.gradient_clip_val"
            )
        saved = next(c for c in trainer.callbacks if isinstance(c, ExactCheckpoint)).saved_step  # type: ignore[attr-defined]
        rollbacks = (*self.rollbacks, Rollback(step, epoch, numbers, saved, why))
        if trainer.is_global_zero:
            write_json(self._folder / ROLLBACKS, {"rollbacks": [asdict(r) for r in rollbacks]})
        raise RollbackRequestedError(rollbacks)

    def _told_apart(
        self, trainer: L.Trainer, epoch: int, batches: list[tuple[int, Batch]]
    ) -> tuple[int, ...]:
        """The numbers of batches, of which one may have come in the place of another."""
        out = {number for at, number in excluded_batches(self.rollbacks) if at == epoch}
        count = len(trainer.train_dataloader)  # type: ignore[arg-type]
        return tuple(replacement_batch(number, out, count) for number, _ in batches)

    def _save_reviews(
        self, trainer: L.Trainer, step: int, epoch: int, batches: list[tuple[int, Batch]]
    ) -> str:
        """Write a line of JSON for each review of the batches; says where they are."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        mine = [
            {"step": step, "epoch": epoch, "batch": number, **review}
            for number, batch in batches
            for review in _described(batch, data)
        ]
        of_ranks: list[list[dict[str, Any]]] = [mine]
        if trainer.world_size > 1:
            of_ranks = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(of_ranks, mine)
        path = self._folder / REVIEWS / f"step{step}.jsonl"
        try:
            if trainer.is_global_zero:
                with atomic_write(path) as file:
                    for review in (review for reviews in of_ranks for review in reviews):
                        file.write(json.dumps(review, ensure_ascii=False) + "\n")
        except WriteError as error:
            return f"not kept ({error})"
        return str(path)


def _not_finite(losses: list[Tensor], module: TextClassifier, trainer: L.Trainer) -> Tensor:
    """Which losses are not finite, and whether the gradient is not, bool [losses + 1]."""
    gradient = ~module.gradient_norm.isfinite()
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision) and (scaler := plugin.scaler) is not None:
        gradient = gradient & (scaler._get_scale_async() <= 1)  # type: ignore[operator]
    wrong = torch.stack([*(~loss.isfinite() for loss in losses), gradient])
    if trainer.world_size > 1:
        agreed = wrong.to(torch.uint8)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
        wrong = agreed.bool()
    return wrong


def _to_processor(wrong: Tensor) -> tuple[Tensor, Any]:
    """`wrong` on the processor, and when it will have come there; None: it is there."""
    if wrong.device.type != "cuda":
        return wrong.cpu(), None
    copy = torch.empty(wrong.shape, dtype=wrong.dtype, pin_memory=True)
    copy.copy_(wrong, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return copy, copied


def _described(batch: Batch, data: Any) -> Iterator[dict[str, Any]]:
    """Where each review of a training batch came from and what it says, as far as that is known."""
    rows, labels = batch.indices.tolist(), batch.labels.tolist()
    if isinstance(data, TextDataModule):
        texts = data.training_texts(rows)
        for row, label, (name, text) in zip(rows, labels, texts, strict=True):
            yield {"row": row, "name": name, "label": data.class_names[label], "text": text}
        return
    tokens, lengths = batch.tokens.tolist(), batch.lengths.tolist()
    for row, label, ids, length in zip(rows, labels, tokens, lengths, strict=True):
        yield {"row": row, "label": label, "tokens": ids[:length]}


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        if content.is_floating_point():
            yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value)
    elif isinstance(content, float) and not math.isfinite(content):
        yield torch.tensor(content)
