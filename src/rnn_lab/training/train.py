"""Train, validate and test one run."""

import logging
import math
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.panel import Panel

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import CheckpointError, ConfigError, sanitize
from rnn_lab.models.config import LanguageModelConfig, OptimizerConfig
from rnn_lab.models.language_module import LanguageModel
from rnn_lab.models.lightning_module import TextClassifier, classifier_class
from rnn_lab.models.recurrent_module import RecurrentModule
from rnn_lab.paths import local_path
from rnn_lab.tracking.loggers import build_loggers, finish_wandb
from rnn_lab.tracking.wandb_environment import environment_tags, in_wandb_sweep
from rnn_lab.training.artifacts import (
    git_commit,
    run_identity,
    run_metadata,
    save_artifacts,
    versions,
)
from rnn_lab.training.baseline import fit_baselines, wants_baselines
from rnn_lab.training.callbacks import build_callbacks, find_callback, skips_test
from rnn_lab.training.callbacks.exact_checkpoint import BestCheckpoint, ExactCheckpoint
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.checkpoint_io import read_checkpoint
from rnn_lab.training.checks import check_before_training, nan_error
from rnn_lab.training.config import RunConfig
from rnn_lab.training.data_report import (
    WARNING_SHARE,
    print_data_summary,
    print_pretraining_texts,
    print_pseudo_labels,
    print_source_info,
    print_unlabelled,
    report_groups,
    warn_rare_classes,
    write_skipped_rows,
)
from rnn_lab.training.hardware import Hardware, print_precision, resolve_hardware
from rnn_lab.training.initial_weights import (
    InitialWeights,
    initial_vocabulary,
    load_initial_weights,
)
from rnn_lab.training.recipe import print_recipe, resolve_recipe
from rnn_lab.training.reproduce import check_same_data
from rnn_lab.training.resume import (
    ResumePoint,
    find_resume_point,
    incompatible_checkpoint,
    recorded_initial_weights,
    recorded_vocabulary,
)
from rnn_lab.training.rollback import Rollback, excluded_batches, read_rollbacks
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import CallbackFactory, RunSpec
from rnn_lab.training.teacher import load_teacher, warn_of_shared_texts
from rnn_lab.training.trainer import build_trainer
from rnn_lab.validation import metric_factories

log = logging.getLogger(__name__)


def train(spec: RunSpec, shutdown: GracefulShutdown, make_callbacks: CallbackFactory) -> None:
    """Train, test and save the run of `spec`; resume it where its folder holds an unfinished run.

    A resumed run ends as it would have ended without the interruption; on a CPU, bit by bit.

    Raises:
        RollbackRequestedError: the run is to go back to its last checkpoint.
        UserError: whatever the user can correct.
        Interrupted: `shutdown` received a signal.
    """
    silence_lightning()
    hardware, folder = resolve_hardware(spec.config.trainer), spec.output_dir
    print_precision(spec.config.trainer, hardware)
    L.seed_everything(spec.config.seed, workers=True, verbose=False)
    data = load_data(spec, hardware)
    shutdown.raise_received()  # a library may have swallowed what the signal raised
    spec = with_recipe(spec, data)
    config = spec.config
    check_before_training(config, hardware, data)

    start = find_start(spec, hardware, data)
    resumed = start.resume_point
    model = build_model(config, data, start)
    with finishing_wandb(shutdown):
        rows, step = (resumed.metrics_rows, resumed.global_step) if resumed else (0, None)
        loggers = build_loggers(config.logger, folder, describe_run(spec, data), rows, step)
        callbacks = build_callbacks(
            spec,
            shutdown,
            rollbacks=start.rollbacks,
            metadata=start.metadata,
            resume_state=resumed.state if resumed else None,
            changed=resumed.changed if resumed else (),
            extends=resumed is not None and resumed.extends,
        )
        callbacks += make_callbacks(spec)
        trainer = build_trainer(config.trainer, hardware, folder, loggers, callbacks)

        metrics: dict[str, Any] = {}
        if config.train:
            if resumed is not None and resumed.extends:
                remove_result(spec)
            metrics |= fit(trainer, model, data, resumed)
        if config.test and not skips_test(trainer):
            metrics |= test(trainer, model, data, None if config.train else config.ckpt_path)
        elif not config.test and not config.trainer.fast_dev_run:
            load_selected(trainer, model)
        if config.trainer.fast_dev_run:
            print("fast_dev_run: every part of the run worked; nothing is saved", flush=True)
        elif trainer.is_global_zero and not skips_test(trainer):
            about = run_metadata(spec, data, trainer, hardware) | dict(start.weights.about)
            result = run_identity(config, data) | metrics | about | baselines(config, data)
            save_artifacts(folder, result, data, trainer, plots=config.plots)


