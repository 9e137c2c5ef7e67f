"""Let only the new layers of a network learn in the first epochs."""

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

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of the frozen weights, before the gradient is measured and clipped."""
        if trainer.current_epoch >= self._epochs:
            return
        assert isinstance(module, RecurrentModule)
        frozen: list[nn.Module] = [module.network.embedding]
        frozen += [module.network.recurrent] if self._recurrent else []
        for layer in frozen:
            for weight in layer.parameters():
                weight.grad = None
