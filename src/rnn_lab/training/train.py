"""Train, validate and test one run."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import CheckpointError, ConfigError, sanitize, whole_message
from rnn_lab.models.config import LanguageModelConfig, OptimizerConfig
from rnn_lab.models.language_module import LanguageModel
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.pooling import check_padding
from rnn_lab.models.recurrent_module import RecurrentModule
from rnn_lab.paths import local_path
from rnn_lab.tracking.loggers import build_loggers
from rnn_lab.training.artifacts import run_identity, run_metadata, save_artifacts
from rnn_lab.training.baseline import fit_baselines, wants_baselines
from rnn_lab.training.callbacks import build_callbacks
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.checkpoint_io import ResumePoint, read_checkpoint
from rnn_lab.training.checks import check_before_training, check_monitored_mode, nan_error
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import keep_precision, print_precision, resolve_hardware
from rnn_lab.training.more_epochs import find_early_end
from rnn_lab.training.out_of_memory import after_training, skip_out_of_memory
from rnn_lab.training.recipe import print_recipe, resolve_recipe, warn_unused_options
from rnn_lab.training.resume import incompatible_checkpoint, remove_result, remove_unresumed
from rnn_lab.training.run_data import load_data
from rnn_lab.training.saved_run import SavedRun
from rnn_lab.training.signals import GracefulShutdown
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.start import Start, find_start
from rnn_lab.training.trainer import (
    build_trainer,
    find_callback,
    silence_lightning,
    skips_test,
)
from rnn_lab.training.wandb_run import describe_run, finishing_wandb
from rnn_lab.validation import metric_factories


def train(spec: RunSpec, shutdown: GracefulShutdown) -> None:
    """Train, test and save the run of `spec`; resume it where its folder holds an unfinished run.

    A resumed run ends as it would have ended without the interruption; on a CPU, bit by bit.

    Raises:
        OutOfMemoryAfterTrainingError: memory ran out in the test or later.
        RollbackRequestedError: the run is to go back to its last checkpoint.
        UserError: whatever the user can correct.
        Interrupted: `shutdown` received a signal.
    """
    silence_lightning()
    config, folder = spec.config, spec.output_dir
    hardware = resolve_hardware(config.trainer)
    print_precision(config.trainer, hardware)
    L.seed_everything(config.seed, workers=True, verbose=False)
    saved = SavedRun.read(spec)
    if config.train and saved is not None:
        hardware = keep_precision(hardware, config.trainer, saved.signature)
    data = load_data(spec, hardware, saved)
    shutdown.raise_received()  # a library may have swallowed what the signal raised
    spec = with_recipe(spec, data)
    config = spec.config
    check_before_training(config, hardware, data)

    start = find_start(spec, hardware, data, saved)
    resumed = start.resume_point
    model = build_model(config, data, start)
    with finishing_wandb(shutdown):
        rows, step = (resumed.metrics_rows, resumed.global_step) if resumed else (0, None)
        described = describe_run(spec, hardware, data)
        loggers = build_loggers(config.logger, folder, described, rows, step)
        callbacks = build_callbacks(
            spec,
            shutdown,
            metadata=start.metadata,
            resume_point=resumed,
            rollbacks=start.rollbacks,
        )
        callbacks += spec.make_callbacks(spec)
        trainer = build_trainer(config.trainer, hardware, folder, loggers, callbacks)

        metrics: dict[str, Any] = {}
        if config.train:
            if resumed is None:
                remove_unresumed(spec)
            elif resumed.extends:
                remove_result(spec)
            metrics |= fit(trainer, model, data, resumed)
            if not config.trainer.fast_dev_run:
                print_early_end(start.metadata["signature"], trainer.current_epoch)
        with after_training():
            if config.test and not skips_test(trainer):
                metrics |= test(trainer, model, data, None if config.train else config.ckpt_path)
            elif not config.test and not config.trainer.fast_dev_run:
                load_selected(trainer, model)
            if config.trainer.fast_dev_run:
                print("fast_dev_run: every part of the run worked; nothing is saved", flush=True)
            elif trainer.is_global_zero and not skips_test(trainer):
                code = start.metadata["versions"]
                about = run_metadata(spec, data, trainer, hardware, code)
                about |= start.weights.about
                result = run_identity(config, data) | metrics | about | baselines(config, data)
                save_artifacts(folder, result, data, trainer, plots=config.plots)


def with_recipe(spec: RunSpec, data: TextDataModule) -> RunSpec:
    """Return the run with a value for each `auto` of model and trainer, and print all values."""
    config = resolve_recipe(spec.config, data)
    print_recipe(spec.config, config, data)
    warn_unused_options(spec)
    return replace(spec, config=config)


def build_model(config: RunConfig, data: TextDataModule, start: Start) -> RecurrentModule:
    """Build the network; a run that does not resume begins with the weights of `start`."""
    objective = config.objective
    model: RecurrentModule
    if isinstance(objective, LanguageModelConfig):
        model = LanguageModel(
            config.model,
            data.vocab_size,
            _optimizer_config(config),
            config.scheduler,
            num_sampled=objective.num_sampled,
            eval_stride=objective.eval_stride,
        )
    else:
        model = _build_classifier(config, data)
        check_monitored_mode(config, model)
        network, recurrent = model.classifier, model.classifier.recurrent
        features = recurrent.directions * config.model.hidden_size
        check_padding(network.pooling, network.pooling_module, features, recurrent.bidirectional)
    if start.resume_point is None:
        start.weights.copy_into(model)
    return model


def _build_classifier(config: RunConfig, data: TextDataModule) -> TextClassifier:
    weights = data.class_weights
    return TextClassifier(
        config.model,
        data.vocab_size,
        data.num_classes,
        _optimizer_config(config),
        config.scheduler,
        metric_factories(config.metrics, is_multilabel=data.is_multilabel),
        class_weights=None if weights is None else weights.tolist(),
        task=data.task,
        calibrate=config.trainer.calibrate,
        label_smoothing=config.trainer.label_smoothing,
        loss=config.loss,
    )


def _optimizer_config(config: RunConfig) -> OptimizerConfig:
    """Return the options of the optimizer, without lazy updates where weights are averaged."""
    if config.trainer.ema_decay is None:
        return config.optimizer
    # The average needs each row at each step.
    return config.optimizer.model_copy(update={"sparse_embedding": False})


def fit(
    trainer: L.Trainer,
    model: RecurrentModule,
    data: TextDataModule,
    resume_point: ResumePoint | None,
) -> dict[str, Any]:
    """Train, from `resume_point` where there is one.

    Returns:
        The validation metrics of the epoch that validation selected.

    Raises:
        ConfigError: Lightning refuses the options of the trainer, or a callback watches a metric
            that there is not; or see `_selected_epoch`.
        IncompatibleCheckpointError: the parts of the checkpoint do not fit this run.
    """
    checkpoint = resume_point.path if resume_point else None
    if resume_point is None:
        weigh_ngrams(model, data)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:  # options that do not go together
        raise ConfigError(f"trainer: {whole_message(error)}") from error
    except Exception as error:
        reported = None
        if checkpoint is not None and find_callback(trainer, ExactCheckpoint).is_restoring:
            reported = incompatible_checkpoint(checkpoint, error)
        if str(error).startswith("Early stopping conditioned on metric"):
            raise ConfigError(f"callbacks: {whole_message(error)}") from error
        if reported is None:
            raise
        raise reported from error
    return _selected_epoch(trainer, data)


@rank_zero_only
def print_early_end(options: Mapping[str, Any], epochs: int) -> None:
    """Say which of the run's options, flat, ended the training before trainer.max_epochs."""
    if ended := find_early_end(options, epochs):
        print(f"Training {ended.description}", flush=True)


