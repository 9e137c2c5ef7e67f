"""Write run.html: everything of one run on a page that needs no other file and no network.

The folder may be anyone's, and parts of it missing or damaged: each part is read by itself, and one
that cannot be read is named on the page, which has the others.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np

from rnn_lab.data.corpus import SPLITS
from rnn_lab.errors import CheckpointError, collapse_whitespace, whole_message
from rnn_lab.io.atomic import atomic_write
from rnn_lab.models.metric_table import MetricMode, metric_mode
from rnn_lab.overrides import quote_override, shell_command
from rnn_lab.reports.evaluation_curves import (
    MACRO,
    Curve,
    class_curves,
    length_bins,
    make_curve,
    reliability,
    wilson_interval,
    without_temperature,
)
from rnn_lab.reports.formatting import (
    ALL_METRIC_NAMES,
    SPLIT_NAMES,
    format_duration,
    format_metric,
    format_metric_name,
    format_run,
    format_signed,
    is_language_model,
    is_multilabel,
    metric_names,
    order_metrics,
    threshold_note,
)
from rnn_lab.reports.rendering import render_template
from rnn_lab.reports.run import charts
from rnn_lab.reports.run.examples import Examples, level_class, word_styles
from rnn_lab.reports.run_summary import baseline_lines, baseline_metrics
from rnn_lab.reports.sweep.options import format_value, read_config
from rnn_lab.runs.gradient_flow import read_gradient_flow
from rnn_lab.runs.jobs import is_job_dir, job_status, read_job_file
from rnn_lab.runs.metrics import by_epoch, read_metrics
from rnn_lab.runs.predictions import (
    TOP_LOSSES,
    Predictions,
    TopLoss,
    read_predictions,
    read_top_losses,
)
from rnn_lab.runs.result_json import read_result, recorded_mode, recorded_options
from rnn_lab.runs.run_folder import BEST, CHECKPOINT_DIR, RUN_PAGE, SWEEP_PAGE
from rnn_lab.runs.untrusted import get_group, get_number
from rnn_lab.validation import AUTO

TEMPLATE = Path(__file__).parent / "page.html"
MAX_CLASSES = 200  # in the table of classes
MAX_CELLS = 12  # classes of a confusion matrix that is a table with numbers
MAX_MATRIX = 150  # classes of one that is drawn
MAX_CONFUSIONS = 15
MAX_EPOCHS = 100  # in the table of epochs
MAX_FACTS = 500  # in a list, all far below in the files of a run
MAX_LENGTH = 2_000  # characters of a value
DEFAULT_EXAMPLES = Examples()
_MAX_PARENTS = 4  # between a job and its sweep

_T = TypeVar("_T")
_Default = TypeVar("_Default")


@dataclass
class _Parts:
    """Reads the parts of a run, and keeps what is wrong with them."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def read(self, part: str, reader: Callable[[], _T], default: _Default) -> _T | _Default:
        """Return what `reader` returns, or `default` if it raises; then name part and reason."""
        try:
            return reader()
        except Exception as error:  # a damaged file can fail anywhere in the readers
            reason = whole_message(error)
            if not isinstance(error, CheckpointError):
                reason = f"a value of another kind than expected ({reason})"
            reason = reason.replace(f"{self.folder}{os.sep}", "")
            self.problems.append(reason if reason.startswith(part) else f"{part}: {reason}")
            return default


def write_run_page(folder: Path, output: Path, examples: Examples = DEFAULT_EXAMPLES) -> list[str]:
    """Write the page of the run in `folder` to the file `output`, atomically.

    Args:
        folder: of a run, or of an evaluation of one.
        output: the file.
        examples: the test examples that are shown.

    Returns:
        what is wrong with the run's files, a line each.

    Raises:
        CheckpointError: there is no run in the folder.
        WriteError: the page cannot be written.
    """
    text, problems = render_run_page(folder, output, examples)
    with atomic_write(output) as file:
        file.write(text)
    return problems


