"""Read the jobs of a sweep from its folder: status, options, metrics and learning curves.

A sweep can be read while it runs. A job that cannot be read gets the status "damaged".
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rnn_lab.errors import CheckpointError, collapse_whitespace, listed, whole_message
from rnn_lab.models.metric_table import MetricMode, metric_mode
from rnn_lab.reports.formatting import format_count, format_metric_name, order_metrics
from rnn_lab.reports.learning_curves import read_learning_curves
from rnn_lab.reports.sweep.options import format_value
from rnn_lab.runs.jobs import (
    DEFAULT_MONITOR,
    MONITORED,
    JobStatus,
    find_job_dirs,
    is_job_dir,
    job_file,
    job_status,
    read_job_file,
)
from rnn_lab.runs.metrics import by_epoch
from rnn_lab.runs.result_json import option_key, read_object, read_result, recorded_mode
from rnn_lab.runs.run_config import (
    RawConfig,
    chosen_options,
    config_from_result,
    read_config,
    resolve,
)
from rnn_lab.runs.untrusted import get_group
from rnn_lab.validation import AUTO

Status = JobStatus | Literal["damaged"]
STATUSES: tuple[Status, ...] = (
    "finished", "pruned", "running", "unfinished", "failed", "damaged",
)  # fmt: skip
PROBLEM_STATUSES = ("failed", "damaged", "unfinished")
_MAX_NAMED = 8  # runs in a line

EpochCurve = tuple[list[int], list[float]]  # epochs, and the value of a metric in each


@dataclass(frozen=True)
class JobSummary:
    """One job of a sweep."""

    folder: Path
    status: Status
    name: str  # the path below the sweep's folder, in characters any file can hold
    config: RawConfig = field(default_factory=dict)  # the composed options, by dotted name
    chosen: RawConfig = field(default_factory=dict)  # a finished run's, with `auto` resolved
    # Those of `chosen` whose value a job of the sweep names: shown as "auto (max)".
    named: frozenset[str] = frozenset()
    monitor: str | None = None  # the metric that chose the best epoch
    mode: MetricMode | None = None  # whether a smaller or a larger monitor is better
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
    data: str = ""  # fingerprint of the examples of all splits
    test_data: str = ""  # of those of the test split
    # By baseline its val/ and test/ metrics on the examples of the run.
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)
    test_examples: int | None = None
    validation_examples: int | None = None
    versions: dict[str, str] = field(default_factory=dict)  # of what trained it: torch, commit, ...
    synthetic: bool = False  # whether no one wrote the texts
    batch_halvings: int = 0  # how often the batch size was halved after running out of memory
    class_f1: dict[str, float] = field(default_factory=dict)  # of the test split
    rank: int | None = None  # among the finished ones, 1 the best

    def option(self, name: str) -> Any:
        """Return the value of an option to show: what the run chose for `auto`.

        Runs are grouped by `config`: what `auto` means can depend on the split, and so on the seed.
        """
        value = resolve(self.config, name)
        if value != AUTO or name not in self.chosen:
            return value
        chosen = self.chosen[name]
        return f"{AUTO} ({format_value(chosen)})" if name in self.named else chosen

    @property
    def has_issues(self) -> bool:
        """Whether the job failed, was interrupted, or has a damaged file."""
        return bool(self.error) or self.status in PROBLEM_STATUSES


def read_jobs(sweep: Path) -> list[JobSummary]:
    """Return every job in the folder `sweep`: the finished ones by rank, then the others.

    Raises:
        CheckpointError: the folder does not exist or contains no job.
    """
    if not sweep.is_dir():
        raise CheckpointError(f"{sweep}: no such folder; give the folder of a sweep")
    if is_job_dir(sweep):
        raise CheckpointError(
            f"{sweep}: the folder of a single run; give it as run=, or the folder of a sweep"
        )
    folders = find_job_dirs(sweep)
    if not folders:
        raise CheckpointError(f"{sweep}: contains no run")
    return _rank(_mark_named([read_job(folder, sweep) for folder in folders]))


def read_job(folder: Path, sweep: Path) -> JobSummary:
    """Return the summary of the job in `folder`, "damaged" if it cannot be read. Never raises."""
    relative = folder.relative_to(sweep).as_posix()
    name = relative.encode("utf-8", "backslashreplace").decode()
    try:
        return JobSummary(folder, name=name, **_read_job(folder))
    except Exception as error:  # a damaged file can fail anywhere in the readers
        return JobSummary(folder, "damaged", name, error=whole_message(error))


def sweep_monitor(jobs: Sequence[JobSummary]) -> str:
    """Return the metric that ranks the jobs: the one that most of those with metrics monitor.

    Of several, it is the first by name, whatever the order of `jobs`.
    """
    measured = [job for job in jobs if job.monitor in job.metrics]
    return _most_frequent([job.monitor for job in measured or jobs]) or DEFAULT_MONITOR


def monitor_notes(jobs: Sequence[JobSummary]) -> list[str]:
    """Return a line if some finished jobs chose their best epoch by a metric that ranks no job."""
    monitor = sweep_monitor(jobs)
    others = {job.monitor for job in jobs if job.status == "finished" and job.monitor} - {monitor}
    if not others:
        return []
    chosen = ", ".join(map(format_metric_name, sorted(others)))
    ranking = format_metric_name(monitor)
    return [f"Some runs chose their best epoch by {chosen}; they are ranked by {ranking} too"]


def sweep_mode(jobs: Sequence[JobSummary], metric: str) -> MetricMode:
    """Return whether a smaller or a larger `metric`, of any split, is better.

    Of a metric that jobs monitor, that is the mode of most of them.
    """
    name = metric.partition("/")[2]
    own = [job.mode for job in jobs if job.monitor and job.monitor.partition("/")[2] == name]
    return metric_mode(metric, _most_frequent(own))


def _most_frequent(names: Sequence[str | None]) -> str | None:
    """Return the most frequent name, of several the first in the alphabet; None: there is none."""
    counts = Counter(name for name in names if name)
    return max(sorted(counts), key=counts.__getitem__, default=None)


def sort_cost(mode: MetricMode, value: float | None) -> float:
    """Return a number that is smaller for a better `value`, infinity for None."""
    if value is None:
        return math.inf
    return value if mode == "min" else -value


def sweep_metrics(jobs: Sequence[JobSummary]) -> list[str]:
    """Return the names of the metrics that any job has: validation first, then test."""
    return order_metrics(name for job in jobs for name in job.metrics)


def format_statuses(jobs: Sequence[JobSummary]) -> str:
    """Return "12 runs: 10 finished, 2 failed"."""
    counts = Counter(job.status for job in jobs)
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    return f"{format_count(len(jobs), 'run')}: {', '.join(parts)}"


def format_names(jobs: Sequence[JobSummary]) -> str:
    """Return "a, b", at most _MAX_NAMED names, and how many more there are."""
    return listed([job.name for job in jobs], _MAX_NAMED)


def _rank(jobs: Sequence[JobSummary]) -> list[JobSummary]:
    """Rank the finished jobs by the monitored validation metric; equal values share a rank."""
    monitor = sweep_monitor(jobs)
    mode = sweep_mode(jobs, monitor)
    costs = {job.folder: sort_cost(mode, job.metrics.get(monitor)) for job in jobs}
    ordered = sorted(jobs, key=lambda job: (STATUSES.index(job.status), costs[job.folder]))
    finished = [costs[job.folder] for job in ordered if job.status == "finished"]
    ranks = {cost: 1 + finished.index(cost) for cost in finished if cost < math.inf}
    return [
        replace(job, rank=ranks.get(costs[job.folder]) if job.status == "finished" else None)
        for job in ordered
    ]


def _mark_named(jobs: Sequence[JobSummary]) -> list[JobSummary]:
    """Return the jobs with `named` filled in."""
    given = ((name, resolve(job.config, name)) for job in jobs for name in job.config)
    named = {(name, option_key(value)) for name, value in given if value != AUTO}

    def named_of(job: JobSummary) -> frozenset[str]:
        chosen = job.chosen.items()
        return frozenset(name for name, value in chosen if (name, option_key(value)) in named)

    return [replace(job, named=named_of(job)) for job in jobs]


def _read_job(folder: Path) -> dict[str, Any]:
    """Return the fields of a JobSummary but its folder and name."""
    started, status = read_job_file(folder, "job"), job_status(folder)
    result = read_result(folder) if status == "finished" else None
    config, config_error = _read_config(folder, result)
    chosen_mode = config.get("trainer.monitor_mode")
    fields: dict[str, Any] = {
        "status": status,
        "config": config,
        "trial": _if_type(int, started.get("trial")),
        "overrides": _strings(started.get("overrides")),
    } | _monitored(config.get("trainer.monitor"), chosen_mode)
    if result is not None:
        fields["chosen"] = chosen_options(result)
        fields |= _read_finished(result, job_file(folder, "result"))
    elif status == "pruned":
        fields |= _read_pruned(job_file(folder, "pruned"), chosen_mode)
    elif status == "failed":
        fields |= _read_failure(job_file(folder, "failure"))
    monitor = fields.get("monitor", DEFAULT_MONITOR)
    finished = result is not None
    curves, curve_error = _read_curves(folder, monitor, fields.get("mode"), finished=finished)
    epochs = max((len(epochs) for epochs, _ in curves.values()), default=None)
    error = "; ".join(filter(None, (config_error, curve_error)))
    return {"epochs": epochs, "error": error} | fields | {"curves": curves}


def _read_finished(result: Mapping[str, Any], path: Path) -> dict[str, Any]:
    trainer, timing = result.get("trainer") or {}, result.get("timing") or {}
    epoch, epochs = result["best_epoch"], result.get("epochs")
    rate, per_class = timing.get("train_examples_per_s"), result.get("per_class") or {}
    data, baselines = result["data"], result.get("baseline") or {}
    examples = data.get("num_examples") or {}
    versions = {**get_group(result, "versions"), "commit": result.get("git_commit")}
    monitor = result.get(MONITORED) or trainer.get("monitor")
    return {
        **_monitored(monitor, recorded_mode(result)),
        "metrics": _read_metric_values(path, result),
        "class_f1": {name: float(one["f1"]) for name, one in per_class.items()},
        "best_epoch": None if epoch is None else int(epoch),
        "epochs": None if epochs is None else int(epochs),
        "train_examples_per_s": None if rate is None else float(rate),
        "batch_halvings": int(result.get("batch_halvings") or 0),
        "data": str(data.get("fingerprint", "")),
        # A run of an earlier version has the fingerprint of all splits only.
        "test_data": str(data.get("test_fingerprint") or data.get("fingerprint", "")),
        "baselines": {str(name): _read_metric_values(path, m) for name, m in baselines.items()},
        "test_examples": _if_type(int, examples.get("test")),
        "validation_examples": _if_type(int, examples.get("validation")),
        "versions": {name: version for name, version in versions.items() if version},
        "synthetic": bool(result["synthetic"]),
    }


def _read_pruned(path: Path, chosen_mode: Any) -> dict[str, Any]:
    pruned = read_object(path)
    mode = pruned.get("monitored_mode") or chosen_mode  # an earlier version did not record it
    metrics, best = _read_metric_values(path, pruned), _if_type(int, pruned.get("best_epoch"))
    monitored = _monitored(pruned.get(MONITORED), mode)
    return {"metrics": metrics, "best_epoch": best} | monitored


def _read_failure(path: Path) -> dict[str, Any]:
    try:
        failure = read_object(path)
    except CheckpointError as error:
        return {"error": str(error)}
    reason = failure.get("error") or failure.get("type") or "no reason given"
    overrides = _strings(failure.get("overrides"))
    return {
        "error": collapse_whitespace(reason),
        "log": str(failure.get("log") or ""),
        "attempts": _if_type(int, failure.get("attempts")),
    } | ({"overrides": overrides} if overrides else {})


def _monitored(monitor: Any, mode: Any) -> dict[str, Any]:
    """Return `monitor` and `mode` of a JobSummary; {} of `auto`, which a result resolves."""
    if not isinstance(monitor, str) or monitor == AUTO:
        return {}
    return {"monitor": monitor, "mode": metric_mode(monitor, mode)}


def _if_type(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else None


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, list) else ()


def _read_metric_values(path: Path, content: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the val/ and test/ metrics in the `content` of the file `path`."""
    metrics: dict[str, float | None] = {}
    for name, value in content.items():
        if not name.startswith(("val/", "test/")):
            continue
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise CheckpointError(f"{path}: {name} is not a number")
        metrics[name] = float(value) if value is not None and math.isfinite(value) else None
    return metrics


