"""The files that a finished run leaves. result.json comes last: where it is, all others are."""

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from rnn_lab.data.class_balance import count_classes
from rnn_lab.data.corpus import fingerprint_test_split
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import write_json
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.recurrent_module import RecurrentModule
from rnn_lab.paths import project_root
from rnn_lab.process import peak_memory_bytes
from rnn_lab.reports.plots import draw_plots
from rnn_lab.reports.run_summary import print_run
from rnn_lab.runs.jobs import MONITORED
from rnn_lab.tracking.loggers import FaultTolerantWandbLogger
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.callbacks.monitors import PredictionCollector, Throughput
from rnn_lab.training.callbacks.nonfinite import NonFiniteGuard
from rnn_lab.training.config import RunConfig
from rnn_lab.training.data_report import SKIPPED_ROWS
from rnn_lab.training.hardware import Hardware, describe_hardware
from rnn_lab.training.out_of_memory import skip_out_of_memory
from rnn_lab.training.reproduce import collapse
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.split_predictions import SplitPredictions
from rnn_lab.training.train_hashes import TRAIN_HASHES, write_train_hashes
from rnn_lab.training.trainer import find_callback

STAGE = ".finishing"  # folder within the output folder
PACKAGES = ("torch", "lightning", "hydra-core", "torchmetrics", "numpy", "tokenizers", "wandb")
_IN_PLACE = ("metrics.csv", "gradient_flow.csv", SKIPPED_ROWS)  # were written before


def save_artifacts(
    folder: Path,
    result: dict[str, Any],
    data: TextDataModule,
    trainer: L.Trainer,
    *,
    plots: bool = True,
) -> None:
    """Write the predictions, result.json and `plots` of a run, log them, and print its table.

    They are made in a folder of their own and moved when complete, result.json last: a run that is
    killed meanwhile is not taken for a finished one.
    """
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in _IN_PLACE:
        if (folder / name).exists():
            shutil.copyfile(folder / name, stage / name)  # for the plots and the dashboard
    predictions, test = find_callback(trainer, PredictionCollector), data.corpus.test
    thresholds = _thresholds(trainer)
    if predictions.is_complete and test is not None:
        encoded, rows = data.splits["test"], predictions.indices
        tested = SplitPredictions(
            class_names=data.class_names,
            names=[test.names[row] for row in rows],
            texts=test.take(rows).texts,
            labels=encoded.labels[rows],
            lengths=encoded.lengths[rows],
            losses=predictions.losses,
            probabilities=predictions.probabilities,
            thresholds=thresholds,
        )
        result = result | {"per_class": tested.write(stage)}
    write_train_hashes(stage / TRAIN_HASHES, data)
    result = result | describe_thresholds(data.class_names, thresholds)
    write_result(stage, result)
    if plots:
        with skip_out_of_memory("further plots"):
            draw_plots(stage)
    _report_to_wandb(stage, trainer)
    files = [path for path in stage.rglob("*") if path.is_file() and path.name not in _IN_PLACE]
    for path in sorted(files, key=lambda path: (path.name == "result.json", path)):
        target = folder / path.relative_to(stage)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
    shutil.rmtree(stage, ignore_errors=True)
    print_run(folder)


def _thresholds(trainer: L.Trainer) -> np.ndarray | None:
    model = trainer.lightning_module
    thresholds = model.classifier.thresholds if isinstance(model, TextClassifier) else None
    return None if thresholds is None else thresholds.cpu().numpy()


