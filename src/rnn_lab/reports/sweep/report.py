"""The report of a sweep: a table on the terminal, summary.csv and sweep.html in its folder.

Everything is read from the folder, so that a report can be had at any time, also of a sweep that
is running, by `python -m rnn_lab.reports sweep=<folder>`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.sweep.jobs import JobSummary, read_jobs
from rnn_lab.reports.sweep.options import ABSENT, resolved, varied_options, written
from rnn_lab.reports.sweep.page import write_page
from rnn_lab.reports.sweep.table import print_sweep

if TYPE_CHECKING:
    from rich.console import Console


def report_sweep(folder: Path, console: "Console | None" = None) -> list[JobSummary]:
    """Report the sweep in `folder` and return its jobs: the finished ones by rank, then the others.

    Raises:
        CheckpointError: there is no such folder, or no job in it. A job that cannot be read does
            not raise: its status is "damaged".
        UserError: summary.csv or sweep.html cannot be written.
    """
    from rich.console import Console

    console = console or Console()
    jobs = read_jobs(folder)
    paths = [write_summary(folder, jobs), write_page(folder, jobs)]
    print_sweep(jobs, console)
    words = f"Report: {', '.join(map(str, paths))}"
    console.print(words, markup=False, highlight=False, soft_wrap=True)
    return jobs


def write_summary(folder: Path, jobs: Sequence[JobSummary]) -> Path:
    """Write summary.csv, a row a job: what it was, the figures of its chosen epoch, its error.

    Where an option is null the cell says so; where a job has no such option it is empty.
    """
    varied = varied_options([job.config for job in jobs])
    figures = sorted(
        {name for job in jobs for name in job.figures},
        key=lambda name: (name.startswith("test/"), name),
    )
    path = folder / "summary.csv"
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        last = ["best_epoch", "epochs", "reviews_per_second", "trial", "batch_halvings", "error"]
        writer.writerow(["folder", "status", "rank", *varied, *figures, *last])
        for job in jobs:
            options = [resolved(job.config, name) for name in varied]
            writer.writerow(
                [job.name, job.status, job.rank]
                + ["" if value == ABSENT else written(value) for value in options]
                + [job.figures.get(name) for name in figures]
                + [job.best_epoch, job.epochs, job.reviews_per_second, job.trial]
                + [job.batch_halvings, job.error]
            )
    return path
