"""A sweep in W&B: one run beside those of its jobs holds what came of them all.

Its group is theirs, its job_type `sweep-summary`. The same command again goes on with it.
"""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError, UserError
from rnn_lab.reports.sweep.jobs import JobSummary, read_importances, read_jobs, sweep_monitor
from rnn_lab.reports.sweep.report import write_summary
from rnn_lab.tracking.loggers import finish_wandb, open_wandb_run
from rnn_lab.tracking.wandb_resume import delete_offline_runs, earlier_runs, run_id
from rnn_lab.training.config import WandbConfig

JOB_TYPE = "sweep-summary"


def summarise_in_wandb(sweep: Path, config: WandbConfig) -> None:
    """Log the table of the sweep in that folder, its importances, its page and its best checkpoint.

    Everything is read from the folder. What W&B does not take is said, and is no failure of the
    sweep.
    """
    import wandb

    try:
        _summarise(sweep, config, read_jobs(sweep))
    except CheckpointError:
        return  # no job has begun
    except (UserError, OSError, wandb.errors.Error) as error:
        print(f"W&B has no summary of the sweep: {error}", file=sys.stderr)
    finally:
        finish_wandb()


def _summarise(sweep: Path, config: WandbConfig, jobs: Sequence[JobSummary]) -> None:
    import wandb

    earlier = earlier_runs(sweep)
    group = config.group or sweep.name
    described: dict[str, Any] = {"name": f"{sweep.name} summary", "group": group, "tags": ["sweep"]}
    described |= {"job_type": JOB_TYPE, "config": {"sweep": sweep.name}}
    if earlier:
        described["id"] = run_id(earlier[-1])
    run, offline = open_wandb_run(config, sweep, described)
    if offline:
        delete_offline_runs(earlier)
    run.summary.update(_figures(jobs))
    logged: dict[str, Any] = {"sweep/runs": _table(write_summary(sweep, jobs))}
    for figure, shares in read_importances(sweep, sweep_monitor(jobs)).items():
        table = wandb.Table(columns=["option", "importance"], data=[*map(list, shares.items())])
        title = f"share of each option in {figure}"
        logged[f"importances/{figure}"] = wandb.plot.bar(table, "option", "importance", title=title)
    if (page := sweep / "sweep.html").exists():
        logged["sweep/report"] = wandb.Html(str(page), inject=False)
    run.log(logged)
    best = next((job for job in jobs if job.rank == 1), None)
    if best and (checkpoint := best.folder / "checkpoints" / "best.ckpt").exists():
        about = {"folder": best.name, **best.metrics}
        artifact = wandb.Artifact(f"sweep-{run.id}", type="model", metadata=about)
        artifact.add_file(str(checkpoint), name="best.ckpt")
        run.log_artifact(artifact, aliases=["best"])
    if offline:
        places = f"{sweep}/wandb/offline-run-* {sweep}/*/wandb/offline-run-*"
        print(f"W&B is offline: upload the sweep with `wandb sync {places}`")


def _figures(jobs: Sequence[JobSummary]) -> dict[str, Any]:
    """How many jobs there are of each kind, and the best by the validation figure."""
    monitor = sweep_monitor(jobs)
    figures: dict[str, Any] = {
        f"jobs/{kind}": n for kind, n in Counter(j.status for j in jobs).items()
    }
    if jobs and jobs[0].rank == 1:
        figures |= {"monitor": monitor, "best/folder": jobs[0].name}
        figures |= {f"best/{name}": value for name, value in jobs[0].metrics.items()}
    return figures


def _table(summary: Path) -> Any:
    """summary.csv as a table of W&B's, numbers as numbers."""
    import wandb

    with summary.open(encoding="utf-8", newline="") as file:
        columns, *rows = csv.reader(file)
    cells = [[_number(cell) for cell in row] for row in rows]
    return wandb.Table(columns=[*columns], data=cells, allow_mixed_types=True)


def _number(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
