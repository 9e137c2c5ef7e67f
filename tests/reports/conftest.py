"""Run folders as training writes them, made by hand."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest


def write_run(
    folder: Path,
    *,
    class_names: tuple[str, ...] = ("neg", "pos"),
    examples: int = 2000,
    epochs: int = 5,
    seed: int = 0,
    **result: object,
) -> Path:
    """Write a run whose accuracy is about 90 %, and less on long texts."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    _write_metrics(folder, epochs, random)
    _write_predictions(folder, class_names, examples, random)
    metrics = {"accuracy": 0.9012, "f1": 0.9008, "auroc": 0.9623, "loss": 0.2581}
    metrics["calibration_error"] = 0.0213
    written = {
        "schema_version": 3,
        "run_name": "gru-imdb-1",
        "synthetic": False,
        "demo_fallback": False,
        "seed": 1,
        "best_epoch": max(epochs - 2, 0),
        **{f"val/{name}": value for name, value in metrics.items()},
        **{f"test/{name}": value - 0.01 for name, value in metrics.items()},
        "model": {"name": "gru", "hidden_size": 128, "bidirectional": False},
        "data": {"source": "auto", "name": "imdb", "num_examples": {"test": examples}},
        "timing": {
            "wall_time_s": 187.4,
            "train_examples_per_s": 1234.5,
            "peak_memory_bytes": 1 << 30,
        },
    }
    (folder / "result.json").write_text(json.dumps(written | result))
    return folder


def _write_metrics(folder: Path, epochs: int, random: np.random.Generator) -> None:
    """Write metrics.csv as Lightning's CSVLogger does: a row per call, other columns empty."""
    columns = [
        "epoch", "grad_norm", "lr", "step", "test/accuracy", "test/loss",
        "train/accuracy", "train/loss", "val/accuracy", "val/loss",
    ]  # fmt: skip
    steps = 40
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for epoch in range(epochs):
            for step in range(epoch * steps + 4, (epoch + 1) * steps, 5):
                done = step / (epochs * steps)
                rate = 2e-3 * (done / 0.3 if done < 0.3 else (1 - done) / 0.7)
                writer.writerow({"step": step, "lr": rate})
                writer.writerow({"step": step, "epoch": epoch, "grad_norm": random.gamma(4, 0.2)})
            step = (epoch + 1) * steps - 1
            loss = 0.3 + 0.4 * 0.5**epoch + 0.02 * max(0, epoch - 2)
            writer.writerow(
                {"step": step, "epoch": epoch, "val/loss": loss, "val/accuracy": 1.05 - loss / 2}
            )
            loss = 0.1 + 0.55 * 0.55**epoch
            writer.writerow(
                {"step": step, "epoch": epoch, "train/loss": loss, "train/accuracy": 1 - loss / 2}
            )
        writer.writerow(
            {"step": step + 1, "epoch": epochs, "test/loss": 0.31, "test/accuracy": 0.889}
        )


def _write_predictions(
    folder: Path, class_names: tuple[str, ...], examples: int, random: np.random.Generator
) -> None:
    classes = len(class_names)
    labels = random.integers(classes, size=examples)
    lengths = np.minimum(np.exp(random.normal(5.1, 0.6, examples)).astype(int) + 1, 400)
    hardness = 1 + lengths / 300 + (labels == classes // 2)
    logits = random.normal(0, 1, (examples, classes)) * hardness[:, None]
    logits[np.arange(examples), labels] += 3.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = probabilities.astype(np.float32)
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["name", "label", "prediction", "length", "loss"]
            + [f"probability_{name}" for name in class_names]
        )
        for i, (label, given) in enumerate(zip(labels, probabilities, strict=True)):
            prediction = class_names[int(given.argmax())]
            loss = float(-np.log(given[label]))
            name = f"test/{class_names[label]}/{i}_7.txt"
            writer.writerow([name, class_names[label], prediction, lengths[i], loss, *given])


def write_gradient_flow(
    folder: Path,
    *,
    steps: Sequence[int] = (0, 40, 80),
    layers: int = 1,
    directions: Sequence[str] = ("forward",),
    distances: int = 30,
    rate: float = 0.8,
) -> None:
    """Write gradients that decay by `rate` per time step, and less after each optimizer step."""
    with (folder / "gradient_flow.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "layer", "direction", "distance", "norm", "examples"])
        for moment, step in enumerate(steps):
            for layer in range(layers):
                for direction in directions:
                    for distance in range(distances):
                        norm = 0.3 * rate ** (distance / (moment + 1))
                        writer.writerow([step, layer, direction, distance, norm, 32])


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run into a new folder."""

    def make(name: str = "run", **options: object) -> Path:
        return write_run(tmp_path / name, **options)

    return make
