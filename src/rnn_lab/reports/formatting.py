"""How reports name a run's model and data, and write its numbers."""

import math
from typing import Any

METRICS = {
    "accuracy": "accuracy",
    "f1": "F1 (macro)",
    "auroc": "AUROC",
    "loss": "loss",
    "calibration_error": "calibration error",
}
SPLITS = {"val": "validation", "test": "test"}


def model_words(result: dict[str, Any]) -> str:
    """Return "GRU", "bidirectional LSTM" ..."""
    name: str = result["model"]["name"].upper()
    return f"bidirectional {name}" if result["model"].get("bidirectional") else name


def data_words(result: dict[str, Any]) -> str:
    """Return "IMDB reviews" ...; data that a generator made are always called synthetic."""
    name: str = result["data"]["name"]
    if name == "long_range":
        return f"synthetic texts, {result['data']['options']['distance']:,} words to remember"
    if result["synthetic"]:
        return "synthetic demo reviews"
    return "IMDB reviews" if name == "imdb" else name


def run_words(result: dict[str, Any]) -> str:
    """Return "GRU on IMDB reviews, seed 1"; a checkpoint alone does not tell its seed."""
    seed = "" if result["seed"] is None else f", seed {result['seed']}"
    return f"{model_words(result)} on {data_words(result)}{seed}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as "88.9 %"."""
    return number(None if share is None else 100 * share, f".{digits}f", " %")


def number(value: float | None, form: str, unit: str = "") -> str:
    """Return `value` formatted, or a dash where a run has none."""
    return "-" if value is None or math.isnan(value) else f"{value:{form}}{unit}"


def figure(metric: str, value: float | None) -> str:
    """Return the figure of "accuracy", "val/loss" ... as tables show it."""
    if metric.rpartition("/")[2] in ("accuracy", "f1"):
        return percent(value, 2)
    return number(value, ".4f")


def metric_words(name: str) -> str:
    """Return "validation accuracy" for "val/accuracy"."""
    split, _, metric = name.partition("/")
    return f"{SPLITS.get(split, split)} {METRICS.get(metric, metric)}"


def duration(seconds: float) -> str:
    """Return "42 s", "3 min 5 s" or "2 h 3 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shortened(name: str, letters: int = 24) -> str:
    """Return a class name as a plot has room for it, its two ends kept."""
    name = " ".join(name.split())
    if len(name) > letters:
        name = name[: letters // 2] + "…" + name[-letters // 2 + 1 :]
    return plain(name)


def plain(text: str) -> str:
    """Escape the dollar signs that matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
