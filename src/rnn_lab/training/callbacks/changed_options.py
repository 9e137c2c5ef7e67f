"""Let the options of a resumed training be those of its run, where its checkpoint has others."""

from collections.abc import Iterable
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import LambdaLR

_RATES = {"name", "lr", "vectors_lr_factor", "layer_lr_decay"}  # of the group `optimizer`


class ChangedOptions(Callback):
    """Apply the options of optimizer, schedule and patience that Lightning would restore.

    It comes before the callbacks that start from the learning rate, such as NonFiniteGuard.
    """

    def __init__(self, names: Iterable[str], stopping: EarlyStopping | None) -> None:
        """Apply the options `names`; `stopping` is the callback of `trainer.patience`."""
        self._names = set(names)
        self._groups = {name.partition(".")[0] for name in self._names}
        self._stopping = stopping
        self._configured: list[list[dict[str, Any]]] = []  # of each optimizer, by its groups

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Replace the patience, which is in the state of early stopping."""
        if self._stopping is None or trainer.state.fn != TrainerFn.FITTING:
            return
        if state := checkpoint["callbacks"].get(self._stopping.state_key):
            state["patience"] = self._stopping.patience

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Remember the optimizer's options, which those of the checkpoint are about to replace."""
        self._configured = [
            [{name: value for name, value in group.items() if name != "params"} for group in groups]
            for groups in (optimizer.param_groups for optimizer in trainer.optimizers)
        ]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Apply the options of optimizer and schedule."""
        if not self._groups & {"optimizer", "scheduler", "trainer"}:
            return
        changed = {name.partition(".")[2] for name in self._names if name.startswith("optimizer.")}
        has_new_rate = bool(changed & _RATES)
        # Rollbacks have lowered the rate of the checkpoint: it is replaced only by a new one.
        keys = changed - {"lr"} | ({"lr", "initial_lr"} if has_new_rate else set())
        for optimizer, configured in zip(trainer.optimizers, self._configured, strict=True):
            for group, options in zip(optimizer.param_groups, configured, strict=True):
                group.update({name: options[name] for name in keys & options.keys()})
        for one in trainer.lr_scheduler_configs:
            schedule = one.scheduler
            assert isinstance(schedule, LambdaLR)
            groups = schedule.optimizer.param_groups
            if has_new_rate:
                schedule.base_lrs = [group["initial_lr"] for group in groups]
            for group, lr, share in zip(
                groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
            ):
                group["lr"] = lr * share(schedule.last_epoch)
