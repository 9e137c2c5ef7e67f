"""Print the summary of a run, from its result.json alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_lab.reports.formatting import (
    METRIC_NAMES,
    SPLIT_NAMES,
    format_duration,
    format_metric,
    format_run,
    order_metrics,
)
from rnn_lab.reports.run_files import read_result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def run_table(run_folder: Path) -> "Table":
    """Return a table of the metrics: validation and test of a run, or test alone of an eval."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = read_result(run_folder)
    title = Text(format_run(result), "bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    splits = ["test"] if "checkpoint" in result else list(SPLIT_NAMES)
    for split in splits:
        table.add_column(SPLIT_NAMES[split], justify="right")
    added = (name.partition("/")[2] for name in order_metrics(result))
    for metric in dict.fromkeys((*METRIC_NAMES, *added)):
        values = (format_metric(metric, result.get(f"{split}/{metric}")) for split in splits)
        table.add_row(Text(METRIC_NAMES.get(metric, metric)), *values)
    return table


def print_run(run_folder: Path, console: "Console | None" = None) -> None:
    """Print the metrics of a run, its best epoch, its speed and duration, and its folder."""
    from rich.console import Console

    console = console or Console()
    result = read_result(run_folder)
    console.print(run_table(run_folder))
    for line in (*_facts(result), *_output_paths(run_folder)):
        # Whole lines even in a narrow terminal: a wrapped path cannot be copied.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _facts(result: dict[str, Any]) -> list[str]:
    timing = result.get("timing", {})
    facts = []
    if result["best_epoch"] is not None:
        facts.append(f"best epoch: {result['best_epoch']}")
    if (rate := timing.get("train_examples_per_s")) is not None:
        facts.append(f"{rate:,.0f} training examples/s")
    if (seconds := timing.get("wall_time_s")) is not None:
        facts.append(format_duration(seconds))
    lines = [" · ".join(facts)] if facts else []
    if result.get("demo_fallback"):
        lines.append(
            "IMDB was not available: these metrics are of synthetic demo reviews, not of IMDB."
        )
    return lines


def _output_paths(run_folder: Path) -> list[str]:
    plots = sorted((run_folder / "plots").glob("*.png"))
    named = ", ".join(plot.stem.replace("_", " ") for plot in plots)
    return [*([f"Plots in plots/: {named}"] if plots else []), f"Run folder: {run_folder}"]