def weigh_ngrams(model: RecurrentModule, data: TextDataModule) -> None:
    """Count the n-grams of the training texts, or fit their weights, where the model has some."""
    if not isinstance(model, TextClassifier) or (ngrams := model.classifier.ngrams) is None:
        return
    batches = data.dataloader_for("train")
    if ngrams.is_fitted_first:
        labelled = ((batch.tokens, batch.lengths, batch.labels) for batch in batches)
        ngrams.fit(labelled, model.class_weights)
    else:
        ngrams.count((batch.tokens, batch.lengths) for batch in batches)


def _selected_epoch(trainer: L.Trainer, data: TextDataModule) -> dict[str, Any]:
    """Return the number and the validation metrics of the epoch of best.ckpt.

    Raises:
        ConfigError: no epoch was validated, or each has NaN as the monitored metric.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # which saves no checkpoint
        return {}
    checkpoint = find_callback(trainer, BestCheckpoint)
    history = find_callback(trainer, ValidationHistory).by_step
    if not checkpoint.best_model_path:
        raise ConfigError(
            "trainer.max_time: training ended before the first validation, so there is no best "
            "epoch. Give more time and resume=never, which starts over"
        )
    monitor = str(checkpoint.monitor)
    if all(math.isnan(metrics[monitor]) for metrics in history.values()):
        raise nan_error(monitor, data, f"in every validation ({len(history)})")
    epochs = {"best_epoch": checkpoint.epoch, "epochs": trainer.current_epoch}
    return epochs | history[checkpoint.step]


def test(
    trainer: L.Trainer, model: RecurrentModule, data: TextDataModule, checkpoint: str | None
) -> dict[str, Any]:
    """Return the test metrics of `checkpoint`, or of the one that validation selected.

    Raises:
        CheckpointError: `checkpoint` cannot be read, would run code, or is of another network.
    """
    best: str | None = find_callback(trainer, BestCheckpoint).best_model_path or None
    epochs: dict[str, Any] = {}
    if checkpoint is not None:
        best = str(local_path(checkpoint))
        epochs = {"best_epoch": read_checkpoint(Path(best)).get("epoch"), "epochs": None}
    try:
        tested = trainer.test(
            model, ckpt_path=best, datamodule=data, verbose=False, weights_only=True
        )
    except RuntimeError as error:
        if checkpoint is None or "loading state_dict" not in str(error):
            raise
        raise CheckpointError(
            f"ckpt_path={checkpoint}: its weights do not fit the network of these options: "
            f"{sanitize(whole_message(error))}; eval.py run={checkpoint} takes the options "
            "from the checkpoint"
        ) from error
    return epochs | dict(tested[0])


def load_selected(trainer: L.Trainer, model: RecurrentModule) -> None:
    """Load the weights of best.ckpt, as a test does: result.json has their temperature."""
    best = find_callback(trainer, BestCheckpoint).best_model_path
    model.load_state_dict(torch.load(best, weights_only=True)["state_dict"])


def _limit(config: RunConfig) -> str | None:
    """Return the option that leaves out texts of validation or test, with its value."""
    trainer = config.trainer
    names = ["limit_val_batches", *(["limit_test_batches"] if config.test else [])]
    for name in names:
        if isinstance(value := getattr(trainer, name), int) or value < 1:
            return f"trainer.{name}={value}"
    return f"trainer.overfit_batches={trainer.overfit_batches}" if trainer.overfit_batches else None


def baselines(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
    """Return what result.json says of the linear classifiers that a run is compared with."""
    if not data.use_labels or not wants_baselines(config.baseline, data):
        return {}
    if limit := _limit(config):
        print(f"no baselines: they would read texts that {limit} leaves out", flush=True)
        return {}
    with skip_out_of_memory("baselines"):
        fitted = fit_baselines(data, test=config.test, nbsvm=config.baseline == "nbsvm")
        return {"baseline": fitted}
    return {}