def load_data(spec: RunSpec, hardware: Hardware) -> TextDataModule:
    """Return the data of a run, ready to be read; warn about what a user would want to know.

    Raises:
        DataError: the texts cannot be read, or are not those of the run to reproduce.
        CheckpointError: model.init_from or data.teacher is not a run.
    """
    config = spec.config
    vocabulary = None
    origins = (config.model.init_from, config.data.vectors, config.data.unlabelled)
    if any(origin is not None for origin in origins):  # which need not be there any more
        resume = spec.resume if config.train else "never"
        vocabulary = recorded_vocabulary(spec.output_dir, resume, config.ckpt_path)
    teacher = load_teacher(config, hardware)
    data = TextDataModule(
        config.data,
        seed=config.seed,
        allow_fallback=spec.sweep is None,
        vocabulary=vocabulary,
        base_vocabulary=initial_vocabulary(config.model) if vocabulary is None else None,
        use_labels=not config.is_language_model,
        train_unlabelled=config.train and config.loss.needs_no_labels,
        teacher=teacher,
    )
    data.prepare_data()
    data.setup()
    if run_identity(config, data)["demo_fallback"]:
        warn_demo_fallback()
    print_source_info(data.corpus)
    if not config.trainer.fast_dev_run:
        write_skipped_rows(data.corpus, spec.output_dir)
    print_data_summary(data)
    print_unlabelled(data)
    print_pseudo_labels(data)
    warn_of_shared_texts(teacher, data)
    report_groups(data)
    warn_rare_classes(data)
    log_duplicates(data)
    print_pretraining_texts(data)
    if config.reproduce is not None:
        check_same_data(config.reproduce, data)
    return data


def with_recipe(spec: RunSpec, data: TextDataModule) -> RunSpec:
    """Return the run with a value for each `auto`, and print what was chosen."""
    config = resolve_recipe(spec.config, data)
    print_recipe(spec.config, config, data)
    return replace(spec, config=config)


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


