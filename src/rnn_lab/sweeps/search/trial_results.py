"""The result of a trial, read from the folder of its job."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from optuna.trial import TrialState

from rnn_lab.io.atomic import read_text


class TrialResult(NamedTuple):
    """The result of a trial: `values` of a complete one, in the order of the objectives."""

    state: TrialState
    values: list[float] | None = None
    reason: str = ""


def read_trial_result(job: JobReturn, directions: list[str]) -> TrialResult:
    """Read the result of a job from its files. Without files and an error it is unfinished."""
    folder = folder_of(job)
    try:
        if (folder / "result.json").exists():
            return _from_result(json.loads(read_text(folder / "result.json")), directions)
        if (folder / "pruned.json").exists():
            return TrialResult(TrialState.PRUNED)
        if (folder / "failure.json").exists():
            failure = json.loads(read_text(folder / "failure.json"))
            return TrialResult(TrialState.FAIL, reason=str(failure.get("error", "")))
    except (AttributeError, OSError, RecursionError, ValueError) as error:
        return TrialResult(TrialState.FAIL, reason=f"{folder}: unreadable: {error}")
    if job.status == JobStatus.FAILED:
        return TrialResult(TrialState.FAIL, reason=str(job._return_value).partition("\n")[0])
    return TrialResult(TrialState.RUNNING, reason="the same command resumes it")


def folder_of(job: JobReturn) -> Path:
    """Return the job's folder."""
    assert job.hydra_cfg is not None
    return Path(job.hydra_cfg.hydra.runtime.output_dir)


def _from_result(result: dict[str, Any], directions: list[str]) -> TrialResult:
    values = []
    for metric in directions:
        value = _metric(result, metric)
        if value is None or not math.isfinite(value):
            return TrialResult(TrialState.FAIL, reason=f"result.json has no number for {metric}")
        values.append(value)
    return TrialResult(TrialState.COMPLETE, values)


def _metric(result: dict[str, Any], name: str) -> float | None:
    """Find `timing.wall_time_s` under `timing`; `val/accuracy` is at the top level."""
    found: Any = result
    for part in [name] if name in result else name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if number else None
