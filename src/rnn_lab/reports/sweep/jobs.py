"""Read the jobs of a sweep from its folder: status, options, metrics and learning curves.

A sweep can be read while it runs. A job that cannot be read gets the status "damaged".
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.formatting import format_count, order_metrics
from rnn_lab.reports.job_files import (
    JobStatus,
    find_job_dirs,
    is_job_dir,
    job_file,
    job_status,
    read_job_file,
)
from rnn_lab.reports.run_files import by_epoch, read_metrics, read_object, read_result
from rnn_lab.reports.sweep.options import RawConfig, config_from_result, read_config

Status = JobStatus | Literal["damaged"]
STATUSES: tuple[Status, ...] = (
    "finished", "pruned", "running", "unfinished", "failed", "damaged",
)  # fmt: skip
PROBLEM_STATUSES = ("failed", "damaged", "unfinished")
DEFAULT_MONITOR = "val/accuracy"

EpochCurve = tuple[list[int], list[float]]  # epochs, and the value of a metric in each


@dataclass(frozen=True)
class JobSummary:
    """One job of a sweep."""

    folder: Path
    status: Status
    name: str  # the path below the sweep's folder, in characters any file can hold
    config: RawConfig = field(default_factory=dict)  # the composed options, by dotted name
    monitor: str | None = None  # the metric that chose the best epoch
    metrics: dict[str, float | None] = field(default_factory=dict)  # val/ and test/
    curves: dict[str, EpochCurve] = field(default_factory=dict)  # of each val/ metric
    best_epoch: int | None = None
    epochs: int | None = None  # validated ones
    train_examples_per_s: float | None = None
    trial: int | None = None  # of a search
    error: str = ""  # one line
    log: str = ""  # path of a failed job's log
    overrides: tuple[str, ...] = ()
    attempts: int | None = None
    data: str = ""  # fingerprint of the examples
    synthetic: bool = False
    batch_halvings: int = 0  # how often the batch size was halved after running out of memory
    rank: int | None = None  # among the finished ones, 1 the best


def read_jobs(sweep: Path) -> list[JobSummary]:
    """Return every job in the folder `sweep`: the finished ones by rank, then the others.

    Raises:
        CheckpointError: the folder does not exist or contains no job.
    """
    if not sweep.is_dir():
        raise CheckpointError(f"{sweep}: no such folder; give the folder of a sweep")
    if is_job_dir(sweep):
        raise CheckpointError(f"{sweep}: the folder of a single run; give the folder of a sweep")
    folders = find_job_dirs(sweep)
    if not folders:
        raise CheckpointError(f"{sweep}: contains no run")
    return rank([read_job(folder, sweep) for folder in folders])


def read_job(folder: Path, sweep: Path) -> JobSummary:
    """Return the summary of the job in `folder`, "damaged" if it cannot be read. Never raises."""
    relative = folder.relative_to(sweep).as_posix()
    name = relative.encode("utf-8", "backslashreplace").decode()
    try:
        return JobSummary(folder, name=name, **_read_job(folder))
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = _one_line(error) or type(error).__name__
        return JobSummary(folder, "damaged", name, error=reason)


def sweep_monitor(jobs: Sequence[JobSummary]) -> str:
    """Return the metric that ranks the jobs: the one that most of them monitor."""
    monitors = Counter(job.monitor for job in jobs if job.monitor)
    return monitors.most_common(1)[0][0] if monitors else DEFAULT_MONITOR


def smaller_is_better(monitor: str) -> bool:
    """Return whether the least value of `monitor` is the best one."""
    return monitor.endswith(("/loss", "/calibration_error"))


def rank(jobs: Sequence[JobSummary]) -> list[JobSummary]:
    """Rank the finished jobs by the monitored validation metric; equal values share a rank."""
    monitor = sweep_monitor(jobs)
    sign = 1 if smaller_is_better(monitor) else -1

    def cost(job: JobSummary) -> float:
        value = job.metrics.get(monitor)
        return math.inf if value is None else sign * value

    ordered = sorted(jobs, key=lambda job: (STATUSES.index(job.status), cost(job)))
    ranked = [job for job in ordered if job.status == "finished" and cost(job) < math.inf]
    costs = [cost(job) for job in ranked]
    ranks = {job.folder: 1 + costs.index(cost(job)) for job in ranked}
    return [replace(job, rank=ranks.get(job.folder)) for job in ordered]


def sweep_metrics(jobs: Sequence[JobSummary]) -> list[str]:
    """Return the names of the metrics that any job has: validation first, then test."""
    return order_metrics(name for job in jobs for name in job.metrics)


def has_issues(job: JobSummary) -> bool:
    """Return whether a job failed, was interrupted, or has a damaged file."""
    return bool(job.error) or job.status in PROBLEM_STATUSES


def format_statuses(jobs: Sequence[JobSummary]) -> str:
    """Return "12 runs: 10 finished, 2 failed"."""
    counts = Counter(job.status for job in jobs)
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    return f"{format_count(len(jobs), 'run')}: {', '.join(parts)}"


def _read_job(folder: Path) -> dict[str, Any]:
    """Return the fields of a JobSummary but its folder and name."""
    started = read_job_file(folder, "job")
    trial = started.get("trial")
    common: dict[str, Any] = {
        "overrides": _strings(started.get("overrides")),
        "trial": trial if isinstance(trial, int) else None,
    }
    status = job_status(folder)
    if status == "finished":
        return common | _read_finished(folder)
    config, config_error = _read_config(folder)
    curves, _ = _read_curves(folder, finished=False)
    monitor = config.get("trainer.monitor")
    common |= {
        "status": status,
        "config": config,
        "monitor": monitor if isinstance(monitor, str) else None,
        "curves": curves,
        "epochs": max((len(epochs) for epochs, _ in curves.values()), default=None),
        "error": config_error,
    }
    if status == "pruned":
        return common | _read_pruned(job_file(folder, "pruned"))
    if status == "failed":
        return common | _read_failure(job_file(folder, "failure"))
    return common


def _read_finished(folder: Path) -> dict[str, Any]:
    result = read_result(folder)
    config, config_error = _read_config(folder, result)
    curves, curve_error = _read_curves(folder, finished=True)
    trainer, timing = result.get("trainer") or {}, result.get("timing") or {}
    rate = timing.get("train_examples_per_s")
    epoch, epochs = result["best_epoch"], result.get("epochs")
    return {
        "status": "finished",
        "config": config,
        "monitor": result.get("monitored_metric") or trainer.get("monitor"),
        "metrics": _metrics(job_file(folder, "result"), result),
        "curves": curves,
        "best_epoch": None if epoch is None else int(epoch),
        "epochs": None if epochs is None else int(epochs),
        "train_examples_per_s": None if rate is None else float(rate),
        "batch_halvings": int(result.get("batch_halvings") or 0),
        "data": str(result["data"].get("fingerprint", "")),
        "synthetic": bool(result["synthetic"]),
        "error": "; ".join(filter(None, (config_error, curve_error))),
    }


def _read_pruned(path: Path) -> dict[str, Any]:
    pruned = read_object(path)
    found: dict[str, Any] = {"metrics": _metrics(path, pruned)}
    if isinstance(monitor := pruned.get("monitored_metric"), str):
        found["monitor"] = monitor
    if isinstance(epoch := pruned.get("best_epoch"), int):
        found["best_epoch"] = epoch
    return found


def _read_failure(path: Path) -> dict[str, Any]:
    try:
        failure = read_object(path)
    except CheckpointError as error:
        return {"error": str(error)}
    attempts = failure.get("attempts")
    found: dict[str, Any] = {
        "error": _one_line(failure.get("error") or failure.get("type") or "no reason given"),
        "log": str(failure.get("log") or ""),
        "attempts": attempts if isinstance(attempts, int) else None,
    }
    if overrides := _strings(failure.get("overrides")):
        found["overrides"] = overrides
    return found


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, list) else ()


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _metrics(path: Path, content: dict[str, Any]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for name, value in content.items():
        if not name.startswith(("val/", "test/")):
            continue
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise CheckpointError(f"{path}: {name} is not a number")
        metrics[name] = float(value) if value is not None and math.isfinite(value) else None
    return metrics


def _read_config(folder: Path, result: dict[str, Any] | None = None) -> tuple[RawConfig, str]:
    """Return the composed config, or the options in the result, and an error or ""."""
    try:
        return read_config(folder, result), ""
    except CheckpointError as error:
        return ({} if result is None else config_from_result(result)), str(error)


def _read_curves(folder: Path, *, finished: bool) -> tuple[dict[str, EpochCurve], str]:
    """Return the curve of each val/ metric, and an error or ""."""
    path = folder / "metrics.csv"
    if not finished and not (path.exists() and path.stat().st_size):
        return {}, ""
    try:
        metrics = read_metrics(folder, being_written=not finished)
    except CheckpointError as error:
        return {}, str(error) if finished else ""
    found = {name: by_epoch(metrics, name) for name in metrics if name.startswith("val/")}
    return {
        name: (epochs.astype(int).tolist(), values.tolist())
        for name, (epochs, values) in found.items()
        if len(epochs)
    }, ""


def read_importances(sweep: Path, monitor: str) -> dict[str, dict[str, float]]:
    """Return the importance of each option for each metric of a search, the greatest first.

    Importances without a metric are those for `monitor`. {} if the search wrote none.
    """
    try:
        content = read_object(sweep / "importances.json")
        found = content.get("importances", content)
        if not all(isinstance(shares, dict) for shares in found.values()):
            found = {monitor: found}
        return {
            str(metric): {
                str(name): float(share)
                for name, share in sorted(shares.items(), key=lambda item: -float(item[1]))
            }
            for metric, shares in found.items()
            if shares
        }
    except (AttributeError, CheckpointError, TypeError, ValueError):
        return {}
