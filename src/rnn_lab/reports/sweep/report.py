"""Report a sweep: tables on the terminal, summary.csv and sweep.html in its folder.

Everything is read from the folder, so a sweep can be reported at any time, also while it runs.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.sweep.jobs import JobSummary, read_jobs, sweep_metrics
from rnn_lab.reports.sweep.options import ABSENT, format_value, resolve, varied_options
from rnn_lab.reports.sweep.page import write_page
from rnn_lab.reports.sweep.table import print_sweep

if TYPE_CHECKING:
    from rich.console import Console


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
    varied = varied_options([job.config for job in jobs])
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
