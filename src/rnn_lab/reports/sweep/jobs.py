"""The jobs of a sweep: what became of each, and its figures. Read from its folder alone.

A sweep may be read while it runs. A folder that cannot be read is a job that says so.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rnn_lab.errors import CheckpointError
from rnn_lab.io.locks import is_locked
from rnn_lab.reports.run_files import by_epoch, read_metrics, read_object, read_result
from rnn_lab.reports.sweep.options import RawConfig, config_of_result, read_config

Status = Literal["finished", "pruned", "failed", "running", "unfinished", "damaged"]
STATUSES: tuple[Status, ...] = (
    "finished", "pruned", "running", "unfinished", "failed", "damaged",
)  # fmt: skip
DEFAULT_MONITOR = "val/accuracy"
# Any one of these makes a folder that of a job.
_MARKS = (
    "config", "job.json", "result.json", "pruned.json", "failure.json", "metrics.csv",
    "checkpoints", "train.log",
)  # fmt: skip

Curve = tuple[list[int], list[float]]  # epochs, and the figure of each


@dataclass(frozen=True)
class JobSummary:
    """One job of a sweep."""

    folder: Path
    status: Status
    name: str  # the folder as the sweep's folder calls it, in letters any file can hold
    config: RawConfig = field(default_factory=dict)  # the composed options, by dotted name
    monitor: str | None = None  # the figure that chose the epoch
    figures: dict[str, float | None] = field(default_factory=dict)  # val/ and test/
    curves: dict[str, Curve] = field(default_factory=dict)  # each val/ figure by epoch
    best_epoch: int | None = None
    epochs: int | None = None  # that were validated
    reviews_per_second: float | None = None
    trial: int | None = None
    error: str = ""  # one line
    log: str = ""  # path of the log of a failed job
    overrides: tuple[str, ...] = ()
    attempts: int | None = None
    data: str = ""  # fingerprint of the reviews
    synthetic: bool = False
    batch_halvings: int = 0  # of the batch, for want of memory
    rank: int | None = None  # among the finished ones, 1 the best


def read_jobs(sweep: Path) -> list[JobSummary]:
    """Return every job in the folder `sweep`: the finished ones by rank, then the others.

    Raises:
        CheckpointError: there is no such folder, or no job in it.
    """
    if not sweep.is_dir():
        raise CheckpointError(f"{sweep}: no such folder; give that of a sweep")
    if _is_job(sweep):
        raise CheckpointError(f"{sweep}: the folder of a single run; give that of a sweep")
    folders = _job_folders(sweep)
    if not folders:
        raise CheckpointError(f"{sweep}: no run in it")
    return rank([read_job(folder, sweep) for folder in folders])


def read_job(folder: Path, sweep: Path) -> JobSummary:
    """Return what became of the job in `folder`; it raises nothing."""
    place = folder.relative_to(sweep).as_posix()
    name = place.encode("utf-8", "backslashreplace").decode()
    try:
        return JobSummary(folder, name=name, **_read_job(folder))
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = _one_line(error) or type(error).__name__
        return JobSummary(folder, "damaged", name, error=reason)


def sweep_monitor(jobs: Sequence[JobSummary]) -> str:
    """The figure that ranks the jobs: the one that most of them were told to monitor."""
    monitors = Counter(job.monitor for job in jobs if job.monitor)
    return monitors.most_common(1)[0][0] if monitors else DEFAULT_MONITOR


def smaller_is_better(monitor: str) -> bool:
    """Whether the least value of `monitor` is the best one."""
    return monitor.endswith(("/loss", "/calibration_error"))


def rank(jobs: Sequence[JobSummary]) -> list[JobSummary]:
    """Rank the finished jobs by the validation figure alone; equal figures share a rank."""
    monitor = sweep_monitor(jobs)
    sign = 1 if smaller_is_better(monitor) else -1

    def badness(job: JobSummary) -> float:
        value = job.figures.get(monitor)
        return math.inf if value is None else sign * value

    ordered = sorted(jobs, key=lambda job: (STATUSES.index(job.status), badness(job)))
    ranked = [job for job in ordered if job.status == "finished" and badness(job) < math.inf]
    worse = [badness(job) for job in ranked]
    ranks = {job.folder: 1 + worse.index(badness(job)) for job in ranked}
    return [replace(job, rank=ranks.get(job.folder)) for job in ordered]


def _job_folders(folder: Path, levels: int = 4) -> list[Path]:
    """The folders of jobs below `folder`; a slash in an override puts one into another."""
    found = []
    for path in sorted(folder.iterdir()) if levels else []:
        if path.is_dir() and not path.is_symlink():
            found += [path] if _is_job(path) else _job_folders(path, levels - 1)
    return found


def _is_job(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _MARKS)


def _read_job(folder: Path) -> dict[str, Any]:
    """All that is known of a job but its folder and its name."""
    started = _optional(folder / "job.json")
    common: dict[str, Any] = {"overrides": _words(started.get("overrides"))}
    trial = started.get("trial")
    common["trial"] = trial if isinstance(trial, int) else None
    if (folder / "result.json").exists():
        return common | _finished(folder)
    config, damage = _read_config(folder)
    curves, _ = _read_curves(folder, finished=False)
    monitor = config.get("trainer.monitor")
    common |= {
        "config": config,
        "monitor": monitor if isinstance(monitor, str) else None,
        "curves": curves,
        "epochs": max((len(epochs) for epochs, _ in curves.values()), default=None),
        "error": damage,
    }
    if (folder / "pruned.json").exists():
        return common | {"status": "pruned"} | _pruned(folder / "pruned.json")
    if (folder / "failure.json").exists():
        return common | {"status": "failed"} | _failure(folder / "failure.json")
    return common | {"status": "running" if is_locked(folder / "job.lock") else "unfinished"}


def _finished(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    result = read_result(folder)
    config, config_damage = _read_config(folder, result)
    curves, curve_damage = _read_curves(folder, finished=True)
    trainer, timing = result.get("trainer") or {}, result.get("timing") or {}
    rate = timing.get("train_examples_per_s")
    epoch, epochs = result["best_epoch"], result.get("epochs")
    return {
        "status": "finished",
        "config": config,
        "monitor": result.get("monitored_metric") or trainer.get("monitor"),
        "figures": _figures(path, result),
        "curves": curves,
        "best_epoch": None if epoch is None else int(epoch),
        "epochs": None if epochs is None else int(epochs),
        "reviews_per_second": None if rate is None else float(rate),
        "batch_halvings": int(result.get("batch_halvings") or 0),
        "data": str(result["data"].get("fingerprint", "")),
        "synthetic": bool(result["synthetic"]),
        "error": "; ".join(filter(None, (config_damage, curve_damage))),
    }


def _pruned(path: Path) -> dict[str, Any]:
    pruned = read_object(path)
    found: dict[str, Any] = {"figures": _figures(path, pruned)}
    if isinstance(monitor := pruned.get("monitored_metric"), str):
        found["monitor"] = monitor
    if isinstance(epoch := pruned.get("best_epoch"), int):
        found["best_epoch"] = epoch
    return found


def _failure(path: Path) -> dict[str, Any]:
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
    if overrides := _words(failure.get("overrides")):
        found["overrides"] = overrides
    return found


def _words(listed: Any) -> tuple[str, ...]:
    return tuple(map(str, listed)) if isinstance(listed, list) else ()


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _figures(path: Path, written: dict[str, Any]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for name, value in written.items():
        if not name.startswith(("val/", "test/")):
            continue
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise CheckpointError(f"{path}: {name} is not a number")
        figures[name] = float(value) if value is not None and math.isfinite(value) else None
    return figures


def _read_config(folder: Path, result: dict[str, Any] | None = None) -> tuple[RawConfig, str]:
    """The composed config, else what the result says of it, and what is wrong in one line."""
    try:
        return read_config(folder, result), ""
    except CheckpointError as error:
        return ({} if result is None else config_of_result(result)), str(error)


def _read_curves(folder: Path, *, finished: bool) -> tuple[dict[str, Curve], str]:
    """The val/ figures by epoch, and what is wrong with them in one line."""
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


def _optional(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except CheckpointError:
        return {}


def read_importances(sweep: Path, monitor: str) -> dict[str, dict[str, float]]:
    """Return the share of each parameter in each figure of a search, the greatest first.

    Empty where none were computed. Shares that name no figure are those in `monitor`.
    """
    try:
        written = read_object(sweep / "importances.json")
        found = written.get("importances", written)
        if not all(isinstance(shares, dict) for shares in found.values()):
            found = {monitor: found}
        return {
            str(figure): {
                str(name): float(share)
                for name, share in sorted(shares.items(), key=lambda item: -float(item[1]))
            }
            for figure, shares in found.items()
            if shares
        }
    except (AttributeError, CheckpointError, TypeError, ValueError):
        return {}
