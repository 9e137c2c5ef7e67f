"""result.json: what a run was, on what data, and its metrics."""

import contextlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.hardware import Hardware, describe_hardware
from rnn_lab.io.atomic import write_json
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.paths import project_root
from rnn_lab.training.callbacks import find_callback
from rnn_lab.training.callbacks.exact_checkpoint import ExactCheckpoint
from rnn_lab.training.callbacks.monitors import Throughput
from rnn_lab.training.callbacks.nonfinite import NonFiniteGuard
from rnn_lab.training.config import RunConfig
from rnn_lab.training.process import peak_memory_bytes
from rnn_lab.training.reproduce import collapse
from rnn_lab.training.spec import RunSpec

PACKAGES = ("torch", "lightning", "hydra-core", "torchmetrics", "numpy", "tokenizers", "wandb")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `result` to result.json in `folder`, completely or not at all."""
    write_json(folder / "result.json", {SCHEMA_KEY: SCHEMA_VERSION} | dict(result))


def run_identity(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
    """Return the name and tags of a run, in which synthetic texts never pass for IMDB."""
    corpus = data.corpus
    fallback = config.data.source == "auto" and corpus.synthetic
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
    spec: RunSpec, data: TextDataModule, trainer: L.Trainer, hardware: Hardware
) -> dict[str, Any]:
    """Return what a run was made of. All that differs between two equal runs is under `timing`."""
    config, model = spec.config, trainer.lightning_module
    assert isinstance(model, TextClassifier)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    guard = find_callback(trainer, NonFiniteGuard)
    return {
        "model": config.model.model_dump() | {"parameters": parameters},
        "data": describe_data(data) | {"duplicates": data.duplicates},
        "optimizer": config.optimizer.model_dump()
        | {"sparse_embedding": model.uses_sparse_embedding},
        "scheduler": config.scheduler.model_dump(),
        "trainer": config.trainer.model_dump() | asdict(hardware),
        "callbacks": _class_names(config.callbacks),
        "metrics": _class_names(config.metrics),
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": describe_hardware(hardware.accelerator),
        "overrides": collapse(spec.raw_overrides),
        "rollbacks": [asdict(rollback) for rollback in guard.rollbacks],
        "config_fingerprint": spec.fingerprint,
        "monitored_metric": config.trainer.monitor,
        "batch_halvings": spec.batch_halvings,
        "timing": {
            "wall_time_s": round(find_callback(trainer, ExactCheckpoint).seconds, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "train_examples_per_s": round(find_callback(trainer, Throughput).examples_per_s, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "threads": torch.get_num_threads(),  # of each process
        },
    }


def describe_data(data: TextDataModule) -> dict[str, Any]:
    """Return what texts and what vocabulary a run used, to compare another run with."""
    corpus, encoder = data.corpus, data.text_encoder
    return {
        "name": corpus.name,
        "class_names": list(data.class_names),
        "num_examples": {split: len(encoded) for split, encoded in data.splits.items()},
        "fingerprint": corpus.fingerprint,
        "vocab_size": encoder.vocab_size,
        "vocabulary_fingerprint": encoder.fingerprint,
        "num_skipped": len(corpus.skipped),
        "options": data.config.model_dump(),
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


def _class_names(targets: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    return {name: str(target["_target_"]) for name, target in targets.items() if target}
