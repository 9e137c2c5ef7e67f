"""The table that ends a run, from its result.json alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_lab.reports.formatting import METRICS, SPLITS, duration, figure, run_words
from rnn_lab.reports.run_files import read_result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def run_table(run_folder: Path) -> "Table":
    """Return the figures of a finished run, validation beside test, or of a test of one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = read_result(run_folder)
    table = Table(title=Text(run_words(result), "bold"), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    splits = ["test"] if "checkpoint" in result else list(SPLITS)
    for split in splits:
        table.add_column(SPLITS[split], justify="right")
    for key, name in METRICS.items():
        table.add_row(name, *(figure(key, result.get(f"{split}/{key}")) for split in splits))
    return table


def print_run(run_folder: Path, console: "Console | None" = None) -> None:
    """Print the table of a run, what it took, and where its folder is."""
    from rich.console import Console

    console = console or Console()
    result = read_result(run_folder)
    console.print(run_table(run_folder))
    for line in (*_facts(result), *_places(run_folder)):
        # Whole lines even in a narrow or absent terminal: a folder cut in two cannot be copied.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _places(run_folder: Path) -> list[str]:
    pictures = sorted((run_folder / "plots").glob("*.png"))
    named = ", ".join(picture.stem.replace("_", " ") for picture in pictures)
    return [*([f"Pictures in plots/: {named}"] if pictures else []), f"Run folder: {run_folder}"]


def _facts(result: dict[str, Any]) -> list[str]:
    timing = result.get("timing", {})
    facts = []
    if result["best_epoch"] is not None:
        facts.append(f"epoch {result['best_epoch']} chosen")
    if (rate := timing.get("train_examples_per_s")) is not None:
        facts.append(f"{rate:,.0f} reviews/s in training")
    if (seconds := timing.get("wall_time_s")) is not None:
        facts.append(duration(seconds))
    lines = [" · ".join(facts)] if facts else []
    if result.get("demo_fallback"):
        lines.append("IMDB was not at hand: these figures are of made-up reviews, not of IMDB.")
    return lines
