"""Print the metrics of a run, or those of two runs with what could explain their differences."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rnn_lab.errors import sanitize
from rnn_lab.models.metric_table import MetricMode
from rnn_lab.reports.evaluation_curves import NOT_MULTILABEL
from rnn_lab.reports.formatting import (
    ALL_METRIC_NAMES,
    SPLIT_NAMES,
    format_duration,
    format_metric,
    format_percent,
    format_run,
    is_multilabel,
    metric_names,
    order_metrics,
    shorten,
    threshold_note,
)
from rnn_lab.reports.rendering import make_table, print_lines
from rnn_lab.runs.result_json import diff_options, read_result, recorded_options
from rnn_lab.runs.untrusted import get_group, get_number
from rnn_lab.validation import FINGERPRINT_EXCLUDED

BASELINE_NAMES = {
    "tfidf": "TF-IDF with logistic regression",
    "nbsvm": "NB-SVM",
    "majority": "most frequent class",
}
_COMPARED = ("accuracy", "f1")
_ROUNDING = 1e-6  # of metrics: torchmetrics' are float32, scikit-learn's float64
# Of a run that loses to a baseline: an option, its values that are good, and what to try.
_ADVICE: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("model.ngrams", (2, 3, 4, 5), "model.ngrams=2"),
    ("model.pooling", ("max",), "model.pooling=max"),
    ("model.bidirectional", (True,), "model.bidirectional=true"),
    ("data.batch_size", (8, 16), "data.batch_size=16"),
)
_MORE_EPOCHS = "more epochs with trainer.max_epochs"
_VECTORS = "texts without labels with data.vectors=skipgram data.unlabelled=<file>"
_MAX_LABELS = 30  # in the table of labels
_MAX_NAMED = 3  # differing metrics in the one-line summary
_MAX_LENGTH = 60  # characters of a value: the file may contain anything


def print_run(run_folder: Path, console: Console | None = None) -> None:
    """Print the validation and test metrics of a run, or the test metrics of an evaluation.

    Below them are its best epoch, its speed and duration, its plots and its folder.
    """
    console = console or Console()
    result = read_result(run_folder)
    table = make_table(format_run(result))
    table.add_column("")
    splits = ["test"] if "checkpoint" in result else list(SPLIT_NAMES)
    for split in splits:
        table.add_column(SPLIT_NAMES[split], justify="right")
    added = (name.partition("/")[2] for name in order_metrics(result))
    names = metric_names(result)
    for metric in dict.fromkeys((*names, *added)):
        values = (format_metric(metric, result.get(f"{split}/{metric}")) for split in splits)
        table.add_row(Text(names.get(metric, metric)), *values)
    console.print(table)
    if note := threshold_note(result):
        print_lines([note], console)
    if is_multilabel(result) and result.get("per_class"):
        console.print(_label_table(result["per_class"], result["thresholds"]))
    print_lines(_facts(result, run_folder), console)


def _label_table(
    labels: Mapping[str, Mapping[str, float]], thresholds: Mapping[str, float]
) -> Table:
    """Return the test scores of each label at its threshold; of many labels, the most frequent."""
    shown = sorted(labels, key=lambda name: -labels[name]["support"])[:_MAX_LABELS]
    more = f", the {len(shown)} most frequent of {len(labels)}" if len(shown) < len(labels) else ""
    table = make_table(f"Labels of the test split{more}")
    table.add_column("")
    for column in ("threshold", "precision", "recall", "F1", "texts"):
        table.add_column(column, justify="right")
    for name in (name for name in labels if name in shown):
        scores = labels[name]
        shares = thresholds[name], scores["precision"], scores["recall"], scores["f1"]
        cells = [*map(format_percent, shares), f"{scores['support']:,}"]
        table.add_row(Text(shorten(sanitize(name))), *cells)
    return table


def _facts(result: dict[str, Any], run_folder: Path) -> Iterator[str]:
    epoch, timing = result["best_epoch"], result.get("timing", {})
    rate, seconds = timing.get("train_examples_per_s"), timing.get("wall_time_s")
    facts = [
        None if epoch is None else f"best epoch: {epoch}",
        None if rate is None else f"{rate:,.0f} training examples/s",
        None if seconds is None else format_duration(seconds),
    ]
    if any(facts):
        yield " · ".join(filter(None, facts))
    yield from _member_lines(result)
    yield from _calibration_lines(result)
    yield from baseline_lines(result)
    if result.get("demo_fallback"):
        yield "IMDB was not available: these metrics are of synthetic demo reviews, not of IMDB."
    if plots := sorted((run_folder / "plots").glob("*.png")):
        if result.get("per_class") and is_multilabel(result):
            omitted = ", ".join(name.replace("_", " ") for name in NOT_MULTILABEL)
            yield f"Not drawn, since a text has any number of labels: {omitted}"
        yield f"Plots in plots/: {', '.join(plot.stem.replace('_', ' ') for plot in plots)}"
    yield f"Run folder: {run_folder}"


def _member_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """List the accuracies of the runs of an ensemble."""
    if members := result.get("members"):
        shares = (format_metric("accuracy", member.get("test/accuracy")) for member in members)
        yield f"The mean of {len(members)} runs, whose accuracies are {', '.join(shares)}"


def _calibration_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Say what the temperature did to the test metrics."""
    calibration = get_group(result, "calibration")
    temperature = get_number(calibration.get("temperature"))
    if temperature is None or temperature == 1.0:
        return
    changes = []
    for name in ("calibration_error", "loss"):
        before = get_number(get_group(calibration, "uncalibrated").get(f"test/{name}"))
        if before is not None:
            after = format_metric(name, result.get(f"test/{name}"))
            changes.append(f"{ALL_METRIC_NAMES[name]} {format_metric(name, before)} to {after}")
    of_test = f"; test {', '.join(changes)}" if changes else ""
    yield f"Probabilities are calibrated: temperature {temperature:.2f}{of_test}"


