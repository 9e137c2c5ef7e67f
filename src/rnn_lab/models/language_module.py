"""The language model as a LightningModule: what a step of training, validation and testing does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import ModelConfig, OptimizerConfig, SchedulerConfig, validate_model
from rnn_lab.models.language_model import RecurrentLanguageModel
from rnn_lab.models.recurrent_module import RecurrentModule

if TYPE_CHECKING:
    from rnn_lab.data.batches import Batch


class Perplexity(MeanMetric):
    """The exponential of the mean loss of all predictions, in nats."""

    def compute(self) -> Tensor:
        """Return the perplexity, a scalar."""
        mean: Tensor = super().compute()
        return mean.exp()


_METRICS = {"loss": MeanMetric, "perplexity": Perplexity}


def _build_metrics(prefix: str) -> MetricCollection:
    # By default NaN is left out of the mean: it would hide non-finite losses.
    metrics = {name: kind(nan_strategy="disable") for name, kind in _METRICS.items()}
    return MetricCollection(metrics, prefix=prefix)  # type: ignore[arg-type]


class LanguageModel(RecurrentModule):
    """A language model with any registered cell, in one direction or both.

    Logs train/loss, of a softmax over a sample of the words, and loss and perplexity of validation
    and test, of the softmax over all words. They are means over the predictions of both directions.
    """

    def __init__(
        self,
        model: ModelConfig | Mapping[str, Any],
        vocab_size: int,
        optimizer: OptimizerConfig | Mapping[str, Any],
        scheduler: SchedulerConfig | Mapping[str, Any],
        num_sampled: int | None = None,
        eval_stride: int = 1,
    ) -> None:
        """Build the network from the options of the groups `model`, `optimizer` and `scheduler`.

        `num_sampled` is that of RecurrentLanguageModel. Validation and test predict every
        `eval_stride`-th word of a text, always the same ones.

        Raises:
            ConfigError: an option is unknown or impossible.
        """
        super().__init__(optimizer, scheduler)
        config = validate_model(model)
        if config.ngrams:
            raise ConfigError(f"model.ngrams={config.ngrams}: a language model has none. Give 0")
        self.save_hyperparameters(
            {
                "objective": "language_model",
                "model": config.model_dump(),
                "vocab_size": int(vocab_size),
                "optimizer": self.optimizer_config.model_dump(),
                "scheduler": self.scheduler_config.model_dump(),
            },
            logger=False,
        )
        self.language_model = RecurrentLanguageModel(config, vocab_size, num_sampled)
        self._eval_stride = eval_stride
        self.val_metrics = _build_metrics("val/")
        self.test_metrics = _build_metrics("test/")

    @property
    def network(self) -> RecurrentLanguageModel:
        """The language model."""
        return self.language_model

    def training_step(self, batch: "Batch", batch_idx: int) -> Tensor:
        """Return the mean loss over the predictions of a batch, a scalar."""
        losses = self.language_model(batch.tokens, batch.lengths)  # [predictions]
        loss: Tensor = losses.mean()
        self.log(
            "train/loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(losses),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: "Batch", batch_idx: int) -> None:
        """Add a batch to the val/ metrics."""
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: "Batch", batch_idx: int) -> None:
        """Add a batch to the test/ metrics."""
        self._evaluate(batch, self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the val/ metrics."""
        self.log_metrics(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test/ metrics."""
        self.log_metrics(self.test_metrics)

    def _evaluate(self, batch: "Batch", metrics: MetricCollection) -> None:
        # By text and place, so that the choice does not depend on batches and processes.
        places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        chosen = (places + batch.indices[:, None]) % self._eval_stride == 0
        with torch.autocast(batch.tokens.device.type, enabled=False):  # in float32, as a classifier
            metrics.update(value=self.language_model(batch.tokens, batch.lengths, chosen))