def render_run_page(
    folder: Path, output: Path | None = None, examples: Examples = DEFAULT_EXAMPLES
) -> tuple[str, list[str]]:
    """Return the page as HTML, and what is wrong with the run's files. See `write_run_page`."""
    check_run_folder(folder)
    parts = _Parts(folder)
    status = job_status(folder)
    result: dict[str, Any] = {}
    if status == "finished":
        result = parts.read("result.json", lambda: read_result(folder), {})
    is_evaluation = "checkpoint" in result
    config = parts.read("config", lambda: read_config(folder), {})
    metrics: dict[str, np.ndarray] = {}
    if not is_evaluation and (status == "finished" or (folder / "metrics.csv").exists()):
        metrics = parts.read(
            "learning curves", lambda: read_metrics(folder, being_written=status != "finished"), {}
        )
    predictions = None
    is_tested = any(name.startswith("test/") for name in result) and not is_language_model(result)
    if is_tested or (folder / "predictions.csv").exists():
        predictions = parts.read("predictions", lambda: read_predictions(folder), None)
    flows = parts.read("gradient flow", lambda: read_gradient_flow(folder), [])
    # In the order of the page: so are the problems.
    contents = {
        "head": _head(parts, result, status),
        "metrics": _metrics(parts, result),
        "learning": _learning(parts, result, metrics),
        "evaluation": _evaluation(parts, result, predictions),
        "flows": parts.read("gradient flow", lambda: charts.gradient_flow_charts(flows), []),
        "examples": _examples(parts, is_tested, examples),
        "data": parts.read("data", lambda: _data(result), _NO_DATA),
        "config": parts.read("config", lambda: _config(result, config), _NO_CONFIG),
        "environment": parts.read("environment", lambda: _environment(result), []),
    }
    page = render_template(
        TEMPLATE,
        {
            "metric": lambda value, metric: format_metric(metric, value),
            "metric_name": format_metric_name,
            "signed": format_signed,
            "level": level_class,
            "capitalize_first": lambda text: text[:1].upper() + text[1:],
            "zip": lambda first, second: zip(first, second, strict=True),
            "halves": lambda rows: [rows[: -(-len(rows) // 2)], rows[-(-len(rows) // 2) :]],
        },
        folder=folder.resolve().name,
        written_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        status=status,
        is_evaluation=is_evaluation,
        is_tested=is_tested,
        sweep=_sweep_link(folder, output or folder / RUN_PAGE),
        commands=parts.read("command", lambda: _commands(folder, result), []),
        word_styles=word_styles(),
        problems=parts.problems,
        **contents,
    )
    return page, parts.problems


def check_run_folder(folder: Path) -> None:
    """Raise a CheckpointError if there is no run, or evaluation of one, in `folder`."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give the folder of a run")
    if not is_job_dir(folder):
        raise CheckpointError(
            f"{folder}: contains no run. Give the folder of one run; that of a sweep as sweep="
        )


# ---- The parts of the page


def _head(parts: _Parts, result: dict[str, Any], status: str) -> dict[str, Any]:
    title = folder = parts.folder.resolve().name
    if result:
        title = parts.read("result.json", lambda: format_run(result), folder)
    notes = []
    if result.get("demo_fallback"):
        notes.append("IMDB was not available: these metrics are of synthetic demo reviews.")
    elif result.get("synthetic"):
        notes.append("Synthetic data: these metrics say nothing about real texts.")
    if result:
        lines = parts.read("baselines", lambda: list(baseline_lines(result)), [])
        notes += [line for line in lines if line.startswith("The network loses")]
    failure = {}
    if status in ("failed", "pruned"):
        failure = read_job_file(parts.folder, "failure" if status == "failed" else "pruned")
    if status != "finished":
        expected = {"failed": ["error", "log"], "pruned": ["monitored_metric", "value", "epoch"]}
        said = [f"{name}: {failure[name]}" for name in expected.get(status, ()) if name in failure]
        notes.append("; ".join([f"The run is {status}", *map(collapse_whitespace, said)]))
    name = result.get("run_name")
    return {
        "title": title,
        "run_name": name if isinstance(name, str) else "",
        "notes": notes,
        "monitor": result.get("monitored_metric"),
    }


def _metrics(parts: _Parts, result: dict[str, Any]) -> dict[str, Any]:
    baselines = baseline_metrics(result)
    measured = [name for name in order_metrics(result) if get_number(result[name]) is not None]
    for name in order_metrics(result):
        if result[name] is not None and name not in measured:
            parts.problems.append(f"result.json: {name} is not a number")
    splits = [s for s in SPLIT_NAMES if any(name.startswith(f"{s}/") for name in measured)]
    names = metric_names(result)
    columns = [("this run", result), *baselines.items()]
    rows = []
    monitored = _monitored(result)
    for metric in dict.fromkeys(name.partition("/")[2] for name in measured):
        cells = []
        mode = metric_mode(metric, recorded_mode(result) if metric == monitored else AUTO)
        for split in splits:
            found = [get_number(values.get(f"{split}/{metric}")) for _, values in columns]
            cells += [(value, _is_best(mode, value, found)) for value in found]
        rows.append((metric, names.get(metric, metric), cells))
    shown = splits[-1] if splits else ""
    tiles = []
    for metric, metric_title in names.items():
        value = get_number(result.get(f"{shown}/{metric}"))
        if value is None:
            continue
        other = get_number(get_group(result, "baseline", "tfidf").get(f"{shown}/{metric}"))
        tiles.append((metric, metric_title, value, other))
    return {
        "splits": [SPLIT_NAMES[split] for split in splits],
        "columns": [label for label, _ in columns],
        "rows": rows,
        "threshold_note": threshold_note(result),
        "tiles": tiles[:5],
        "tile_split": SPLIT_NAMES.get(shown, ""),
    }


def _monitored(result: Mapping[str, Any]) -> str:
    """Return the metric that selected the epoch, without its split; "" where none is recorded."""
    return str(result.get("monitored_metric") or "").partition("/")[2]


def _is_best(mode: MetricMode, value: float | None, among: Sequence[float | None]) -> bool:
    known = [other for other in among if other is not None]
    best = (min if mode == "min" else max)(known, default=None)
    return len(known) > 1 and value == best


def _learning(
    parts: _Parts, result: dict[str, Any], metrics: dict[str, np.ndarray]
) -> dict[str, Any]:
    best = get_number(result.get("best_epoch"))
    names = {"loss": "loss", "accuracy": "accuracy"}
    if monitored := _monitored(result):
        names.setdefault(monitored, ALL_METRIC_NAMES.get(monitored, monitored))
    drawn = parts.read("learning curves", lambda: charts.learning_curves(metrics, names, best), [])

    def table() -> dict[str, Any]:
        of_epochs = [
            name for name in metrics
            if name.startswith("val/") or name in ("train/loss", "train/accuracy")
        ]  # fmt: skip
        series = {name: dict(zip(*by_epoch(metrics, name), strict=True)) for name in of_epochs}
        epochs = sorted({epoch for values in series.values() for epoch in values})
        rows = [
            (f"{epoch:.0f}", epoch == best, [series[name].get(epoch) for name in of_epochs])
            for epoch in epochs[-MAX_EPOCHS:]
        ]
        return {
            "epoch_columns": of_epochs,
            "epoch_rows": rows,
            "earlier_epochs": max(0, len(epochs) - MAX_EPOCHS),
        }

    empty: dict[str, Any] = {"epoch_columns": [], "epoch_rows": [], "earlier_epochs": 0}
    return {"charts": drawn, "best_epoch": best} | parts.read("epochs", table, empty)


def _evaluation(
    parts: _Parts, result: dict[str, Any], predictions: Predictions | None
) -> dict[str, Any]:
    """Return what is drawn and listed of the test split."""
    areas: dict[str, Curve] = {}
    contents: dict[str, Any] = {
        "matrix": None, "confusions": [], "curves": [], "calibration": [],
        "curves_omitted": 0,
        "calibration_error": None, "uncalibrated_error": None, "temperature": None,
        "lengths": [], "num_tested": 0,
        "is_multilabel": is_multilabel(result),
    }  # fmt: skip
    if predictions is not None:
        found = predictions
        curves = parts.read("ROC and precision-recall", lambda: class_curves(found), [])
        areas = parts.read("classes", lambda: _areas(found, curves), {})
        contents["curves"] = parts.read("ROC", lambda: charts.curve_charts(curves), [])
        contents["curves_omitted"] = max(0, len(curves) - 1 - charts.MAX_FAINT)
        contents["lengths"] = parts.read("accuracy by length", lambda: _lengths(found), [])
        contents["num_tested"] = len(found.names)
        contents["is_multilabel"] = found.is_multilabel
        if not found.is_multilabel:
            contents |= parts.read("confusion matrix", lambda: _confusion(found), {})
            contents |= parts.read("calibration", lambda: _calibration(result, found), {})
    empty: dict[str, Any] = {"classes": [], "more_classes": 0}
    return contents | parts.read("classes", lambda: _classes(result, areas), empty)


def _confusion(predictions: Predictions) -> dict[str, Any]:
    names = predictions.class_names
    size = len(names)
    pairs = predictions.labels * size + predictions.predicted
    found, counts = np.unique(pairs, return_counts=True)
    rows, columns = found // size, found % size
    totals = np.bincount(predictions.labels, minlength=size)
    cells = [
        {
            "row": int(row), "column": int(column), "count": int(count),
            "share": float(count / totals[row]),
        }
        for row, column, count in zip(rows, columns, counts, strict=True)
    ]  # fmt: skip
    wrong = [cell for cell in cells if cell["row"] != cell["column"]]
    wrong.sort(key=lambda cell: -cell["count"])
    return {
        "matrix": {
            "names": names,
            "cells": cells,
            "at": {(cell["row"], cell["column"]): cell for cell in cells},
            "is_table": size <= MAX_CELLS,
            "is_drawn": size <= MAX_MATRIX,
            "totals": totals.tolist(),
        },
        "confusions": wrong[:MAX_CONFUSIONS] if size > 2 else [],
    }


def _calibration(result: dict[str, Any], predictions: Predictions) -> dict[str, Any]:
    bins, before = reliability(predictions), None
    temperature = get_number(get_group(result, "calibration").get("temperature"))
    if temperature is not None and temperature > 0 and temperature != 1.0:
        before = reliability(without_temperature(predictions, temperature))
    return {
        "calibration": charts.calibration_charts(bins, len(predictions.class_names), before),
        "calibration_error": bins.error,
        "uncalibrated_error": None if before is None else before.error,
        "temperature": temperature,
    }


def _lengths(predictions: Predictions) -> list[dict[str, Any]]:
    greatest, position = length_bins(predictions.lengths)
    rows = []
    for i in range(len(greatest)):
        inside = position == i
        hits, count = predictions.correct[inside].sum(), inside.sum()
        low, high = wilson_interval(np.array([hits]), np.array([count]))
        least, most = int(predictions.lengths[inside].min()), int(greatest[i])
        rows.append(
            {
                "tokens": f"{least:,} to {most:,}" if least < most else f"{least:,}",
                "count": int(count),
                "accuracy": float(hits / count),
                "low": float(low[0]),
                "high": float(high[0]),
            }
        )
    return rows


def _areas(predictions: Predictions, curves: Sequence[Curve]) -> dict[str, Curve]:
    """Return the curve of each class that has one; of two classes, `curves` are the second's."""
    areas = {curve.name: curve for curve in curves if curve.name != MACRO}
    if len(curves) == 1 and not predictions.is_multilabel:
        first = predictions.class_names[0]
        areas[first] = make_curve(first, predictions.labels == 0, predictions.probabilities[:, 0])
    return areas


def _classes(result: Mapping[str, Any], areas: Mapping[str, Curve]) -> dict[str, Any]:
    per_class, thresholds = get_group(result, "per_class"), get_group(result, "thresholds")
    rows = []
    for name in list(per_class)[:MAX_CLASSES]:
        scores, area = get_group(per_class, name), areas.get(name)
        values = {key: get_number(scores.get(key)) for key in ("precision", "recall", "f1")}
        row = {
            "name": name,
            **values,
            "support": get_number(scores.get("support")),
            "threshold": get_number(thresholds.get(name)),
            "auroc": None if area is None else area.auroc,
            "average_precision": None if area is None else area.average_precision,
        }
        rows.append(row)
    return {"classes": rows, "more_classes": max(0, len(per_class) - MAX_CLASSES)}


def _examples(parts: _Parts, is_tested: bool, examples: Examples) -> dict[str, Any]:
    found: list[TopLoss] = []
    if examples.most and (is_tested or (parts.folder / TOP_LOSSES).exists()):
        found = parts.read("highest losses", lambda: read_top_losses(parts.folder), [])
    checkpoint = parts.folder / CHECKPOINT_DIR / BEST
    shown, note = examples.plain(found), ""
    if found and not checkpoint.is_file():
        note = "Words have no colours: there is no checkpoints/best.ckpt in the folder."
    elif found:
        shown, note = parts.read(
            "attributions of words", lambda: examples.coloured(found, checkpoint), (shown, note)
        )
    return {"shown": shown, "note": note, "num_found": len(found)}


def _data(result: Mapping[str, Any]) -> dict[str, Any]:
    data = get_group(result, "data")
    texts = get_group(data, "texts")
    counts = get_group(data, "num_examples")
    splits = []
    for name in dict.fromkeys((*SPLITS, *counts, *texts)):
        if name not in counts and name not in texts:
            continue
        found = get_group(texts, name)
        values = {key: get_number(found.get(key)) for key in (
            "median_length", "max_length", "unknown", "truncated"
        )}  # fmt: skip
        splits.append({"name": name, "examples": get_number(counts.get(name)), **values})
    names = data.get("class_names")
    facts: dict[str, Any] = {
        "source": data.get("name"),
        "classes": len(names) if isinstance(names, list) else None,
        "labels a text": "any number" if is_multilabel(result) else "one" if data else None,
        "vocabulary": get_number(data.get("vocab_size")),
        "rows skipped": get_number(data.get("num_skipped")),
    }
    exact = get_group(data, "duplicates", "exact")
    for key, label in (
        ("test_in_train", "test texts that are also training texts"),
        ("validation_in_train", "validation texts that are also training texts"),
    ):
        facts[label] = get_number(get_group(exact, key).get("examples"))
    facts |= {
        "fingerprint of the texts": data.get("fingerprint"),
        "fingerprint of the test split": data.get("test_fingerprint"),
        "fingerprint of the vocabulary": data.get("vocabulary_fingerprint"),
    }
    sources = []
    for info in get_group(data, "source_info").values():
        options = {name: value for name, value in get_group(info).items() if value is not None}
        path = options.pop("path", "")
        options.pop("lists_of_one", None)  # what was found, and not an option
        listed = [f"data.{name}={_show(value)}" for name, value in options.items()]
        sources.append((str(path), listed))
    return {
        "splits": splits[:MAX_FACTS], "facts": _facts(facts), "sources": sources[:MAX_FACTS],
    }  # fmt: skip


_NO_DATA: dict[str, Any] = {"splits": [], "facts": [], "sources": []}
_NO_CONFIG: dict[str, Any] = {"options": [], "inferred": [], "overrides": []}


def _config(result: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    recorded = recorded_options(result) if result else {}
    inferred = [
        (name, _show(recorded[name]))
        for name, value in config.items()
        if value == AUTO and recorded.get(name, AUTO) != AUTO
    ]
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, value in (recorded or config).items():
        group, dot, _ = name.partition(".")
        groups.setdefault(group if dot else "run", []).append((name, _show(value)))
    overrides = result.get("overrides")
    return {
        "options": [(name, listed[:MAX_FACTS]) for name, listed in groups.items()][:MAX_FACTS],
        "inferred": inferred[:MAX_FACTS],
        "overrides": list(map(_show, overrides))[:MAX_FACTS] if isinstance(overrides, list) else [],
    }


def _environment(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    timing, machine = get_group(result, "timing"), get_group(result, "machine")
    seconds, rate = (get_number(timing.get(key)) for key in ("wall_time_s", "train_examples_per_s"))
    memory = get_number(timing.get("peak_memory_bytes"))
    parameters = get_number(get_group(result, "model").get("parameters"))
    facts: dict[str, Any] = {
        "finished": timing.get("finished_at"),
        "duration": None if seconds is None else format_duration(seconds),
        "training examples/s": rate,
        "peak memory": None if memory is None else f"{memory / 2**20:,.0f} MiB",
        "threads": get_number(timing.get("threads")),
        "parameters": parameters,
        "seed": result.get("seed"),
        "epochs": result.get("epochs"),
        "batch size halved": f"{result['batch_halvings']} times"
        if result.get("batch_halvings") else None,
        "rollbacks": len(result["rollbacks"])
        if isinstance(result.get("rollbacks"), list) and result["rollbacks"] else None,
        **{name.replace("_", " "): value for name, value in machine.items()},
        "commit": result.get("git_commit"),
        **get_group(result, "versions"),
        "config fingerprint": result.get("config_fingerprint"),
    }  # fmt: skip
    return _facts(facts)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that are known, numbers with separators."""
    shown = []
    for name, value in facts.items():
        if value is None or value == "":
            continue
        text = f"{value:,.0f}" if isinstance(value, float) else _show(value)
        shown.append((str(name), text))
    return shown[:MAX_FACTS]


def _show(value: Any) -> str:
    """Return a value, of a very long one the start."""
    text = format_value(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"


def _commands(folder: Path, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the commands that make the run again, with what each does."""
    commands = []
    if result and "checkpoint" not in result:
        place = quote_override("reproduce", str(folder / "result.json"))
        commands.append(
            ("Train again with the options in result.json, and compare the metrics:",
             shell_command("rnn-lab train", place))
        )  # fmt: skip
    overrides = result.get("overrides")
    if not isinstance(overrides, list):
        overrides = read_job_file(folder, "job").get("overrides")
    if isinstance(overrides, list) and "checkpoint" not in result:
        commands.append(
            ("As it was started:", shell_command("rnn-lab train", *map(str, overrides)))
        )
    return commands


def _sweep_link(folder: Path, output: Path) -> tuple[str, str] | None:
    """Return the name of the sweep that the run belongs to, and the address of its page."""
    for parent in list(folder.absolute().parents)[:_MAX_PARENTS]:
        if (parent / SWEEP_PAGE).is_file():
            to_page = os.path.relpath(parent / SWEEP_PAGE, output.absolute().parent)
            return parent.name, quote(os.fsencode(to_page))
    return None
