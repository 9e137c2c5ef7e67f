"""What the LightningModules of every network have in common: optimizer, clipping, metrics."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelPruning, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.models.embedding import Embedding, clip_params
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.optimizers import (
    build_optimizer,
    build_scheduler,
    clip_gradient,
    use_lazy_embedding,
)
from rnn_lab.validation import validate

# Callbacks that read or replace the weight of the embedding at any time.
_NEED_ALL_ROWS = ModelPruning, StochasticWeightAveraging, WeightAveraging


class RecurrentNetwork(Protocol):
    """A network that reads words: recurrent layers over an embedding."""

    embedding: Embedding
    recurrent: RecurrentLayer

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Take weights by name."""


class RecurrentModule(L.LightningModule):
    """The training of a recurrent network by the options of `optimizer` and `scheduler`.

    A subclass saves `vocab_size` among its hyper-parameters.
    """

    def __init__(
        self,
        optimizer: OptimizerConfig | Mapping[str, Any],
        scheduler: SchedulerConfig | Mapping[str, Any],
    ) -> None:
        """Validate the options.

        Raises:
            ConfigError: an option is unknown or impossible.
        """
        super().__init__()
        self.optimizer_config = validate(OptimizerConfig, dict(optimizer))
        self.scheduler_config = validate(SchedulerConfig, dict(scheduler))
        self.gradient_norm = torch.zeros(())  # of the last step, before it was clipped

    @property
    def network(self) -> RecurrentNetwork:
        """The network that is trained."""
        raise NotImplementedError

    @property
    def uses_sparse_embedding(self) -> bool:
        """Return what `optimizer.sparse_embedding` was resolved to, once training has begun."""
        return self.network.embedding.lazy_rows is not None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer, and a schedule that is stepped with it.

        Raises:
            ConfigError: an endless run whose schedule needs an end, or an impossible
                `sparse_embedding=true`.
        """
        schedule, trainer = self.scheduler_config, self.trainer
        endless = trainer.max_epochs == -1 and trainer.max_steps == -1
        if endless and (schedule.name != "constant" or schedule.warmup_ratio > 0):
            raise ConfigError(
                f"trainer.max_epochs=-1: scheduler={schedule.name} needs to know the end. "
                "Set trainer.max_epochs, or scheduler=constant with scheduler.warmup_ratio=0"
            )
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        lazy = use_lazy_embedding(
            self.optimizer_config,
            self.hparams["vocab_size"],
            device_type=trainer.strategy.root_device.type,
            precision=trainer.precision,
            needs_all_rows=isinstance(trainer.strategy, ParallelStrategy)
            or any(isinstance(callback, _NEED_ALL_ROWS) for callback in callbacks),
        )
        optimizer = build_optimizer(self.optimizer_config, self, lazy=lazy)
        scheduler = build_scheduler(schedule, optimizer, self._total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of a batch, each batch of a step with the same weight.

        Lightning divides every loss by `accumulate_grad_batches`, although the last step of an
        epoch may have fewer batches.
        """
        most, batch = self.trainer.accumulate_grad_batches, self.trainer.fit_loop.batch_idx
        left = self.trainer.num_training_batches - (batch - batch % most)
        super().backward(loss * (most / left) if left < most else loss, *args, **kwargs)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, by the norm of the whole gradient or by value; keep that norm."""
        if self.uses_sparse_embedding:
            parameters = clip_params(self.parameters())  # torch cannot clip a sparse gradient
        else:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradient_norm = clip_gradient(parameters, gradient_clip_val, gradient_clip_algorithm)

    def on_train_end(self) -> None:
        """Bring every row of the embedding up to date."""
        self.network.embedding.flush()

    def log_metrics(self, metrics: MetricCollection) -> None:
        """Log the metrics of a split, and start them again.

        Raises:
            ConfigError: one of the user's own computes more than one number.
        """
        # Already over the texts of all processes; sync_dist only avoids a warning of Lightning.
        for name, value in metrics.compute().items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ConfigError(f"metrics.{name.partition('/')[2]}: must compute one number")
            self.log(name, value, prog_bar=name.endswith(("accuracy", "loss")), sync_dist=True)
        metrics.reset()

    def _total_steps(self) -> float:
        # `estimated_stepping_batches` loads the training data if it is not loaded yet. Inside
        # configure_optimizers that is before a checkpoint is restored, and Lightning then never
        # gives a resumed data loader its state back (its issue 20550). So the schedule learns its
        # length at the first step: before, it needs its beginning only, the same for every length.
        if self.trainer.train_dataloader is None:
            return math.inf
        return self.trainer.estimated_stepping_batches
