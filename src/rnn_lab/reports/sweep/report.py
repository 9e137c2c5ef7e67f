"""Report a sweep: tables on the terminal, summary.csv and sweep.html in its folder.

Everything is read from the folder, so a sweep can be reported at any time, also while it runs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rnn_lab.errors import WriteError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import format_metric, format_metric_name, format_number
from rnn_lab.reports.rendering import make_table, print_lines
from rnn_lab.reports.sweep.baselines import (
    BaselineSummary,
    baseline_columns,
    summarize_baselines,
)
from rnn_lab.reports.sweep.groups import (
    SeedGroup,
    SeedStats,
    group_jobs,
    group_notes,
    repeated_over,
)
from rnn_lab.reports.sweep.jobs import (
    PROBLEM_STATUSES,
    JobSummary,
    format_statuses,
    monitor_notes,
    read_jobs,
    sweep_metrics,
    sweep_mode,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import format_value, short_names, swept_options
from rnn_lab.reports.sweep.page import write_page
from rnn_lab.reports.sweep.texts import text_notes
from rnn_lab.runs.csv_table import csv_writer
from rnn_lab.runs.run_config import ABSENT

MAX_ROWS = 40  # of a table; summary.csv has all
_STYLES = {"failed": "bold red", "damaged": "bold red", "unfinished": "yellow", "running": "cyan"}


def report_sweep(
    folder: Path, console: Console | None = None, *, output: Path | None = None
) -> list[JobSummary]:
    """Report the sweep in `folder` and return its jobs: the finished ones by rank, then the others.

    summary.csv and sweep.html are written to `output`, by default to the folder of the sweep.

    Raises:
        CheckpointError: the folder does not exist or contains no job. A job that cannot be read
            does not raise: its status is "damaged".
        WriteError: summary.csv or sweep.html cannot be written; after the tables are printed.
    """
    console, output = console or Console(), output or folder
    jobs = read_jobs(folder)
    _print_sweep(jobs, console)
    paths, errors = [], []
    for write in (write_summary, write_page):
        try:
            paths.append(write(folder, jobs, output))
        except WriteError as error:
            errors.append(error)
    if paths:
        print_lines([f"Report: {', '.join(map(str, paths))}"], console)
    if errors:
        raise errors[0]
    return jobs


def write_summary(folder: Path, jobs: Sequence[JobSummary], output: Path) -> Path:
    """Write summary.csv of the sweep in `folder` to `output`: the rows of `summary_rows`."""
    path = output / "summary.csv"
    with atomic_write(path, newline="") as file:
        csv_writer(file).writerows(summary_rows(jobs))
    return path


def summary_rows(jobs: Sequence[JobSummary]) -> list[list[Any]]:
    """Return a header, and a row per job: its varied options, metrics of the best epoch and error.

    An option that is null is "null"; one that a job does not have is empty.
    """
    varied = swept_options([job.config for job in jobs])
    metrics = sorted(sweep_metrics(jobs), key=lambda name: (name.startswith("test/"), name))
    baselines = baseline_columns(jobs)
    last = ["best_epoch", "epochs", "train_examples_per_s", "trial", "batch_halvings", "error"]
    named = [f"baseline/{baseline}/{metric}" for baseline, metric in baselines]
    rows: list[list[Any]] = [["folder", "status", "rank", *varied, *metrics, *named, *last]]
    for job in jobs:
        options = [job.option(name) for name in varied]
        rows.append(
            [job.name, job.status, job.rank]
            + ["" if value == ABSENT else format_value(value) for value in options]
            + [job.metrics.get(name) for name in metrics]
            + [job.baselines.get(baseline, {}).get(metric) for baseline, metric in baselines]
            + [getattr(job, name) for name in last]
        )
    return rows


def _print_sweep(jobs: Sequence[JobSummary], console: Console) -> None:
    """Print the tables of a sweep, then the problems of its jobs."""
    _print_table(next(_fitting_tables(jobs, console)), console)
    if len(jobs) > MAX_ROWS:
        console.print(f"and {len(jobs) - MAX_ROWS} more in summary.csv\n", highlight=False)
    groups = group_jobs(jobs)
    monitor = sweep_monitor(jobs)
    if any(group.validation.n > 1 for group in groups):
        _print_table(_groups_table(groups, monitor), console)
    if baselines := summarize_baselines(jobs):
        _print_table(_baselines_table(baselines), console)
    better = "lower" if sweep_mode(jobs, monitor) == "min" else "higher"
    selection = (
        f"Ranked by {format_metric_name(monitor)} only ({better} is better); "
        "test metrics are not used for selection."
    )
    issues = [line for job in jobs for line in _job_issues(job)]
    notes = [*monitor_notes(jobs), *text_notes(jobs), *group_notes(groups)]
    print_lines([*issues, f"{format_statuses(jobs)}.", selection, *notes], console)


def _fitting_tables(jobs: Sequence[JobSummary], console: Console) -> Iterator[Table]:
    """Yield tables that fit the terminal, the most complete first."""
    for options, extras in ((True, True), (True, False), (False, True)):
        table = _runs_table(jobs, options=options, extras=extras)
        if not console.is_terminal or _width(table, console) <= console.width:
            yield table
    yield _runs_table(jobs, options=False, extras=False)


def _print_table(table: Table, console: Console) -> None:
    width = console.width
    if not console.is_terminal:  # a file has no width
        console.width = max(width, _width(table, console))
    console.print(table)
    console.width = width


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _runs_table(jobs: Sequence[JobSummary], *, options: bool, extras: bool) -> Table:
    """Return a row per job, at most MAX_ROWS.

    `options` adds a column per varied option, `extras` the epochs and the training speed.
    """
    monitor = sweep_monitor(jobs)
    varied = swept_options([job.config for job in jobs]) if options else []
    short = short_names(varied)
    test = monitor.replace("val/", "test/")
    table = make_table("Runs by rank")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in varied:
        table.add_column(Text(short[name]), overflow="fold")
    headings = [format_metric_name(name).replace(" ", "\n", 1) for name in (monitor, test)]
    for heading in [*headings, *(("epochs", "examples/s") if extras else ())]:
        table.add_column(heading, justify="right", no_wrap=True)
    for job in jobs[:MAX_ROWS]:
        cells: list[str | Text] = [
            "" if job.rank is None else str(job.rank),
            Text(job.name),
            Text(job.status, _STYLES.get(job.status, "")),
            *(Text(format_value(job.option(name), exact=False)) for name in varied),
            format_metric(monitor, job.metrics.get(monitor)),
            format_metric(test, job.metrics.get(test)),
            "" if job.epochs is None else str(job.epochs),
            format_number(job.train_examples_per_s, ",.0f"),
        ]
        table.add_row(*(cells if extras else cells[:-2]))
    return table


def _groups_table(groups: Sequence[SeedGroup], monitor: str) -> Table:
    """Return a row per seed group with a finished run, at most MAX_ROWS."""
    test = monitor.replace("val/", "test/")
    over, has_folds = repeated_over(groups), any(group.folds for group in groups)
    # Seeds of one fold have the same test examples: see `seed_stats`.
    of = " of the means of folds" if over == "seeds and folds" else ""
    table = make_table(f"Over {over}: mean ± standard deviation{of} [95 % interval of the mean]")
    table.add_column("options", overflow="fold")
    table.add_column("n", justify="right")
    for name in (monitor, test):
        table.add_column(format_metric_name(name), justify="right", overflow="fold")
    if has_folds:
        table.add_column("pooled test accuracy", justify="right", overflow="fold")
    for group in [group for group in groups if group.validation.n][:MAX_ROWS]:
        metrics = _format_stats(monitor, group.validation), _format_stats(test, group.test)
        pooled = format_metric("test/accuracy", group.pooled_accuracy)
        pooled += f" ({group.pooled_from})" if group.pooled_from else ""
        row = Text(group.label), str(group.validation.n), *metrics
        table.add_row(*row, *([pooled] if has_folds else []))
    return table


def _baselines_table(baselines: Sequence[BaselineSummary]) -> Table:
    """Return a row per baseline and choice of texts, at most MAX_ROWS."""
    compared = baselines[0].compared
    test = compared.replace("val/", "test/")
    table = make_table("Baselines: means over the runs on the same texts")
    table.add_column("baseline", overflow="fold")
    if has_texts := any(baseline.texts for baseline in baselines):
        table.add_column("texts", overflow="fold")
    for name in (*map(format_metric_name, (compared, test)), "runs below it in validation"):
        table.add_column(name, justify="right", overflow="fold")
    for baseline in baselines[:MAX_ROWS]:
        texts = [Text(baseline.texts)] if has_texts else []
        metrics = baseline.format(compared), baseline.format(test)
        table.add_row(Text(baseline.name), *texts, *metrics, baseline.format_losing())
    return table


def _format_stats(metric: str, stats: SeedStats) -> str:
    """Return "88.80 % ± 0.21 % [88.28 %, 89.32 %]", or the mean alone of a single seed."""
    values = stats.mean, stats.deviation, stats.low, stats.high
    mean, deviation, low, high = (format_metric(metric, value) for value in values)
    return mean if stats.deviation is None else f"{mean} ± {deviation} [{low}, {high}]"


def _job_issues(job: JobSummary) -> Iterator[str]:
    """Yield the lines to print for a job with issues: its error, overrides and log."""
    if job.has_issues:
        note = "" if job.status in PROBLEM_STATUSES else ", with errors"
        yield f"{job.status}{note}: {job.folder}"
        yield from [f"  {job.error}"] if job.error else []
        yield from [f"  overrides: {' '.join(job.overrides)}"] if job.overrides else []
        yield from [f"  log: {job.log}"] if job.log else []
