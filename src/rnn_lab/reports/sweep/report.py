"""Report a sweep: tables on the terminal, summary.csv and sweep.html in its folder.

Everything is read from the folder, so a sweep can be reported at any time, also while it runs.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import format_metric, format_metric_name, format_number
from rnn_lab.reports.sweep.groups import SeedGroup, SeedStats, group_jobs
from rnn_lab.reports.sweep.jobs import (
    PROBLEM_STATUSES,
    JobSummary,
    format_statuses,
    has_issues,
    read_jobs,
    smaller_is_better,
    sweep_metrics,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import (
    ABSENT,
    format_value,
    resolve,
    short_names,
    swept_options,
)
from rnn_lab.reports.sweep.page import write_page

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_ROWS = 40  # of a table; summary.csv has all
_STYLES = {"failed": "bold red", "damaged": "bold red", "unfinished": "yellow", "running": "cyan"}


def report_sweep(folder: Path, console: "Console | None" = None) -> list[JobSummary]:
    """Report the sweep in `folder` and return its jobs: the finished ones by rank, then the others.

    Raises:
        CheckpointError: the folder does not exist or contains no job. A job that cannot be read
            does not raise: its status is "damaged".
        UserError: summary.csv or sweep.html cannot be written.
    """
    from rich.console import Console

    console = console or Console()
    jobs = read_jobs(folder)
    paths = [write_summary(folder, jobs), write_page(folder, jobs)]
    print_sweep(jobs, console)
    line = f"Report: {', '.join(map(str, paths))}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return jobs


def write_summary(folder: Path, jobs: Sequence[JobSummary]) -> Path:
    """Write summary.csv, a row per job: its varied options, metrics of the best epoch and error.

    An option that is null is "null"; one that a job does not have is empty.
    """
    varied = swept_options([job.config for job in jobs])
    metrics = sorted(sweep_metrics(jobs), key=lambda name: (name.startswith("test/"), name))
    path = folder / "summary.csv"
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        last = ["best_epoch", "epochs", "train_examples_per_s", "trial", "batch_halvings", "error"]
        writer.writerow(["folder", "status", "rank", *varied, *metrics, *last])
        for job in jobs:
            options = [resolve(job.config, name) for name in varied]
            writer.writerow(
                [job.name, job.status, job.rank]
                + ["" if value == ABSENT else format_value(value) for value in options]
                + [job.metrics.get(name) for name in metrics]
                + [getattr(job, name) for name in last]
            )
    return path


def print_sweep(jobs: Sequence[JobSummary], console: "Console") -> None:
    """Print the tables of a sweep, then the problems of its jobs."""
    _print_table(next(_fitting_tables(jobs, console)), console)
    if len(jobs) > MAX_ROWS:
        console.print(f"and {len(jobs) - MAX_ROWS} more in summary.csv\n", highlight=False)
    groups = group_jobs(jobs)
    monitor = sweep_monitor(jobs)
    if any(group.validation.n > 1 for group in groups):
        _print_table(groups_table(groups, monitor), console)
    lines = [line for job in jobs for line in job_issues(job)]
    for line in (*lines, f"{format_statuses(jobs)}.", format_selection(monitor)):
        # Whole lines even in a narrow terminal: a wrapped path cannot be copied.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _fitting_tables(jobs: Sequence[JobSummary], console: "Console") -> Iterator["Table"]:
    """Yield tables that fit the terminal, the most complete first."""
    for options, extras in ((True, True), (True, False), (False, True)):
        table = runs_table(jobs, options=options, extras=extras)
        if not console.is_terminal or _width(table, console) <= console.width:
            yield table
    yield runs_table(jobs, options=False, extras=False)


def _print_table(table: "Table", console: "Console") -> None:
    width = console.width
    if not console.is_terminal:  # a file has no width
        console.width = max(width, _width(table, console))
    console.print(table)
    console.width = width


def _width(table: "Table", console: "Console") -> int:
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def format_selection(monitor: str) -> str:
    """Return the sentence that says what ranks the runs."""
    better = "lower" if smaller_is_better(monitor) else "higher"
    return (
        f"Ranked by {format_metric_name(monitor)} only ({better} is better); "
        "test metrics are not used for selection."
    )


def runs_table(jobs: Sequence[JobSummary], *, options: bool = True, extras: bool = True) -> "Table":
    """Return a row per job, at most MAX_ROWS.

    `options` adds a column per varied option, `extras` the epochs and the training speed.
    """
    from rich.text import Text

    monitor = sweep_monitor(jobs)
    varied = swept_options([job.config for job in jobs]) if options else []
    short = short_names(varied)
    test = monitor.replace("val/", "test/")
    table = _make_table("Runs by rank")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in varied:
        table.add_column(Text(short[name]), overflow="fold")
    for name in (monitor, test):
        heading = format_metric_name(name).replace(" ", "\n", 1)
        table.add_column(heading, justify="right", no_wrap=True)
    for name in ("epochs", "examples/s") if extras else ():
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs[:MAX_ROWS]:
        cells: list[str | Text] = [
            "" if job.rank is None else str(job.rank),
            Text(job.name),
            Text(job.status, _STYLES.get(job.status, "")),
            *(Text(format_value(resolve(job.config, name), exact=False)) for name in varied),
            format_metric(monitor, job.metrics.get(monitor)),
            format_metric(test, job.metrics.get(test)),
            "" if job.epochs is None else str(job.epochs),
            format_number(job.train_examples_per_s, ",.0f"),
        ]
        table.add_row(*(cells if extras else cells[:-2]))
    return table


def groups_table(groups: Sequence[SeedGroup], monitor: str) -> "Table":
    """Return a row per seed group with a finished run, at most MAX_ROWS."""
    from rich.text import Text

    test = monitor.replace("val/", "test/")
    table = _make_table("Over seeds: mean ± standard deviation [95 % interval of the mean]")
    table.add_column("options", overflow="fold")
    table.add_column("n", justify="right")
    for name in (monitor, test):
        table.add_column(format_metric_name(name), justify="right", overflow="fold")
    for group in [group for group in groups if group.validation.n][:MAX_ROWS]:
        table.add_row(
            Text(group.label),
            str(group.validation.n),
            format_stats(monitor, group.validation),
            format_stats(test, group.test),
        )
    return table


def format_stats(metric: str, stats: SeedStats) -> str:
    """Return "88.80 % ± 0.21 % [88.28 %, 89.32 %]", or the mean alone of a single seed."""
    text = format_metric(metric, stats.mean)
    if stats.deviation is not None:
        text += f" ± {format_metric(metric, stats.deviation)}"
        text += f" [{format_metric(metric, stats.low)}, {format_metric(metric, stats.high)}]"
    return text


def job_issues(job: JobSummary) -> list[str]:
    """Return the lines to print for a job with issues: its error, overrides and log."""
    if not has_issues(job):
        return []
    note = "" if job.status in PROBLEM_STATUSES else ", with errors"
    lines = [f"{job.status}{note}: {job.folder}"]
    lines += [f"  {job.error}"] if job.error else []
    lines += [f"  overrides: {' '.join(job.overrides)}"] if job.overrides else []
    return lines + ([f"  log: {job.log}"] if job.log else [])


def _make_table(title: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
