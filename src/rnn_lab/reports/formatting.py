"""Format metrics, durations and the names of models, data and runs for tables, plots and pages."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from rnn_lab.errors import collapse_whitespace
from rnn_lab.models.metric_table import (
    LANGUAGE_MODEL,
    METRICS,
    MULTICLASS,
    MULTILABEL,
    metrics_of,
)
from rnn_lab.runs.untrusted import get_group

METRIC_NAMES = {
    task: {metric.name: metric.titles[task] for metric in metrics_of(task)}
    for task in (MULTICLASS, MULTILABEL, LANGUAGE_MODEL)
}
ALL_METRIC_NAMES = {metric.name: metric.title for metric in METRICS}
_SHARES = {metric.name for metric in METRICS if metric.is_share}
SPLIT_NAMES = {"val": "validation", "test": "test"}
_JOINERS = "\u200c\u200d"  # not printable, and a part of words: Persian, Hindi, emoji


def is_language_model(result: Mapping[str, Any]) -> bool:
    """Return whether a result.json is that of a language model, which predicts no labels."""
    return get_group(result, "objective").get("name") == LANGUAGE_MODEL


def is_multilabel(result: Mapping[str, Any]) -> bool:
    """Return whether a result.json says that a text has any number of labels."""
    return get_group(result, "data").get("task") == MULTILABEL


def metric_names(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the built-in metrics of a run and what tables call them, from its result.json."""
    if is_language_model(result):
        return METRIC_NAMES[LANGUAGE_MODEL]
    return METRIC_NAMES[MULTILABEL if is_multilabel(result) else MULTICLASS]


def threshold_note(result: Mapping[str, Any]) -> str | None:
    """Say which thresholds the metrics of a run's splits are of; None: they have none."""
    has_both = all(any(name.startswith(f"{split}/") for name in result) for split in SPLIT_NAMES)
    if not has_both or is_language_model(result) or not is_multilabel(result):
        return None
    return (
        "Accuracy and F1 of validation are at a threshold of 0.5; those of test are at the "
        "thresholds that validation chose."
    )


def format_model(result: dict[str, Any]) -> str:
    """Return "GRU", "minLSTM", "bidirectional LSTM" ..., from a run's result.json."""
    name = format_cell(result["model"]["name"])
    return f"bidirectional {name}" if result["model"].get("bidirectional") else name


def format_cell(name: str) -> str:
    """Return the name of a cell as papers write it: "LSTM", "minGRU", "peephole LSTM"."""
    return re.sub("lstm|gru|rnn", lambda cell: cell[0].upper(), name).replace("_", " ")


def format_data(result: dict[str, Any]) -> str:
    """Return "IMDB reviews" ..., from result.json. Generated data is always called synthetic."""
    name: str = result["data"]["name"]
    if name == "long_range":
        return f"synthetic long-range texts, distance {result['data']['options']['distance']:,}"
    if result["synthetic"]:
        return "synthetic demo reviews" if name == "demo" else f"synthetic {name}"
    return "IMDB reviews" if name == "imdb" else name


def format_run(result: dict[str, Any]) -> str:
    """Return "GRU on IMDB reviews, seed 1". A result without a seed omits it.

    Of an ensemble: "Ensemble of 3 runs: GRU on IMDB reviews".
    """
    members = result.get("members")
    ensemble = f"Ensemble of {len(members)} runs: " if isinstance(members, list) else ""
    seed = "" if result["seed"] is None else f", seed {result['seed']}"
    kind = " language model" if is_language_model(result) else ""
    return f"{ensemble}{format_model(result)}{kind} on {format_data(result)}{seed}"


def format_number(value: float | None, spec: str, unit: str = "") -> str:
    """Return `value` in the format `spec`, None and NaN as "-"."""
    return "-" if value is None or math.isnan(value) else f"{value:{spec}}{unit}"


def format_percent(share: float | None, digits: int = 1) -> str:
    """Return a share as "88.9 %", None and NaN as "-"."""
    return format_number(None if share is None else 100 * share, f".{digits}f", " %")


def format_percent_tick(share: float) -> str:
    """Return a share as "92 %" or "92.5 %", with no more digits than it has."""
    return f"{round(100 * share, 6):g} %"


def format_signed(value: float, digits: int = 2) -> str:
    """Return "+0.25" or "−0.25"."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_metric(metric: str, value: float | None) -> str:
    """Return a value of "accuracy", "val/loss" ... as tables show it."""
    return format_percent(value, 2) if is_share(metric) else format_number(value, ".4f")


def is_share(metric: str) -> bool:
    """Return whether "val/accuracy" ... is shown as a percentage."""
    return metric.rpartition("/")[2] in _SHARES


def distance_label(direction: str) -> str:
    """Return the label of the axis of distances of a gradient flow, see `read_gradient_flow`."""
    end = "last token" if direction == "forward" else "first token"
    return f"tokens to the {end}, of a quarter of the texts or more"


def format_metric_name(name: str) -> str:
    """Return "validation accuracy" for "val/accuracy"."""
    split, _, metric = name.partition("/")
    return f"{SPLIT_NAMES.get(split, split)} {ALL_METRIC_NAMES.get(metric, metric)}"


def order_metrics(names: Iterable[str]) -> list[str]:
    """Return the val/ and test/ metrics among `names`: validation first, then as METRICS.

    Metrics that a user added come after the built-in ones, in their own order.
    """
    found = [name for name in dict.fromkeys(names) if name.partition("/")[0] in SPLIT_NAMES]
    known = {metric: position for position, metric in enumerate(ALL_METRIC_NAMES)}

    def position(name: str) -> tuple[bool, int]:
        split, _, metric = name.partition("/")
        return split == "test", known.get(metric, len(known))

    return sorted(found, key=position)


def format_duration(seconds: float) -> str:
    """Return "42 s", "3 min 5 s" or "2 h 3 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_count(count: int, noun: str) -> str:
    """Return "1 run" or "1,200 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shorten(text: str, max_length: int = 24) -> str:
    """Return `text` in one line of at most `max_length` characters, its start and end kept."""
    text = collapse_whitespace(text)
    if len(text) <= max_length:
        return text
    start = max_length // 2
    return f"{text[:start]}…{text[-(max_length - start - 1) :]}"


def plot_label(text: str, max_length: int = 24) -> str:
    """Return `text` as a plot can show it: short, printable and free of mathematics."""
    shown = (
        c if c.isprintable() or c.isspace() or c in _JOINERS else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
    label = escape_math(shorten("".join(shown), max_length))
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in label):
        return f"\u2068{label}\u2069"  # isolated: a number after it is not read from the right too
    return label


def escape_math(text: str) -> str:
    """Escape the dollar signs that matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
