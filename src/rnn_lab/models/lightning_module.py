"""The classifiers as LightningModules: what a step of training, validation and testing does."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from rnn_lab.errors import ConfigError
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig, OptimizerConfig, SchedulerConfig
from rnn_lab.models.embedding import clip_params
from rnn_lab.models.metrics import build_metrics
from rnn_lab.models.optimizers import build_optimizer, build_scheduler, use_lazy_embedding
from rnn_lab.validation import validate

if TYPE_CHECKING:
    from rnn_lab.data.samplers import Batch


class TextClassifier(L.LightningModule):
    """What the three classifiers share. Hyper-parameters are kept as plain dicts and numbers.

    Logs, each a mean over reviews and not over batches: train/loss and train/accuracy (while the
    weights move), and of val/ and test/ accuracy, f1, auroc, calibration_error and loss.

    Raises:
        ConfigError: an option is unknown or impossible.
    """

    name: ClassVar[str]

    def __init__(
        self,
        model: ModelConfig | Mapping[str, Any],
        vocab_size: int,
        num_classes: int,
        optimizer: OptimizerConfig | Mapping[str, Any],
        scheduler: SchedulerConfig | Mapping[str, Any],
    ) -> None:
        super().__init__()
        model_config = validate(ModelConfig, dict(model))
        self.optimizer_config = validate(OptimizerConfig, dict(optimizer))
        self.scheduler_config = validate(SchedulerConfig, dict(scheduler))
        if model_config.name != self.name:
            raise ConfigError(
                f"model.name={model_config.name}: {type(self).__name__} is {self.name}"
            )
        self.save_hyperparameters(
            {
                "model": model_config.model_dump(),
                "vocab_size": int(vocab_size),
                "num_classes": int(num_classes),
                "optimizer": self.optimizer_config.model_dump(),
                "scheduler": self.scheduler_config.model_dump(),
            },
            logger=False,
        )
        self.gradient_norm = torch.zeros(())  # of the last step, before it was clipped
        self.classifier = RecurrentClassifier(model_config, vocab_size, num_classes)
        self.val_metrics = build_metrics(num_classes, prefix="val/")
        self.test_metrics = build_metrics(num_classes, prefix="test/")

    @property
    def embedding_gradient(self) -> Literal["dense", "rows"]:
        """What `optimizer.embedding_gradient` has come to, once a training has begun."""
        return "dense" if self.classifier.embedding.lazy_rows is None else "rows"

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Tokens int64 [batch, time] and lengths [batch] to logits float32 [batch, num_classes].

        Outside training always computed in float32, so that a review scores the same whatever the
        precision of the training, the batch size and the reviews beside it.
        """
        if self.training:
            return self.classifier(tokens, lengths).float()
        with torch.autocast(tokens.device.type, enabled=False):
            return self.classifier(tokens, lengths)

    def training_step(self, batch: "Batch", batch_idx: int) -> Tensor:
        """The mean cross-entropy of a batch, a scalar."""
        logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
        loss = F.cross_entropy(logits, batch.labels)
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        # On the device until the epoch ends: no step waits for a number.
        self.log_dict(
            {"train/loss": loss, "train/accuracy": accuracy},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(batch.labels),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: "Batch", batch_idx: int) -> None:
        """Add a batch to the val/ metrics."""
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: "Batch", batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the test/ metrics.

        Returns:
            indices [batch], labels [batch], probabilities [batch, num_classes] and loss [batch].
        """
        return self._evaluate(batch, self.test_metrics)

    def predict_step(self, batch: "Batch", batch_idx: int) -> dict[str, Tensor]:
        """Return indices [batch] and probabilities [batch, num_classes]."""
        logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
        return {"indices": batch.indices, "probabilities": logits.softmax(dim=1)}

    def on_validation_epoch_end(self) -> None:
        """Log the val/ metrics."""
        self._log_metrics(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test/ metrics."""
        self._log_metrics(self.test_metrics)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a schedule that moves at each of its steps.

        Raises:
            ConfigError: a run without an end, and a schedule that needs one; or
                `embedding_gradient=rows` where only dense gradients do.
        """
        schedule = self.scheduler_config
        endless = self.trainer.max_epochs == -1 and self.trainer.max_steps == -1
        if endless and (schedule.name != "constant" or schedule.warmup_ratio > 0):
            raise ConfigError(
                f"trainer.max_epochs=-1: scheduler={schedule.name} needs to know the end. "
                "Set trainer.max_epochs, or scheduler=constant with scheduler.warmup_ratio=0"
            )
        by_rows = use_lazy_embedding(
            self.optimizer_config,
            self.hparams["vocab_size"],
            device_type=self.trainer.strategy.root_device.type,
            processes=self.trainer.world_size,
            precision=self.trainer.precision,
        )
        optimizer = build_optimizer(self.optimizer_config, self, by_rows=by_rows)
        scheduler = build_scheduler(schedule, optimizer, self._total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, by the norm of the whole gradient or by value; keep that norm.

        torch clips no sparse gradients: their rows are clipped in their place.
        """
        by_value = gradient_clip_algorithm == "value"
        if by_value or not gradient_clip_val:
            norms = [p.grad.norm() for p in self.parameters() if p.grad is not None]
            self.gradient_norm = torch.stack(norms).norm()
        if self.embedding_gradient == "dense":
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
        else:
            parameters = clip_params(self.parameters())
        if gradient_clip_val and by_value:
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            self.gradient_norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_train_end(self) -> None:
        """Leave no row of the embedding behind."""
        self.classifier.embedding.flush()

    def _total_steps(self) -> float:
        # `estimated_stepping_batches` loads the training data where nobody has yet. Done inside
        # configure_optimizers that comes before a checkpoint is restored, and Lightning then never
        # gives a resumed data loader its state back (its issue 20550). So the schedule is told its
        # length at the first step; its beginning, which is all it needs before, is the same for
        # every length.
        if self.trainer.train_dataloader is None:
            return math.inf
        return self.trainer.estimated_stepping_batches

    def _evaluate(self, batch: "Batch", metrics: MetricCollection) -> dict[str, Tensor]:
        logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
        probabilities = logits.softmax(dim=1)
        losses = F.cross_entropy(logits, batch.labels, reduction="none")  # [batch]
        metrics.update(preds=probabilities, target=batch.labels, value=losses)
        return {
            "indices": batch.indices,
            "labels": batch.labels,
            "probabilities": probabilities,
            "loss": losses,
        }

    def _log_metrics(self, metrics: MetricCollection) -> None:
        # Already over the reviews of all processes; sync_dist only tells Lightning that we know.
        for name, value in metrics.compute().items():
            self.log(name, value, prog_bar=name.endswith(("accuracy", "loss")), sync_dist=True)
        metrics.reset()


class RNNClassifier(TextClassifier):
    """The plain recurrent network (Elman 1990)."""

    name = "rnn"


class LSTMClassifier(TextClassifier):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates."""

    name = "lstm"


class GRUClassifier(TextClassifier):
    """The gated recurrent unit (Cho et al. 2014)."""

    name = "gru"


def build_classifier(
    model: ModelConfig | Mapping[str, Any],
    vocab_size: int,
    num_classes: int,
    optimizer: OptimizerConfig | Mapping[str, Any],
    scheduler: SchedulerConfig | Mapping[str, Any],
) -> TextClassifier:
    """The classifier that `model.name` asks for.

    Raises:
        ConfigError: an option is unknown or impossible.
    """
    config = validate(ModelConfig, dict(model))
    classes = {c.name: c for c in (RNNClassifier, LSTMClassifier, GRUClassifier)}
    return classes[config.name](config, vocab_size, num_classes, optimizer, scheduler)
