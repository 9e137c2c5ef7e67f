"""Folders of sweeps as their jobs leave them, written out by hand: no model, no Lightning."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml


def composed(**options: object) -> dict[str, object]:
    """A composed config as Hydra saves it, `model__name="lstm"` in place of what it would have."""
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
    reviews: int = 300,
    correct: Sequence[bool] | None = None,
    result: Mapping[str, object] | None = None,
    **options: object,
) -> Path:
    """A job of `status` whose best epoch is its last but one, with that validation accuracy."""
    folder = sweep / called
    (folder / "config").mkdir(parents=True)
    config = composed(**options)
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    overrides = [f"{option.replace('__', '.')}={value}" for option, value in options.items()]
    (folder / "job.json").write_text(json.dumps({"overrides": overrides, "trial": None}))
    curve = [accuracy - 0.3 * 0.4**epoch for epoch in range(epochs)]
    if epochs:
        curve[-2 if epochs > 1 else -1] = accuracy
        write_metrics(folder, curve)
    best = max(epochs - 2, 0)
    figures = {"val/accuracy": accuracy, "val/loss": 1 - accuracy}
    if status == "finished":
        right = list(correct) if correct is not None else _right(accuracy - 0.01, reviews, called)
        write_correctness(folder, right)
        written = {
            "run_name": called, "synthetic": False, "demo_fallback": False, "seed": config["seed"],
            "best_epoch": best, "epochs": epochs, "monitored_metric": "val/accuracy", **figures,
            "test/accuracy": float(np.mean(right)), "test/loss": 1.01 - accuracy,
            "model": config["model"], "data": {"name": "imdb", "fingerprint": "f" * 64},
            "timing": {"wall_time_s": 9.5, "train_examples_per_s": 1234.5},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(written | dict(result or {})))
    elif status == "pruned":
        pruned = {"epoch": epochs - 1, "monitored_metric": "val/accuracy", "value": accuracy}
        pruned |= {"best_epoch": best, "epochs": epochs, **figures}
        (folder / "pruned.json").write_text(json.dumps(pruned))
    elif status == "failed":
        failure = {
            "error": "OutOfMemoryError: CUDA out of memory", "type": "OutOfMemoryError",
            "log": str(folder / "train.log"), "overrides": overrides, "attempts": 2,
        }  # fmt: skip
        (folder / "failure.json").write_text(json.dumps(failure))
    return folder


def _right(share: float, reviews: int, name: str) -> list[bool]:
    random = np.random.default_rng(list(name.encode()))
    return list(random.random(reviews) < share)


def write_metrics(folder: Path, curve: Sequence[float]) -> None:
    """The val/ figures as Lightning's CSVLogger writes them."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "step", "train/loss", "val/accuracy", "val/loss"])
        for epoch, accuracy in enumerate(curve):
            writer.writerow([epoch, epoch * 10 + 9, "", accuracy, 1 - accuracy])
            writer.writerow([epoch, epoch * 10 + 9, 0.5, "", ""])


def write_correctness(
    folder: Path, right: Sequence[bool], names: Sequence[str] | None = None
) -> None:
    """predictions.csv of two classes by turns, right where `right` says so."""
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