def baselines(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
    """Return what result.json says of the linear classifiers that a run is compared with."""
    if not data.use_labels or not wants_baselines(config.baseline, data):
        return {}
    fitted = fit_baselines(data, test=config.test, nbsvm=config.baseline == "nbsvm")
    return {"baseline": fitted}


@rank_zero_only
def warn_demo_fallback() -> None:
    """Print a box that nobody can miss: this run does not train on IMDB."""
    text = (
        "IMDB is not on disk and cannot be downloaded, so this run uses synthetic demo reviews."
        "\nIts metrics say nothing about IMDB. For the real reviews, put aclImdb_v1.tar.gz "
        "into data/ or set IMDB_ROOT,\nand use data=imdb, which never falls back."
    )
    Console().print(Panel(text, title="DEMO REVIEWS, NOT IMDB", border_style="bold yellow"))


@rank_zero_only
def log_duplicates(data: TextDataModule) -> None:
    """Log how many examples are duplicates; as a warning where splits share too many."""
    exact, by_token = data.duplicates["exact"], data.duplicates["by_token"]
    found, is_leaking = [], False
    for name in ("train", "validation", "test"):
        where = name if name == "train" else f"{name}_in_train"
        if where not in by_token:
            continue
        size, shared = len(data.splits.get(name, ())), by_token[where]["examples"]
        of = "within training" if name == "train" else f"of {size:,} {name} examples"
        found.append(f"{shared:,} {of} ({exact[where]['examples']:,} exactly)")
        is_leaking |= name != "train" and shared > 0 and shared >= WARNING_SHARE * size
    log.log(
        logging.WARNING if is_leaking else logging.INFO,
        "Duplicates of training examples, word by word: %s; %s have another label. "
        "result.json has all counts; data.drop_duplicates=true removes them from training",
        ", ".join(found),
        f"{sum(counts['label_conflicts'] for counts in by_token.values()):,}",
    )


class Start(NamedTuple):
    """Where a run begins: with its initial weights, or at a checkpoint."""

    weights: InitialWeights
    metadata: dict[str, Any]  # of last.ckpt
    resume_point: ResumePoint | None
    rollbacks: tuple[Rollback, ...]  # so far


def find_start(spec: RunSpec, hardware: Hardware, data: TextDataModule) -> Start:
    """Find the checkpoint to resume from; without one, load the initial weights."""
    recorded = recorded_weights(spec)
    weights = recorded or load_initial_weights(spec.config, data)
    metadata = checkpoint_metadata(spec, hardware, data, weights)
    resumed, rollbacks = prepare_resume(spec, data, metadata)
    if resumed is None and recorded is not None:  # of a checkpoint that cannot be resumed from
        weights = load_initial_weights(spec.config, data)
        metadata = checkpoint_metadata(spec, hardware, data, weights)
    return Start(weights, metadata, resumed, rollbacks)


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
    if start.resume_point is None:
        start.weights.copy_into(model)
    return model


def _optimizer_config(config: RunConfig) -> OptimizerConfig:
    """Return the options of the optimizer, without lazy updates where weights are averaged."""
    if config.trainer.ema_decay is None:
        return config.optimizer
    # The average needs each row at each step.
    return config.optimizer.model_copy(update={"sparse_embedding": False})


def _build_classifier(config: RunConfig, data: TextDataModule) -> TextClassifier:
    weights = data.class_weights
    return classifier_class(config.model.name)(
        config.model,
        data.vocab_size,
        data.num_classes,
        _optimizer_config(config),
        config.scheduler,
        metric_factories(config.metrics, data.task),
        class_weights=None if weights is None else weights.tolist(),
        task=data.task,
        calibrate=config.trainer.calibrate,
        label_smoothing=config.trainer.label_smoothing,
        loss=config.loss,
    )


def recorded_weights(spec: RunSpec) -> InitialWeights | None:
    """Return what the run in the folder began with, without the weights; None: there is none."""
    config = spec.config
    if not config.train or config.trainer.fast_dev_run:
        return None
    origins = (config.model.init_from, config.data.vectors, config.ckpt_path)
    if all(origin is None for origin in origins):
        return None  # nothing would be read
    about = recorded_initial_weights(spec.output_dir, spec.resume, config.ckpt_path)
    return None if about is None else InitialWeights(about, is_recorded=True)


def checkpoint_metadata(
    spec: RunSpec, hardware: Hardware, data: TextDataModule, initial: InitialWeights
) -> dict[str, Any]:
    """Return what last.ckpt says of its run, to compare it with one that is to resume from it."""
    return {
        "signature": spec.signature(hardware, data) | initial.signature,
        "versions": versions() | {"commit": git_commit()},
        "initial_weights": {name: dict(about) for name, about in initial.about.items()},
    }


def prepare_resume(
    spec: RunSpec, data: TextDataModule, metadata: dict[str, Any]
) -> tuple[ResumePoint | None, tuple[Rollback, ...]]:
    """Let the training batches begin where the unfinished run in the folder stopped.

    Returns:
        The checkpoint to resume from, None for a run that starts over; and the rollbacks so far.
    """
    config = spec.config
    if not config.train or config.trainer.fast_dev_run:
        return None, ()
    folder = spec.output_dir
    resume_point = find_resume_point(folder, spec.resume, metadata, ckpt_path=config.ckpt_path)
    rollbacks = spec.rollbacks
    if not rollbacks and spec.resume == "auto":
        rollbacks = read_rollbacks(folder)
    data.exclude_batches(excluded_batches(rollbacks))
    if resume_point is not None:
        data.resume_at(resume_point.state["epoch"], resume_point.state["batch_idx"])
    return resume_point, rollbacks


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
        ConfigError: Lightning refuses the options of the trainer; or see `_selected_epoch`.
        IncompatibleCheckpointError: the parts of the checkpoint do not fit this run.
    """
    checkpoint = resume_point.path if resume_point else None
    if resume_point is None:
        weigh_ngrams(model, data)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:  # options that do not go together
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    except Exception as error:
        reported = None
        if checkpoint is not None and find_callback(trainer, ExactCheckpoint).is_restoring:
            reported = incompatible_checkpoint(checkpoint, error)
        if reported is None:
            raise
        raise reported from error
    return _selected_epoch(trainer, data)


def load_selected(trainer: L.Trainer, model: RecurrentModule) -> None:
    """Load the weights of best.ckpt, as a test does: result.json has their temperature."""
    best = find_callback(trainer, BestCheckpoint).best_model_path
    model.load_state_dict(torch.load(best, weights_only=True)["state_dict"])


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
    saved = torch.load(checkpoint.best_model_path, weights_only=True, mmap=True)
    epochs = {"best_epoch": saved["epoch"], "epochs": trainer.current_epoch}
    return epochs | history[saved["global_step"]]


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
            f"{sanitize(' '.join(str(error).split()))}; eval.py run={checkpoint} takes the options "
            "from the checkpoint"
        ) from error
    return epochs | dict(tested[0])


@rank_zero_only
def remove_result(spec: RunSpec) -> None:
    """Let the folder of a finished run be that of an unfinished one, which can be resumed."""
    spec.result_path.unlink(missing_ok=True)


@contextmanager
def finishing_wandb(shutdown: GracefulShutdown) -> Iterator[None]:
    """Finish the W&B run that is started inside, with the exit code of what is inside."""
    exit_code, stopped = 1, None
    try:
        yield
        exit_code = 0
    except (Interrupted, SystemExit):  # the latter, where the job is put back into the queue
        if shutdown.received is not None:
            exit_code = 128 + shutdown.received
            stopped = signal.Signals(shutdown.received).name
        raise
    finally:
        finish_wandb(exit_code, stopped=stopped)


def silence_lightning() -> None:
    """Leave Lightning's messages to the log file, and drop those that mean nothing here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root handlers have them already
    for meaningless in (
        r"Experiment logs directory .* exists and is not empty",  # Hydra made it a moment ago
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"The '\w+_dataloader' does not have many workers",  # a batch is cheaper than a process
        r"Checkpoint directory .* exists and is not empty",  # a resumed run
        r"You're resuming from a checkpoint that ended before the epoch",  # the sampler resumes too
        r"The `srun` command is available on your system but is not used",  # nor needed
        r"The number of training batches \(\d+\) is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", meaningless)


def describe_run(spec: RunSpec, data: TextDataModule) -> dict[str, Any]:
    """Return what W&B shows of a run; never the storage of a study, which may be secret.

    Where the run has no name or tags of its own, WANDB_NAME and WANDB_TAGS have them. In a W&B
    sweep, W&B names its runs.
    """
    name = spec.config.name or os.environ.get("WANDB_NAME") or None
    named = {"name": name, "tags": spec.config.tags or environment_tags()}
    identity = run_identity(spec.config.model_copy(update=named), data)
    options = spec.config.model_dump(mode="json")
    options["trial"].pop("storage")
    about = {"name": identity["run_name"], "tags": identity["tags"], "group": None}
    if name is None and in_wandb_sweep():
        about["name"] = None
    if spec.sweep is not None:
        about["name"] = f"{about['name']} {spec.sweep.run_name}".strip()
        about["group"] = spec.sweep.dir.name
        options["search"] = dict(spec.sweep.parameters)
    return about | {"config": options}