def _report_to_wandb(stage: Path, trainer: L.Trainer) -> None:
    loggers = (x for x in trainer.loggers if isinstance(x, FaultTolerantWandbLogger))
    logger = next(loggers, None)
    if logger is None or logger.failed:
        return
    from rnn_lab.tracking.wandb_report import report_to_wandb  # it imports wandb

    best = find_callback(trainer, BestCheckpoint).best_model_path
    checkpoint = Path(best) if best else None
    # The run is complete without its dashboard.
    with skip_out_of_memory("summary in W&B"), logger.tolerate():
        report_to_wandb(logger.experiment, stage, checkpoint)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `result` to result.json in `folder`, completely or not at all."""
    write_json(folder / "result.json", {SCHEMA_KEY: SCHEMA_VERSION} | dict(result))


def is_demo_fallback(config: RunConfig, data: TextDataModule) -> bool:
    """Return whether synthetic texts take the place of IMDB, which was not found."""
    return config.data.source == "auto" and data.corpus.synthetic


def run_identity(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
    """Return the name and tags of a run, in which synthetic texts never pass for IMDB."""
    corpus, fallback = data.corpus, is_demo_fallback(config, data)
    marks = {"synthetic": corpus.synthetic, "fallback-to-demo": fallback}
    name = config.name or f"{config.model.name}-{corpus.name}-seed{config.seed}"
    if fallback and "demo" not in name:
        name += "-demo"
    return {
        "run_name": name,
        "tags": [config.model.name, corpus.name, *config.tags, *(m for m in marks if marks[m])],
        "synthetic": corpus.synthetic,
        "demo_fallback": fallback,
        "seed": config.seed,
    }


def run_metadata(
    spec: RunSpec,
    data: TextDataModule,
    trainer: L.Trainer,
    hardware: Hardware,
    code: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return what a run was made of. All that differs between two equal runs is under `timing`.

    `code` are the `versions` and the commit with which it started: a commit during a long training
    is not what trained.
    """
    config, model = spec.config, trainer.lightning_module
    assert isinstance(model, RecurrentModule)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizer = {"sparse_embedding": model.uses_sparse_embedding}
    rollbacks = find_callback(trainer, NonFiniteGuard).rollbacks
    described = describe_data(data) | {"duplicates": data.duplicates}
    if not data.use_labels:
        described["pretraining_texts"] = data.pretraining_texts.about
    calibration = {}
    if isinstance(model, TextClassifier):
        found = describe_calibration(model.classifier, model.uncalibrated)
        calibration = {"calibration": found}
    return calibration | {
        "objective": config.objective.model_dump(),
        "model": config.model.model_dump() | {"parameters": parameters},
        "data": described | describe_unlabelled(data) | describe_pseudo_labels(data),
        "loss": config.loss.model_dump(),
        "optimizer": config.optimizer.model_dump() | optimizer,
        "scheduler": config.scheduler.model_dump(),
        "trainer": config.trainer.model_dump() | asdict(hardware),
        "callbacks": {n: str(t["_target_"]) for n, t in config.callbacks.items() if t},
        "metrics": {n: str(t["_target_"]) for n, t in config.metrics.items() if t},
        "versions": {name: version for name, version in code.items() if name != "commit"},
        "git_commit": code["commit"],
        "machine": describe_hardware(hardware.accelerator),
        "overrides": collapse(spec.raw_overrides),
        "rollbacks": [asdict(rollback) for rollback in rollbacks],
        "config_fingerprint": spec.fingerprint,
        MONITORED: config.trainer.monitor,
        "monitored_mode": config.trainer.monitored_mode,
        "batch_halvings": spec.batch_halvings,
        "timing": {
            "wall_time_s": round(find_callback(trainer, ExactCheckpoint).seconds, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "train_examples_per_s": find_callback(trainer, Throughput).examples_per_s,
            "peak_memory_bytes": peak_memory_bytes(),
            "threads": torch.get_num_threads(),  # of each process
        },
    }


def describe_calibration(
    network: RecurrentClassifier, uncalibrated: Mapping[str, float]
) -> dict[str, Any]:
    """Return the temperature, and the test metrics of probabilities without it."""
    return {"temperature": network.temperature.item(), "uncalibrated": dict(uncalibrated)}


def describe_thresholds(
    class_names: Sequence[str], thresholds: np.ndarray | None
) -> dict[str, dict[str, float]]:
    """Return the threshold of each label; {} where a text has one label."""
    if thresholds is None:
        return {}
    return {"thresholds": dict(zip(class_names, thresholds.tolist(), strict=True))}


def describe_data(data: TextDataModule) -> dict[str, Any]:
    """Return what texts and what vocabulary a run used, to compare another run with."""
    corpus, encoder = data.corpus, data.text_encoder
    return {
        "name": corpus.name,
        "task": data.task,
        "class_names": list(data.class_names),
        "num_examples": {split: len(encoded) for split, encoded in data.splits.items()},
        "fingerprint": corpus.fingerprint,
        "test_fingerprint": fingerprint_test_split(corpus),
        "vocab_size": encoder.vocab_size,
        "vocabulary_fingerprint": encoder.fingerprint,
        "num_skipped": len(corpus.skipped),
        "source_info": dict(corpus.source_info),
        "terms": corpus.terms,
        "texts": data.text_statistics,
        "options": data.config.model_dump(),
    }


def describe_unlabelled(data: TextDataModule) -> dict[str, Any]:
    """Return what unlabelled texts the training batches had; {} for none."""
    if (unlabelled := data.unlabelled) is None:
        return {}
    counts = {"num_examples": len(unlabelled.texts), "held_out": unlabelled.num_held_out}
    return {"unlabelled": counts | {"fingerprint": unlabelled.fingerprint}}


def describe_pseudo_labels(data: TextDataModule) -> dict[str, Any]:
    """Return what unlabelled texts the teacher has labelled; {} without one."""
    if (found := data.pseudo_labelled) is None:
        return {}
    counts = count_classes(found.split.labels, data.num_classes).tolist()
    return {
        "pseudo_labels": {
            "num_examples": len(found.rows),
            "num_unlabelled": len(found.unlabelled.ids),
            "held_out": found.unlabelled.num_held_out,
            "labelled": found.num_labelled,
            "per_class": dict(zip(data.class_names, counts, strict=True)),
            "fingerprint": found.fingerprint,
        }
    }


def versions() -> dict[str, str]:
    """Return the versions that metrics depend on; torchtext's where it is installed."""
    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    with contextlib.suppress(PackageNotFoundError):
        found["torchtext"] = version("torchtext")
    return found


def git_commit() -> str | None:
    """Return the commit of the clone, marked `-dirty` where files differ; None for a wheel."""
    root = project_root()
    if root is None:  # the folder of a wheel may be within some other repository
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
