"""What the options and the texts decide together, checked before training.

Lightning finds these mistakes when it needs the batches: those of the test after all training.
"""

import numpy as np

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.metric_table import metrics_of
from rnn_lab.training.config import METRICS_OF_TASK, RunConfig, TrainerConfig, check_monitor
from rnn_lab.training.hardware import Hardware
from rnn_lab.validation import AUTO


def check_before_training(config: RunConfig, hardware: Hardware, data: TextDataModule) -> None:
    """Raise an error for options that these texts make impossible.

    Raises:
        ConfigError: a limit leaves no batch, the training ends before a validation, or the metric
            that selects an epoch does not exist for these texts or is NaN.
        DataError: there is no such split, it has fewer texts than there are devices, or all
            training texts have the same class.
    """
    check_monitor(config, data.task)
    options, processes = config.trainer, hardware.devices * config.trainer.num_nodes
    if config.train:
        _check_classes(data)
        batches = _limited(options, "training", data.num_batches("train", processes))
        _limited(options, "validation", data.num_batches("validation", processes))
        if not options.fast_dev_run:
            _check_validated(options, batches)
            _check_defined(options.monitor, data)
    if config.test:
        if config.train and "test" not in data.splits:
            raise DataError(
                f"{data.corpus.name}: has no test split; test=false trains without a test"
            )
        _limited(options, "test", data.num_batches("test", processes))


def _check_classes(data: TextDataModule) -> None:
    labels = data.splits["train"].labels
    if not data.use_labels or labels.ndim == 2 or len(found := np.unique(labels)) > 1:
        return
    cause = "data.train_size is too small" if data.config.train_size else "choose other splits"
    if getattr(data.config, "group_column", None) is not None:
        cause = "the groups of data.group_column are few; try another data.split_seed"
    raise DataError(
        f"{data.corpus.name}: every training text is of the class "
        f"{data.class_names[found[0]]!r}: {cause}"
    )


def check_monitored_mode(config: RunConfig, model: TextClassifier) -> None:
    """Raise a ConfigError if the monitored metric itself says the opposite of its name.

    `trainer.monitor_mode=auto` goes by the name, which is all that a search and a report know.
    """
    trainer = config.trainer
    metrics = dict(model.val_metrics.items())
    higher = getattr(metrics.get(trainer.monitor), "higher_is_better", None)
    if trainer.monitor_mode != AUTO or higher is None:
        return
    if (mode := "max" if higher else "min") != trainer.monitored_mode:
        better = "larger" if higher else "smaller"
        raise ConfigError(
            f"trainer.monitor={trainer.monitor}: a {better} value is better by its "
            f"higher_is_better, but not by its name; give trainer.monitor_mode={mode}"
        )


def nan_error(monitor: str, data: TextDataModule, when: str = "in every epoch") -> ConfigError:
    """Return the error for a monitored metric that is NaN."""
    reasons = _undefined(data)
    own = f"metrics.{monitor.partition('/')[2]} has no value on the validation texts"
    choices = ", ".join(name for name in METRICS_OF_TASK[data.task] if name not in reasons)
    return ConfigError(
        f"trainer.monitor={monitor}: is nan {when}, because {reasons.get(monitor, own)}. "
        f"Choose from: {choices}"
    )


def _check_defined(monitor: str, data: TextDataModule) -> None:
    """Raise a ConfigError if these validation texts leave the monitored metric undefined."""
    labels = data.splits["validation"].labels
    is_same = not labels.any() if data.is_multilabel else len(np.unique(labels)) == 1
    if is_same and monitor in _undefined(data):
        raise nan_error(monitor, data)


def _undefined(data: TextDataModule) -> dict[str, str]:
    """Return the metrics of these texts that can be NaN, and why."""
    return {f"val/{one.name}": one.undefined for one in metrics_of(data.task) if one.undefined}


_LIMITS = {"training": "train", "validation": "val", "test": "test"}  # limit_<name>_batches


def _limited(options: TrainerConfig, split: str, batches: int) -> int:
    """Return how many of a split's `batches` in a process are used; a ConfigError for none."""
    name = f"limit_{_LIMITS[split]}_batches"
    if options.overfit_batches and split != "test":
        name = "overfit_batches"
    elif options.fast_dev_run:
        return min(int(options.fast_dev_run), batches)
    limit = getattr(options, name)
    used = min(limit, batches) if isinstance(limit, int) else int(batches * limit)
    if not used:
        count = f"1 {split} batch" if batches == 1 else f"{batches} {split} batches"
        raise ConfigError(
            f"trainer.{name}={limit}: this share of {count} is none; give a "
            "larger share, or a number of batches from 1 up"
        )
    return used


def _check_validated(options: TrainerConfig, batches: int) -> None:
    """Raise a ConfigError if a training of so many batches an epoch ends before it is validated."""
    every, interval = options.check_val_every_n_epoch, options.val_check_interval
    if isinstance(interval, int) and interval > batches:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} training batches. "
            f"Choose from: 1 to {batches}, or a share above 0 to 1.0"
        )
    if options.max_epochs != -1 and options.max_epochs < every:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch={every}: no epoch would be validated, since training "
            f"ends after trainer.max_epochs={options.max_epochs}"
        )
    first = interval if isinstance(interval, int) else max(1, int(batches * interval))
    accumulate = options.accumulate_grad_batches
    if first < min(accumulate, batches):
        raise ConfigError(
            f"trainer.val_check_interval={interval}: would validate weights twice, since a step "
            f"takes trainer.accumulate_grad_batches={accumulate} batches; give {accumulate} or more"
        )
    before = (every - 1) * -(-batches // accumulate) + (first - 1) // accumulate
    if options.max_steps != -1 and options.max_steps <= before:
        raise ConfigError(
            f"trainer.max_steps={options.max_steps}: training ends before the first validation, "
            f"at step {before + 1}; give more steps, or a smaller trainer.val_check_interval"
        )