def baseline_metrics(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of each baseline that a run has, by its name in BASELINE_NAMES."""
    found = {name: get_group(result, "baseline", key) for key, name in BASELINE_NAMES.items()}
    return {name: metrics for name, metrics in found.items() if metrics}


def is_worse(own: float, other: float, mode: MetricMode = "max") -> bool:
    """Return whether a network's metric is worse than a baseline's; equal ones may be rounded."""
    return (other - own if mode == "max" else own - other) > _ROUNDING


def baseline_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Compare the network with the baselines of a run, and name what may help where it loses."""
    names = metric_names(result)
    tfidf = get_group(result, "baseline", "tfidf")
    split = "test" if f"test/{_COMPARED[0]}" in tfidf else "val"
    lost = []
    for name, scores in baseline_metrics(result).items():
        shown = []
        for metric in _COMPARED:
            score, own = scores.get(f"{split}/{metric}"), result.get(f"{split}/{metric}")
            shown.append(f"{names[metric]} {format_metric(metric, score)}")
            if score is not None and own is not None and is_worse(own, score):
                gap = format_metric(metric, score - own).removesuffix(" %")
                lost.append(f"{names[metric]} by {gap} points to {name}")
        yield f"{name}, {SPLIT_NAMES[split]}: {', '.join(shown)}"
    if lost:
        advice = ", ".join(_advice(result))
        helps = f". Most likely to help: {advice}" if advice else ""
        yield f"The network loses: {'; '.join(lost)}{helps}"


def _advice(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to try first where a network loses to a baseline."""
    best, epochs = result.get("best_epoch"), result.get("epochs")
    if isinstance(best, int) and isinstance(epochs, int) and best >= epochs - 2:
        yield _MORE_EPOCHS  # the last epochs were still better than those before
    options = recorded_options(result)
    for option, good, text in _ADVICE:
        if options.get(option) not in good:
            yield text
    if options.get("data.vectors") is None:
        yield _VECTORS


@dataclass(frozen=True)
class Comparison:
    """The metrics of two runs, and the reasons why they may differ."""

    metrics: dict[str, tuple[Any, Any]]  # name -> recorded, reproduced
    reasons: list[str]

    @property
    def differing(self) -> list[str]:
        """The names of the metrics that are not bit-identical."""
        return [name for name, (first, second) in self.metrics.items() if first != second]

    def format_differing(self) -> str:
        """Return "2 of 12 metrics differ (val/loss, test/loss)"."""
        named = [_format_value(name) for name in self.differing[:_MAX_NAMED]]
        named += ["..."] * (len(self.differing) > _MAX_NAMED)
        return f"{len(self.differing)} of {len(self.metrics)} metrics differ ({', '.join(named)})"


def compare_runs(recorded: Mapping[str, Any], reproduced: Mapping[str, Any]) -> Comparison:
    """Compare the contents of two result.json, the second one made here and now."""
    splits = tuple(f"{split}/" for split in SPLIT_NAMES)
    found = (name for name in (*reproduced, *recorded) if name.startswith(splits))
    names = dict.fromkeys(("best_epoch", "epochs", *found))
    metrics = {name: (recorded.get(name), reproduced.get(name)) for name in names}
    return Comparison(metrics, list(_reasons(recorded, reproduced)))


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print both values of every metric, whether they are equal, and what else differs."""
    console = console or Console()
    table = make_table()
    table.add_column("metric")
    for column in ("recorded", "reproduced", "equal"):
        table.add_column(column, justify="right")
    for name, pair in comparison.metrics.items():
        row = (name, *pair, "yes" if pair[0] == pair[1] else "NO")
        table.add_row(*(Text(_format_value(cell)) for cell in row))
    console.print(table)
    lines = list(comparison.reasons)
    if not comparison.differing:
        lines.insert(0, f"All {len(comparison.metrics)} metrics are bit-identical.")
    elif lines:
        lines.insert(0, f"{comparison.format_differing()}. The runs also differ in:")
    print_lines(lines, console)


def _reasons(recorded: Mapping[str, Any], reproduced: Mapping[str, Any]) -> Iterator[str]:
    for first, second in zip(_causes(recorded), _causes(reproduced), strict=True):
        for name, *values in diff_options(first, second):
            before, here = map(_format_value, values)
            hint = f" (OMP_NUM_THREADS={before})" if name == "threads" else ""
            yield f"{name}: {before} recorded, {here} here{hint}"
    if recorded_options(reproduced).get("trainer.accelerator") == "gpu":
        yield "a GPU does not fix the order of every sum"


def _causes(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what the metrics of a run depend on, in groups."""
    versions, machine, timing = (
        get_group(result, name) for name in ("versions", "machine", "timing")
    )
    options = {
        name: value
        for name, value in recorded_options(result).items()
        if name not in FINGERPRINT_EXCLUDED
        # Paths of the user's own texts: the fingerprint tells whether the texts are equal.
        and not (name.startswith("data.") and name.endswith("_path"))
    }
    commit, threads = {"git_commit": result.get("git_commit")}, {"threads": timing.get("threads")}
    return [options, versions, machine, commit, threads]


def _format_value(value: Any) -> str:
    """Return a value safe to print: it may come from an untrusted file."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
