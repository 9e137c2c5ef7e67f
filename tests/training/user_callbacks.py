"""Callbacks that runs of the tests name. Importing a module of tests would take a run a second."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch


class CountSteps(L.Callback):
    """Count the optimizer steps of a run, with those before an interruption."""

    def __init__(self, file: str) -> None:
        self.file, self.steps = file, 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1

    def on_train_end(self, *_: Any) -> None:
        Path(self.file).write_text(str(self.steps))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]


class KeepFirst(L.Callback):
    """Keep the folder of a run as it is in its second epoch."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        folder = Path(trainer.default_root_dir)
        if trainer.current_epoch == 1 and not folder.with_name("again").exists():
            shutil.copytree(folder, folder.with_name("again"))


class RollBack(L.Callback):
    """Make a gradient infinite in the step with that number, once in a run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        is_first = not Path(trainer.default_root_dir, "rollbacks.json").exists()
        if is_first and trainer.global_step == self.step:
            module.classifier.linear.bias.grad[0] = torch.inf


class LimitBatch(L.Callback):
    """Run out of memory in a training batch of more texts than that."""

    def __init__(self, texts: int) -> None:
        self.texts = texts

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if len(batch.labels) > self.texts:
            torch.empty(2**50)
