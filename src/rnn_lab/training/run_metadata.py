"""result.json: what a run was, on what data, and what came of it."""

import contextlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import write_json
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION
from rnn_lab.paths import project_root

PACKAGES = ("torch", "lightning", "hydra-core", "torchmetrics", "numpy", "tokenizers", "wandb")


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write `result` to the run folder's result.json, which is either whole or absent."""
    write_json(folder / "result.json", {SCHEMA_KEY: SCHEMA_VERSION} | result)


def describe_data(data: TextDataModule) -> dict[str, Any]:
    """Say what reviews and what vocabulary a run used, so that another can be compared with it."""
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
    """Return the versions that a run's figures depend on; torchtext's where it is installed."""
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
