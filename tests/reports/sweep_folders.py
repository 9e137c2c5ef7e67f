"""Sweep folders as jobs write them, made by hand: no model, no Lightning."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml


def composed(**options: object) -> dict[str, object]:
    """Return a composed config as Hydra saves it, with options such as `model__name="lstm"`."""
    config: dict[str, object] = {
        "seed": 1,
        "name": None,
        "model": {"name": "gru", "hidden_size": 128, "dropout": 0.5},
        "data": {"source": "imdb", "batch_size": 64, "split_seed": "${seed}"},
        "optimizer": {"name": "adamw", "lr": 0.004, "momentum": 0.0},
        "trainer": {"max_epochs": 4, "monitor": "val/accuracy", "patience": None},
        "logger": {"name": "none"},
    }
    for name, value in options.items():
        group = config
        *parents, last = name.split("__")
        for parent in parents:
            group = group[parent]  # type: ignore[assignment]
        group[last] = value
    return config


def write_job(
    sweep: Path,
    called: str,
    /,
    *,
    accuracy: float = 0.9,
    status: str = "finished",
    epochs: int = 4,
    examples: int = 300,
    correct: Sequence[bool] | None = None,
    result: Mapping[str, object] | None = None,
    **options: object,
) -> Path:
    """Write a job of `status` whose last epoch but one has the best validation accuracy."""
    folder = sweep / called
    (folder / ".hydra").mkdir(parents=True)
    config = composed(**options)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    overrides = [f"{option.replace('__', '.')}={value}" for option, value in options.items()]
    (folder / "job.json").write_text(json.dumps({"overrides": overrides, "trial": None}))
    curve = [accuracy - 0.3 * 0.4**epoch for epoch in range(epochs)]
    if epochs:
        curve[-2 if epochs > 1 else -1] = accuracy
        write_metrics(folder, curve)
    best = max(epochs - 2, 0)
    metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy}
    if status == "finished":
        right = list(correct) if correct is not None else _right(accuracy - 0.01, examples, called)
        write_correctness(folder, right)
        written = {
            "schema_version": 3, "run_name": called, "seed": config["seed"],
            "synthetic": False, "demo_fallback": False,
            "best_epoch": best, "epochs": epochs, "monitored_metric": "val/accuracy", **metrics,
            "test/accuracy": float(np.mean(right)), "test/loss": 1.01 - accuracy,
            "model": config["model"], "data": {"name": "imdb", "fingerprint": "f" * 64},
            "timing": {"wall_time_s": 9.5, "train_examples_per_s": 1234.5},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(written | dict(result or {})))
    elif status == "pruned":
        pruned = {"epoch": epochs - 1, "monitored_metric": "val/accuracy", "value": accuracy}
        pruned |= {"best_epoch": best, "epochs": epochs, **metrics}
        (folder / "pruned.json").write_text(json.dumps(pruned))
    elif status == "failed":
        failure = {
            "error": "OutOfMemoryError: CUDA out of memory", "type": "OutOfMemoryError",
            "log": str(folder / "train.log"), "overrides": overrides, "attempts": 2,
        }  # fmt: skip
        (folder / "failure.json").write_text(json.dumps(failure))
    return folder


def _right(share: float, examples: int, name: str) -> list[bool]:
    random = np.random.default_rng(list(name.encode()))
    return list(random.random(examples) < share)


def write_metrics(folder: Path, curve: Sequence[float]) -> None:
    """Write val/ metrics as Lightning's CSVLogger does."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "step", "train/loss", "val/accuracy", "val/loss"])
        for epoch, accuracy in enumerate(curve):
            writer.writerow([epoch, epoch * 10 + 9, "", accuracy, 1 - accuracy])
            writer.writerow([epoch, epoch * 10 + 9, 0.5, "", ""])


def write_correctness(
    folder: Path, right: Sequence[bool], names: Sequence[str] | None = None
) -> None:
    """Write predictions.csv with alternating labels, correct where `right` is true."""
    classes = ("neg", "pos")
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["name", "label", "prediction", "length", "loss", "probability_neg", "probability_pos"]
        )
        for i, correct in enumerate(right):
            label = i % 2
            prediction = label if correct else 1 - label
            chances = (0.9, 0.1) if prediction == 0 else (0.1, 0.9)
            name = f"test/{i}.txt" if names is None else names[i]
            writer.writerow([name, classes[label], classes[prediction], 9, 0.1, *chances])
