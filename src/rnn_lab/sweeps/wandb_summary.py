"""A sweep in W&B: a summary run beside the runs of its jobs.

It has their group and the job_type `sweep-summary`. Repeating the command resumes it.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError, UserError
from rnn_lab.overrides import shell_quote
from rnn_lab.paths import wandb_prefix
from rnn_lab.reports.sweep.jobs import JobSummary, read_importances, read_jobs, sweep_monitor
from rnn_lab.reports.sweep.report import summary_rows
from rnn_lab.runs.run_folder import BEST, CHECKPOINT_DIR
from rnn_lab.tracking.config import WandbConfig
from rnn_lab.tracking.loggers import (
    add_checkpoint,
    delete_offline_runs,
    finish_wandb,
    open_wandb_run,
)
from rnn_lab.tracking.wandb_environment import SWEEP_SUMMARY


def log_sweep_summary(sweep: Path, config: WandbConfig, output: Path | None = None) -> None:
    """Log the table of the sweep in that folder, its importances, its page and its best checkpoint.

    Everything is read from the folder, but the page from `output` where it was written there. A
    failure of W&B is printed, and does not fail the sweep.
    """
    import wandb

    try:
        _log(sweep, config, read_jobs(sweep), (output or sweep) / "sweep.html")
    except CheckpointError:
        return  # no job has started
    except (UserError, OSError, wandb.errors.Error) as error:
        print(f"W&B: the summary of the sweep failed: {error}", file=sys.stderr)
    finally:
        finish_wandb()


def _log(sweep: Path, config: WandbConfig, jobs: Sequence[JobSummary], page: Path) -> None:
    import wandb

    described: dict[str, Any] = {"name": f"{sweep.name} summary", "group": sweep.name}
    described |= {"tags": ["sweep"], "job_type": SWEEP_SUMMARY, "config": {"sweep": sweep.name}}
    run, offline, earlier = open_wandb_run(config, sweep, described)
    if offline:
        delete_offline_runs(earlier)
    run.summary.update(_metrics(jobs))
    logged: dict[str, Any] = {"sweep/runs": _table(jobs)}
    for metric, shares in read_importances(sweep, sweep_monitor(jobs)).items():
        table = wandb.Table(columns=["option", "importance"], data=[*map(list, shares.items())])
        title = f"share of each option in {metric}"
        logged[f"importances/{metric}"] = wandb.plot.bar(table, "option", "importance", title=title)
    if page.exists():
        logged["sweep/report"] = wandb.Html(str(page), inject=False)
    run.log(logged)
    best = next((job for job in jobs if job.rank == 1), None)
    if best and (checkpoint := best.folder / CHECKPOINT_DIR / BEST).exists():
        about = {"folder": best.name, **best.metrics}
        artifact = wandb.Artifact(f"sweep-{run.id}", type="model", metadata=about)
        add_checkpoint(artifact, checkpoint)
        run.log_artifact(artifact, aliases=["best"])
    if offline:
        folder = shell_quote(str(sweep))
        places = f"{folder}/wandb/offline-run-* {folder}/*/wandb/offline-run-*"
        print(f"W&B is offline: upload the sweep with `{wandb_prefix()} sync {places}`")


def _metrics(jobs: Sequence[JobSummary]) -> dict[str, Any]:
    """Return the number of jobs of each status, and the best by its validation metric."""
    counts = Counter(job.status for job in jobs)
    metrics: dict[str, Any] = {f"jobs/{status}": count for status, count in counts.items()}
    if jobs and jobs[0].rank == 1:
        metrics |= {"monitor": sweep_monitor(jobs), "best/folder": jobs[0].name}
        metrics |= {f"best/{name}": value for name, value in jobs[0].metrics.items()}
    return metrics


def _table(jobs: Sequence[JobSummary]) -> Any:
    """Return summary.csv as a W&B table, numbers as numbers."""
    import wandb

    columns, *rows = summary_rows(jobs)
    cells = [[_number(cell) for cell in row] for row in rows]
    return wandb.Table(columns=columns, data=cells, allow_mixed_types=True)


def _number(cell: Any) -> float | str | None:
    try:
        return float(cell) if cell not in ("", None) else None
    except ValueError:
        return str(cell)
