"""Write run.html: everything of one run on a page that needs no other file and no network.

The folder may be anyone's, and parts of it missing or damaged: each part is read by itself, and one
that cannot be read is named on the page, which has the others.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rnn_lab.errors import CheckpointError, collapse_whitespace
from rnn_lab.io.atomic import atomic_write
from rnn_lab.models.metric_table import MetricMode, metric_mode
from rnn_lab.overrides import quote_override, shell_command
from rnn_lab.reports.formatting import (
    ALL_METRIC_NAMES,
    SPLIT_NAMES,
    format_metric,
    format_metric_name,
    format_run,
    format_signed,
    is_language_model,
    metric_names,
    order_metrics,
    threshold_note,
)
from rnn_lab.reports.learning_curves import read_learning_curves
from rnn_lab.reports.rendering import render_template
from rnn_lab.reports.run import charts
from rnn_lab.reports.run.evaluation import describe_evaluation
from rnn_lab.reports.run.examples import Examples, level_class, word_styles
from rnn_lab.reports.run.facts import (
    NO_CONFIG,
    NO_DATA,
    describe_config,
    describe_data,
    describe_environment,
)
from rnn_lab.reports.run.part_reader import PartReader
from rnn_lab.reports.run_summary import baseline_lines, baseline_metrics
from rnn_lab.runs.gradient_flow import read_gradient_flow
from rnn_lab.runs.jobs import MAX_DEPTH, MONITORED, is_job_dir, job_status, read_job_file
from rnn_lab.runs.metrics import by_epoch
from rnn_lab.runs.predictions import TOP_LOSSES, TopLoss, read_predictions, read_top_losses
from rnn_lab.runs.result_json import read_result, recorded_mode
from rnn_lab.runs.run_config import read_config
from rnn_lab.runs.run_folder import BEST, CHECKPOINT_DIR, RUN_PAGE, SWEEP_PAGE
from rnn_lab.runs.untrusted import get_group, get_number
from rnn_lab.validation import AUTO

TEMPLATE = Path(__file__).parent / "page.html"
MAX_EPOCHS = 100  # in the table of epochs
DEFAULT_EXAMPLES = Examples()


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
    parts = PartReader(folder)
    status = job_status(folder)
    result: dict[str, Any] = {}
    if status == "finished":
        result = parts.read("result.json", lambda: read_result(folder), {})
    is_evaluation = "checkpoint" in result
    config = parts.read("config", lambda: read_config(folder), {})
    metrics: dict[str, np.ndarray] = {}
    if not is_evaluation and (status == "finished" or (folder / "metrics.csv").exists()):
        metrics = parts.read(
            "learning curves",
            lambda: read_learning_curves(
                folder,
                str(result.get(MONITORED)),
                recorded_mode(result),
                being_written=status != "finished",
            ),
            {},
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
        "evaluation": describe_evaluation(parts, result, predictions),
        "flows": parts.read("gradient flow", lambda: charts.gradient_flow_charts(flows), []),
        "examples": _examples(parts, is_tested, examples),
        "data": parts.read("data", lambda: describe_data(result), NO_DATA),
        "config": parts.read("config", lambda: describe_config(result, config), NO_CONFIG),
        "environment": parts.read("environment", lambda: describe_environment(result), []),
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


def _head(parts: PartReader, result: dict[str, Any], status: str) -> dict[str, Any]:
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
        expected = {"failed": ["error", "log"], "pruned": [MONITORED, "value", "epoch"]}
        said = [f"{name}: {failure[name]}" for name in expected.get(status, ()) if name in failure]
        notes.append("; ".join([f"The run is {status}", *map(collapse_whitespace, said)]))
    name = result.get("run_name")
    return {
        "title": title,
        "run_name": name if isinstance(name, str) else "",
        "notes": notes,
        "monitor": result.get(MONITORED),
    }


def _metrics(parts: PartReader, result: dict[str, Any]) -> dict[str, Any]:
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
    return str(result.get(MONITORED) or "").partition("/")[2]


def _is_best(mode: MetricMode, value: float | None, among: Sequence[float | None]) -> bool:
    known = [other for other in among if other is not None]
    best = (min if mode == "min" else max)(known, default=None)
    return len(known) > 1 and value == best


def _learning(
    parts: PartReader, result: dict[str, Any], metrics: dict[str, np.ndarray]
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


def _examples(parts: PartReader, is_tested: bool, examples: Examples) -> dict[str, Any]:
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
    for parent in list(folder.absolute().parents)[:MAX_DEPTH]:
        if (parent / SWEEP_PAGE).is_file():
            to_page = os.path.relpath(parent / SWEEP_PAGE, output.absolute().parent)
            return parent.name, quote(os.fsencode(to_page))
    return None
