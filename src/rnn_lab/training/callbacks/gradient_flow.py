"""Measure during training how far back the gradient reaches; write gradient_flow.csv."""

import copy
import csv
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import atomic_write
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.trace import GradientNorms, gradient_norms

EXAMPLES = 32  # of the training split, the same ones at every measurement
LOGGED_DISTANCES = (0, 1, 10, 100, 1000)


class GradientFlow(Callback):
    """Measure the norm of dL/dh_t by distance from the end, on a few training examples.

    A copy of the classifier is measured, in float64 on the CPU and without dropout: the training
    has the same bits as without this callback.
    """

    state_key = "GradientFlow"

    def __init__(self, when: Literal["epoch"] | int, path: Path) -> None:
        """Measure at the start, and after each epoch or every `when` steps and at the end.

        Args:
            when: "epoch", or a number of optimizer steps.
            path: of the CSV, rewritten with each measurement.
        """
        self._when = when
        self._path = path
        self._rows: list[tuple[Any, ...]] = []
        self._measured_at: int | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure the untrained model."""
        if self._measured_at is None:
            self._measure(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Measure every so many steps."""
        if self._when != "epoch" and trainer.global_step % self._when == 0:
            self._measure(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure after each epoch."""
        if self._when == "epoch":
            self._measure(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure the trained model."""
        self._measure(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: how many rows of the CSV a resumed run keeps."""
        return {"measured_at": self._measured_at, "rows": len(self._rows)}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the rows of a resumed training."""
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn != TrainerFn.FITTING or state is None:
            return
        self._measured_at = state["measured_at"]
        if state["rows"]:
            with self._path.open(encoding="utf-8", newline="") as file:
                self._rows = [tuple(row) for row in csv.reader(file)][1 : state["rows"] + 1]

    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero or self._measured_at == trainer.global_step:
            return
        self._measured_at = step = trainer.global_step
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TextDataModule) and isinstance(module, TextClassifier)
        probe = data.sample_evenly("train", EXAMPLES)
        classifier = copy.deepcopy(module.classifier).to("cpu", torch.float64)
        with torch.autocast("cpu", enabled=False):
            measured = gradient_norms(classifier, probe.tokens, probe.lengths, probe.labels)
        for one in measured:
            direction = "backward" if one.backward else "forward"
            columns = zip(one.norms.tolist(), one.sequences.tolist(), strict=True)
            self._rows += [
                (step, one.layer, direction, distance, norm, sequences)
                for distance, (norm, sequences) in enumerate(columns)
            ]
        with atomic_write(self._path, newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("step", "layer", "direction", "distance", "norm", "examples"))
            writer.writerows(self._rows)
        for logger in trainer.loggers:
            logger.log_metrics(_metrics(measured), step)


def _metrics(measured: list[GradientNorms]) -> dict[str, float]:
    """Return the norms at a few distances, to be drawn as curves over the training steps."""
    return {
        f"gradient_flow/layer{one.layer}{'_backward' if one.backward else ''}/distance_{distance}":
        float(one.norms[distance])
        for one in measured
        for distance in LOGGED_DISTANCES
        if distance < len(one.norms)
    }  # fmt: skip
