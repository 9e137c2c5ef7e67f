"""best.ckpt: the weights of the epoch that validation selects."""

import logging
import math
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from rnn_lab.training.checkpoint_io import BEST_STATE

log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Write best.ckpt, the weights of the epoch with the best `monitor`.

    Of epochs that are equal in it, the best is the one with the lowest val/loss: on few validation
    texts an accuracy is often reached again by a network that is surer of its labels.
    """

    state_key = BEST_STATE  # the same for every monitor

    def __init__(self, checkpoint_dir: Path, monitor: str, mode: str) -> None:
        # Not `save_last`: that keeps the last epoch that was better than those before.
        super().__init__(
            checkpoint_dir, "best", monitor=monitor, mode=mode, enable_version_counter=False
        )
        self._is_reported = False
        self._loss = math.inf  # val/loss of the best epoch
        self.epoch = self.step = 0  # of best.ckpt: its epoch, and the optimizer steps before it

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return whether this epoch is better than the best one so far."""
        if super().check_monitor_top_k(trainer, current):
            return True
        loss = trainer.callback_metrics.get("val/loss")
        if current is None or loss is None or self.best_model_score is None:
            return False
        is_better = bool(current == self.best_model_score) and bool(loss < self._loss)
        return trainer.strategy.reduce_boolean_decision(is_better)

    def _update_best_and_save(
        self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        # Private: Lightning calls nothing else exactly when an epoch is the best one so far.
        # tests/training/callbacks/test_exact_checkpoint.py fails when it no longer calls this.
        self.epoch, self.step = trainer.current_epoch, trainer.global_step
        super()._update_best_and_save(current, trainer, monitor_candidates)
        self._loss = float(trainer.callback_metrics.get("val/loss", math.inf))

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, and of the best epoch its number, steps and val/loss."""
        found = {"epoch": self.epoch, "step": self.step, "loss": self._loss}
        return super().state_dict() | found

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the weights of a better epoch; warn once where the metric is NaN."""
        super().on_validation_end(trainer, module)
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(str(self.monitor))
        if value is not None and value.isnan() and not self._is_reported:
            self._is_reported = True
            if not trainer.is_global_zero:
                return
            log.warning(
                "trainer.monitor=%s is nan in epoch %d: an epoch without a number is not selected",
                *(self.monitor, trainer.current_epoch),
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a resumed training, also where its folder was moved."""

        def moved(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        state = state_dict | {name: moved(state_dict[name]) for name in paths}
        state["dirpath"] = self.dirpath
        state["best_k_models"] = {moved(k): v for k, v in state["best_k_models"].items()}
        super().load_state_dict(state)
        # A test does not need them, and saved_run.py refuses a last.ckpt without them.
        self.epoch, self.step = state.get("epoch", 0), state.get("step", 0)
        self._loss = state.get("loss", math.inf)
        self.current_score = state["current_score"]  # which it forgets
