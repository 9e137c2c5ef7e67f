"""Validate, save and test the exponential moving average of the weights over the steps.

Lightning's EMAWeightAveraging averages buffers too, which would mix the thresholds of several
validations, has no warm-up, and averages one weight after another.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

_TRAINED = "trained"  # key of the callback's state: the weights that the optimizer moves


class WeightAverage(Callback):
    """Average the weights over the steps of the optimizer (Polyak and Juditsky 1992).

    After step t, counted from 0, the average is d_t a_{t-1} + (1 - d_t) w_t, as of Tarvainen and
    Valpola (2017, "Mean teachers are better role models", equation 1), with
    d_t = min(decay, (1 + t) / (10 + t)): the first weights, which have learned nothing, are
    forgotten within a few steps. Validation sees the averages, and they are the `state_dict` of
    each checkpoint. The weights that the optimizer moves are in the callback's state, from which a
    training resumes with the same bits. Buffers are not averaged.
    """

    state_key = "WeightAverage"

    def __init__(self, decay: float) -> None:
        """Forget the share 1 - `decay` of the average at each step; `decay` is above 0, below 1."""
        self._decay = decay
        self._averages: dict[str, Tensor] = {}  # by name of the weight
        self._trained: dict[str, Tensor] | None = None  # while the module has the averages
        self._step = 0  # of the optimizer, before which the averages are

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin with the weights of the module, or with the averages of its checkpoint."""
        self._averages = {
            name: self._averages.get(name, weight).detach().to(weight.device, copy=True)
            for name, weight in module.named_parameters()
        }

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Count from the step of the checkpoint."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Add the weights to the averages if the batch was the last one of a step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self._decay, self._step / (9 + self._step))
        weights = [weight.detach() for weight in module.parameters()]
        torch._foreach_lerp_([*self._averages.values()], weights, 1 - decay)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Let the module have the averages."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._trained = {n: w.detach().clone() for n, w in module.named_parameters()}
            _set_weights(module, self._averages)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Let the module have the weights that the optimizer moves, before anything is saved."""
        if self._trained is not None:
            _set_weights(module, self._trained)
            self._trained = None

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the averages as the weights of the network, and the others as the callback's."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        weights = checkpoint["state_dict"]
        trained = self._trained or {name: weights[name] for name in self._averages}
        checkpoint["state_dict"] = weights | self._averages
        checkpoint["callbacks"][self.state_key] = {_TRAINED: trained}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both in a resumed training; a checkpoint without averages is their first value.

        Raises:
            KeyError: a weight is missing.
            RuntimeError: a weight has another shape.
        """
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn == TrainerFn.FITTING and state is not None:
            names = [name for name, _ in module.named_parameters()]
            self._averages = {name: checkpoint["state_dict"][name] for name in names}
            trained = {name: state[_TRAINED][name] for name in names}
            module.load_state_dict(trained, strict=False)


@torch.no_grad()
def _set_weights(module: LightningModule, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into those of the module, whose optimizer keeps the same tensors."""
    for name, weight in module.named_parameters():
        weight.copy_(weights[name])
