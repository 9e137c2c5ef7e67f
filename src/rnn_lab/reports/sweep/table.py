"""What a sweep came to, on the terminal: runs by rank, seeds put together, failures by name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rnn_lab.reports.formatting import figure, metric_words, number
from rnn_lab.reports.sweep.groups import Group, Spread, group_jobs
from rnn_lab.reports.sweep.jobs import STATUSES, JobSummary, smaller_is_better, sweep_monitor
from rnn_lab.reports.sweep.options import resolved, short_names, varied_options, written

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_ROWS = 40  # of a table; summary.csv has them all


def print_sweep(jobs: Sequence[JobSummary], console: "Console") -> None:
    """Print the tables of a sweep and one line for each job that did not come to its end."""
    _print_table(next(_fitting_tables(jobs, console)), console)
    if len(jobs) > MOST_ROWS:
        console.print(f"and {len(jobs) - MOST_ROWS} more in summary.csv\n", highlight=False)
    groups = group_jobs(jobs)
    monitor = sweep_monitor(jobs)
    if any(group.validation.n > 1 for group in groups):
        _print_table(groups_table(groups, monitor), console)
    lines = [line for job in jobs for line in trouble(job)]
    for line in (*lines, f"{status_words(jobs)}.", selection_words(monitor)):
        # Whole lines even in a narrow terminal: a path cut in two cannot be copied.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _fitting_tables(jobs: Sequence[JobSummary], console: "Console") -> Iterator["Table"]:
    """The widest table that the terminal has room for; without a terminal there is room."""
    for options, extras in ((True, True), (True, False), (False, True)):
        table = runs_table(jobs, options=options, extras=extras)
        if not console.is_terminal or _width(table, console) <= console.width:
            yield table
    yield runs_table(jobs, options=False, extras=False)


def _print_table(table: "Table", console: "Console") -> None:
    width = console.width
    if not console.is_terminal:
        console.width = max(width, _width(table, console))
    console.print(table)
    console.width = width


def _width(table: "Table", console: "Console") -> int:
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def status_words(jobs: Sequence[JobSummary]) -> str:
    """Return "12 runs: 10 finished, 2 failed"."""
    counts = Counter(job.status for job in jobs)
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    return f"{len(jobs)} run{'s' if len(jobs) > 1 else ''}: {', '.join(parts)}"


def selection_words(monitor: str) -> str:
    """Say what ranks, and that the test split does not."""
    better = "lower" if smaller_is_better(monitor) else "higher"
    ranked = f"Ranked by {metric_words(monitor)} alone ({better} is better)"
    return f"{ranked}; test figures choose nothing."


def runs_table(jobs: Sequence[JobSummary], *, options: bool = True, extras: bool = True) -> "Table":
    """Return a row for each job, at most MOST_ROWS; with its options, epochs and speed or not."""
    from rich.text import Text

    monitor = sweep_monitor(jobs)
    varied = varied_options([job.config for job in jobs]) if options else []
    short = short_names(varied)
    test = monitor.replace("val/", "test/")
    table = _table("Runs by rank")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in varied:
        table.add_column(Text(short[name]), overflow="fold")
    for name in (monitor, test):
        table.add_column(metric_words(name).replace(" ", "\n", 1), justify="right", no_wrap=True)
    for name in ("epochs", "reviews/s") if extras else ():
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs[:MOST_ROWS]:
        cells: list[str | Text] = [
            "" if job.rank is None else str(job.rank),
            Text(job.name),
            Text(job.status, _STYLES.get(job.status, "")),
            *(Text(written(resolved(job.config, name), whole=False)) for name in varied),
            figure(monitor, job.figures.get(monitor)),
            figure(test, job.figures.get(test)),
            "" if job.epochs is None else str(job.epochs),
            number(job.reviews_per_second, ",.0f"),
        ]
        table.add_row(*(cells if extras else cells[:-2]))
    return table


_STYLES = {"failed": "bold red", "damaged": "bold red", "unfinished": "yellow", "running": "cyan"}


def groups_table(groups: Sequence[Group], monitor: str) -> "Table":
    """Return a row for each group of seeds that has a finished run, at most MOST_ROWS."""
    from rich.text import Text

    test = monitor.replace("val/", "test/")
    table = _table("Over seeds: mean ± standard deviation [95 % interval of the mean]")
    table.add_column("options", overflow="fold")
    table.add_column("n", justify="right")
    for name in (monitor, test):
        table.add_column(metric_words(name), justify="right", overflow="fold")
    for group in [group for group in groups if group.validation.n][:MOST_ROWS]:
        table.add_row(
            Text(group.label),
            str(group.validation.n),
            spread_words(monitor, group.validation),
            spread_words(test, group.test),
        )
    return table


def spread_words(metric: str, found: Spread) -> str:
    """Return "88.80 % ± 0.21 % [88.28 %, 89.32 %]", as much of it as there is."""
    words = figure(metric, found.mean)
    if found.deviation is not None:
        words += f" ± {figure(metric, found.deviation)}"
        words += f" [{figure(metric, found.low)}, {figure(metric, found.high)}]"
    return words


def trouble(job: JobSummary) -> list[str]:
    """Return what to know of a job that is not well: its error, its log, its overrides."""
    if job.status in ("failed", "damaged", "unfinished"):
        lines = [f"{job.status}: {job.folder}"]
    elif job.error:
        lines = [f"{job.status}, but: {job.folder}"]
    else:
        return []
    lines += [f"  {job.error}"] if job.error else []
    lines += [f"  overrides: {' '.join(job.overrides)}"] if job.overrides else []
    return lines + ([f"  log: {job.log}"] if job.log else [])


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