def _read_config(folder: Path, result: Mapping[str, Any] | None) -> tuple[RawConfig, str]:
    """Return the composed config, or the options in the result, and an error or ""."""
    recorded = {} if result is None else config_from_result(result)
    try:
        return read_config(folder) or recorded, ""
    except CheckpointError as error:
        return recorded, str(error)


def _read_curves(
    folder: Path, monitor: str, mode: MetricMode | None, *, finished: bool
) -> tuple[dict[str, EpochCurve], str]:
    """Return the curve of each val/ metric, and an error or ""."""
    path = folder / "metrics.csv"
    if not finished and not (path.exists() and path.stat().st_size):
        return {}, ""
    try:
        metrics = read_learning_curves(folder, monitor, mode, being_written=not finished)
    except CheckpointError as error:
        return {}, str(error) if finished else ""
    curves = {}
    for name in metrics:
        epochs, values = by_epoch(metrics, name)
        if name.startswith("val/") and len(epochs):
            curves[name] = epochs.astype(int).tolist(), values.tolist()
    return curves, ""


def read_importances(sweep: Path, monitor: str) -> dict[str, dict[str, float]]:
    """Return the importance of each option for each metric of a search, the greatest first.

    Importances without a metric, and those of MONITORED, are for `monitor`. {} if the search wrote
    none.
    """
    try:
        content = read_object(sweep / "importances.json")
        found = content.get("importances", content)
        if not all(isinstance(shares, dict) for shares in found.values()):
            found = {monitor: found}
        found = {monitor if name == MONITORED else name: found[name] for name in found}
        importances = {}
        for metric, shares in found.items():
            ranked = sorted(shares, key=lambda name: -float(shares[name]))
            importances[metric] = {name: float(shares[name]) for name in ranked}
        return {metric: shares for metric, shares in importances.items() if shares}
    except (AttributeError, CheckpointError, TypeError, ValueError):
        return {}
