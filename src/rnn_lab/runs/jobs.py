"""Jobs of a sweep and their status, and the runs that an option `run` stands for.

Trainings write these files, sweeps decide by them what is left to do, and reports show them. All
use these functions, so that they never disagree on a job's status.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.io.atomic import read_json
from rnn_lab.io.locks import is_locked
from rnn_lab.paths import local_path
from rnn_lab.runs.run_folder import CHECKPOINT_DIR, CONFIG_DIR, is_sweep_dir

Runs = str | Path | Sequence[str | Path]  # one run or several, or the folder of a sweep
JobStatus = Literal["finished", "pruned", "failed", "running", "unfinished"]
JobFile = Literal["job", "result", "pruned", "failure"]

DEFAULT_MONITOR = "val/accuracy"
# The metric that selects the epoch: in result.json and pruned.json, and the objective of a search
# whose runs resolve trainer.monitor=auto.
MONITORED = "monitored_metric"
JOB_LOCK = "job.lock"  # held by the process that runs the job
# The first of them that exists decides: an earlier attempt can have left the others.
_STATUS: dict[JobFile, JobStatus] = {"result": "finished", "pruned": "pruned", "failure": "failed"}
# Any of these makes a folder a job. The first is written once the job holds its lock: Hydra's files
# are there before, when another process that starts a job would still look like one that died.
_JOB_FILES = (
    "job.json", "result.json", "pruned.json", "failure.json", "metrics.csv", CHECKPOINT_DIR,
)  # fmt: skip
MAX_DEPTH = 4  # of job folders below the sweep


def job_file(folder: Path, file: JobFile) -> Path:
    """Return the path of a job's JSON file."""
    return folder / f"{file}.json"


def job_status(folder: Path) -> JobStatus:
    """Return the status of the job in `folder`, from the files there and its lock.

    "running" is a job whose lock is held; "unfinished" one whose process is gone.
    """
    status = _end_status(folder)
    if status is None and is_locked(folder / JOB_LOCK):
        return "running"
    return status or _end_status(folder) or "unfinished"  # it may have ended between the two looks


def _end_status(folder: Path) -> JobStatus | None:
    return next((_STATUS[file] for file in _STATUS if job_file(folder, file).exists()), None)


def read_job_file(folder: Path, file: JobFile) -> dict[str, Any]:
    """Return the content of a job's JSON file, {} where it is missing or damaged."""
    return read_json(job_file(folder, file)) or {}


def is_job_dir(folder: Path) -> bool:
    """Return whether a run started in `folder`."""
    return any((folder / name).exists() for name in _JOB_FILES)


def refuse_unfinished(run: str) -> None:
    """Raise a CheckpointError where `run` is the folder of a run that has not finished.

    A folder that has nothing but checkpoints, such as a copy, is accepted.
    """
    folder = local_path(run)
    if job_file(folder, "job").exists() and (status := job_status(folder)) != "finished":
        raise CheckpointError(
            f"{folder}: {status}; wait for its end or resume it, or name one of its checkpoints: "
            "<run dir>/checkpoints/last.ckpt"
        )


def find_job_dirs(sweep: Path, depth: int = MAX_DEPTH) -> list[Path]:
    """Return the job folders below `sweep`, sorted by path; [] if it does not exist.

    Links are not followed. A slash in an override nests a job folder: `data.train_path=a/b.csv`.
    Within the folder of a job, and in hidden folders, there are none: other processes may be
    creating, finishing or removing what is there.
    """
    found: list[Path] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sweep.iterdir() if depth else []:
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                continue
            if is_job_dir(path):
                found.append(path)
            elif not (path / CONFIG_DIR).exists():
                found += find_job_dirs(path, depth - 1)
    return sorted(found)


def list_runs(run: Runs) -> list[str]:
    """Return the runs that an option `run` stands for: of the folder of a sweep, all of its runs.

    Raises:
        CheckpointError: a run of the sweep is not finished; names it.
        ConfigError: there is no run.
    """
    given = [run] if isinstance(run, str | Path) else list(run)
    if not given or not all(map(str, given)):
        raise ConfigError("run: give the folder or file of a finished run, or a list of them")
    return [one for each in given for one in _runs_of(str(each))]


def _runs_of(run: str) -> list[str]:
    folder = local_path(run)
    jobs = find_job_dirs(folder) if is_sweep_dir(folder) else []
    for job in jobs:
        if (status := job_status(job)) != "finished":
            raise CheckpointError(
                f"{job}: {status}; an ensemble of the sweep {run} needs all of its runs. Name "
                "those that you want: [<run dir>,<run dir>]"
            )
    return [str(job) for job in jobs] or [run]
