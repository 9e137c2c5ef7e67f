"""The classifier as a LightningModule: what a step of training, validation and testing does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_lab.errors import ConfigError
from rnn_lab.models.calibration import ValidationLogits, calibrate
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import (
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    validate_model,
)
from rnn_lab.models.evaluation import CalibratedMetrics, to_numbers, update_metrics
from rnn_lab.models.metrics import LabelThresholds, MetricFactory, build_metrics
from rnn_lab.models.mixed_loss import mixed_loss
from rnn_lab.models.recurrent_module import RecurrentModule
from rnn_lab.models.tasks import TASKS
from rnn_lab.validation import AUTO, unknown_choice_message, validate

if TYPE_CHECKING:
    from rnn_lab.data.batches import Batch, MixedBatch


class TextClassifier(RecurrentModule):
    """A classifier with any registered cell. Hyper-parameters are saved as plain dicts and numbers.

    TextClassifier({"name": "lstm"}, vocab_size, num_classes) has the defaults of LSTMConfig; those
    of the command are in conf/.

    Logs train/loss and train/accuracy (while the weights move) and the val/ and test/ metrics of
    `build_metrics`, each a mean over texts and not over batches. With losses beside the
    cross-entropy, train/loss is their weighted sum, and train/loss_<name> each of them. Where a
    text has any number of labels, the val/ metrics use thresholds of 0.5; each validation then
    chooses the thresholds with which its checkpoint is tested and predicts. So it does with the
    temperature, if the classifier is to be calibrated: val/ metrics are those of uncalibrated
    probabilities, test/ metrics those of calibrated ones.
    """

    class_weights: Tensor | None  # float32 [num_classes]

    def __init__(
        self,
        model: ModelConfig | Mapping[str, Any],
        vocab_size: int,
        num_classes: int,
        optimizer: OptimizerConfig | Mapping[str, Any] | None = None,
        scheduler: SchedulerConfig | Mapping[str, Any] | None = None,
        metrics: Mapping[str, MetricFactory] | None = None,
        class_weights: Sequence[float] | None = None,
        task: str = "multiclass",
        calibrate: bool = False,
        label_smoothing: float = 0.0,
        loss: LossConfig | Mapping[str, Any] | None = None,
    ) -> None:
        """Build the network from the options of the groups `model`, `optimizer` and `scheduler`.

        A checkpoint has neither `metrics`, which are code, nor the arguments that only training and
        validation use: `class_weights`, `calibrate` and `label_smoothing`.

        Args:
            model: options of that group; `name` is the cell.
            vocab_size: number of token ids, of which 0 is padding.
            num_classes: number of logits of a text.
            optimizer: options of that group. None: the defaults.
            scheduler: options of that group. None: the defaults.
            metrics: extra val/ and test/ metrics by name, see `build_metrics`.
            class_weights: [num_classes], what the training loss of the texts of each class is
                multiplied by; not with several labels a text. None: 1 for each.
            task: "multiclass" (one label a text) or "multilabel" (any number).
            calibrate: whether each validation fits the temperature.
            label_smoothing: share of each target of the training loss, 0 to below 1, that is spread
                evenly over all classes (Szegedy et al. 2016, section 7).
            loss: options of that group. None: the cross-entropy alone.

        Raises:
            ConfigError: an option is unknown, impossible or `auto`, which only the command chooses;
                there is no such task; there are not `num_classes` class weights; or labels are
                weighted or smoothed where a text has any number of them.
        """
        super().__init__(optimizer or {}, scheduler or {})
        _check_task(task, num_classes, class_weights, label_smoothing)
        model_config = validate_model(model)
        unused = () if model_config.ngrams else ("ngram_buckets",)
        for option in ModelConfig.model_fields:
            if option not in unused and getattr(model_config, option) == AUTO:
                raise ConfigError(
                    f"model.{option}={AUTO}: only `rnn-lab train` chooses; give a value"
                )
        self.loss_config = validate(LossConfig, dict(loss or {}))
        self.save_hyperparameters(
            {
                "model": model_config.model_dump(),
                "vocab_size": int(vocab_size),
                "num_classes": int(num_classes),
                "task": task,
                "optimizer": self.optimizer_config.model_dump(),
                "scheduler": self.scheduler_config.model_dump(),
                "loss": self.loss_config.model_dump(),
            },
            logger=False,
        )
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.classifier = RecurrentClassifier(model_config, vocab_size, num_classes, task)
        self.task = self.classifier.task
        self.val_metrics = build_metrics(num_classes, "val/", metrics, task)
        self.test_metrics = CalibratedMetrics(num_classes, task, metrics)
        self.val_thresholds = LabelThresholds() if self.task.is_multilabel else None
        self.val_logits = ValidationLogits() if calibrate else None
        self.uncalibrated: dict[str, float] = {}  # of the last test: test/loss, ...

    @property
    def network(self) -> RecurrentClassifier:
        """The classifier."""
        return self.classifier

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits float32 [batch, num_classes] of tokens int64 [batch, time].

        Outside training they are computed in float32: the score of a text does not depend on the
        precision of the training, the batch size and the texts beside it.
        """
        if self.training:
            return self.classifier(tokens, lengths).float()
        with torch.autocast(tokens.device.type, enabled=False):
            return self.classifier(tokens, lengths)

    def training_step(self, batch: "Batch | MixedBatch", batch_idx: int) -> Tensor:
        """Return the loss of a batch, a scalar: the mean over its texts, weighted by class.

        With options of `loss`, it is the weighted sum of `mixed_loss`.
        """
        if self.loss_config.is_cross_entropy:
            logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
            loss = self._training_loss(logits, batch.labels)
        else:
            mixed = mixed_loss(self.classifier, batch, self.loss_config, self._training_loss)
            loss, logits = mixed.total, mixed.logits
            for name, (mean, texts) in mixed.terms.items():
                self._log_training({f"train/loss_{name}": mean}, texts)
        accuracy = self.task.correct(logits.detach(), batch.labels).float().mean()
        metrics = {"train/loss": loss, "train/accuracy": accuracy}
        self._log_training(metrics, len(batch.labels), prog_bar=True)
        return loss

    def _log_training(
        self, metrics: Mapping[str, Tensor], texts: int, *, prog_bar: bool = False
    ) -> None:
        # On the device until the epoch ends: no step waits for a number.
        self.log_dict(
            metrics,
            on_step=False,
            on_epoch=True,
            prog_bar=prog_bar,
            batch_size=texts,
            sync_dist=True,
        )

    def validation_step(self, batch: "Batch", batch_idx: int) -> None:
        """Add a batch to the val/ metrics."""
        logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
        found = update_metrics(self.val_metrics, self.task, logits, batch)
        if self.val_thresholds is not None:
            self.val_thresholds.update(found["probabilities"], batch.labels)
        if self.val_logits is not None:
            self.val_logits.update(logits, batch.labels)

    def test_step(self, batch: "Batch", batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the test/ metrics; return its parts and results, each [batch, ...]."""
        logits = self(batch.tokens, batch.lengths)  # [batch, num_classes]
        return self.test_metrics.update(self.classifier, logits, batch)

    def predict_step(self, batch: "Batch", batch_idx: int) -> dict[str, Tensor]:
        """Return indices [batch] and probabilities [batch, num_classes]."""
        logits = self.classifier.calibrated(self(batch.tokens, batch.lengths))
        return {"indices": batch.indices, "probabilities": self.task.probabilities(logits)}

    def on_validation_epoch_end(self) -> None:
        """Log the val/ metrics, choose the thresholds of the labels, and fit the temperature."""
        self.log_metrics(self.val_metrics)
        temperature, thresholds = 1.0, None
        if self.val_thresholds is not None:
            thresholds = self.val_thresholds.compute()
            self.val_thresholds.reset()
        if self.val_logits is not None:
            logits, labels = self.val_logits.compute()
            temperature, thresholds = calibrate(self.task, logits, labels, thresholds)
            self.val_logits.reset()
        # In place: Trainer.validate computes them in inference mode, whose tensors stay read-only.
        if self.classifier.thresholds is not None and thresholds is not None:
            self.classifier.thresholds.copy_(thresholds)
        self.classifier.temperature.fill_(temperature)

    def on_test_epoch_end(self) -> None:
        """Log the test/ metrics, and keep those of uncalibrated probabilities."""
        self.log_metrics(self.test_metrics.calibrated)
        self.uncalibrated = to_numbers(self.test_metrics.uncalibrated)
        self.test_metrics.uncalibrated.reset()

    def _training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over texts, weighted and smoothed."""
        smoothing = self.label_smoothing
        if self.class_weights is None:
            if smoothing:
                return F.cross_entropy(logits, labels, label_smoothing=smoothing)
            return self.task.loss(logits, labels)
        # Over the number of texts. torch's mean is over the sum of their weights, which cancels
        # the weights where a batch has one class, and differs between devices.
        weights = self.class_weights.to(logits.dtype)  # float64 with precision=64-true
        loss = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
        return loss / len(labels)


def _check_task(
    task: str, num_classes: int, class_weights: Sequence[float] | None, label_smoothing: float
) -> None:
    if task not in TASKS:
        raise ConfigError(unknown_choice_message(f"task={task}: impossible value", task, [*TASKS]))
    if label_smoothing and TASKS[task].is_multilabel:
        raise ConfigError(
            f"trainer.label_smoothing={label_smoothing}: only where each text has one label; give 0"
        )
    if class_weights is None:
        return
    if TASKS[task].is_multilabel:
        raise ConfigError("class_weights: only where each text has one label; give None")
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"class_weights: {len(class_weights)} numbers for num_classes={num_classes}; give one "
            "for each class"
        )
