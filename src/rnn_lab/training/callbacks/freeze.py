"""Let only the new layers of a network learn in the first epochs."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from rnn_lab.models.recurrent_module import RecurrentModule


class FreezePretrained(Callback):
    """Keep the pretrained layers as they are in the first epochs.

    New layers start from random weights, and their first gradients would spoil what the layers
    below have learned (Howard and Ruder 2018, section 3.3). Frozen weights have no gradient:
    neither weight decay nor momentum moves them, and the optimizer keeps no moments of them.
    Whether they are frozen follows from the epoch alone, so that a resumed run does the same.
    """

    def __init__(self, epochs: int, *, recurrent: bool) -> None:
        """Freeze the embedding for `epochs`, and with `recurrent` the recurrent layers too."""
        self._epochs, self._recurrent = epochs, recurrent

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let the frozen weights need no gradient: the backward pass then ends above them."""
        # DistributedDataParallel waits for the gradient of every weight that it began with.
        if trainer.world_size == 1 and self._is_frozen(trainer):
            self._require_gradients(module, False)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Let the weights need gradients again, for whatever else differentiates the network."""
        if self._is_frozen(trainer):
            self._require_gradients(module, True)

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of the frozen weights, before the gradient is measured and clipped."""
        if self._is_frozen(trainer):
            for weight in self._weights(module):
                weight.grad = None

    def _is_frozen(self, trainer: Trainer) -> bool:
        return trainer.current_epoch < self._epochs

    def _require_gradients(self, module: LightningModule, required: bool) -> None:
        for weight in self._weights(module):
            weight.requires_grad_(required)

    def _weights(self, module: LightningModule) -> Iterator[nn.Parameter]:
        assert isinstance(module, RecurrentModule)
        yield from module.network.embedding.parameters()
        if self._recurrent:
            yield from module.network.recurrent.parameters()
