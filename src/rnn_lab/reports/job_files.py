"""Job folders of a sweep: which folders are jobs, their status and their JSON files.

The sweep commands write these files and decide by them what is left to do; reports show them. Both
use the functions here, so that they never disagree on the status of a job.
"""

from pathlib import Path
from typing import Any, Literal

from rnn_lab.errors import CheckpointError
from rnn_lab.io.locks import is_locked
from rnn_lab.reports.run_files import CONFIG_DIR, read_object

JobStatus = Literal["finished", "pruned", "failed", "running", "unfinished"]
JobFile = Literal["job", "result", "pruned", "failure"]

JOB_LOCK = "job.lock"  # held by the process that runs the job
_STATUS_FILES: tuple[tuple[JobFile, JobStatus], ...] = (
    ("result", "finished"),
    ("pruned", "pruned"),
    ("failure", "failed"),
)
# Any of these makes a folder a job.
_JOB_FILES = (
    CONFIG_DIR, "job.json", "result.json", "pruned.json", "failure.json", "metrics.csv",
    "checkpoints", "train.log",
)  # fmt: skip
_MAX_DEPTH = 4  # of job folders below the sweep


def job_file(folder: Path, file: JobFile) -> Path:
    """Return the path of a job's JSON file."""
    return folder / f"{file}.json"


def job_status(folder: Path) -> JobStatus:
    """Return the status of the job in `folder`, from the files there and its lock.

    A result outranks a `pruned.json` or `failure.json` that an earlier attempt left. "running" is
    a job without any of them whose lock is held; "unfinished" one whose process is gone.
    """
    for file, status in _STATUS_FILES:
        if job_file(folder, file).exists():
            return status
    return "running" if is_locked(folder / JOB_LOCK) else "unfinished"


def read_job_file(folder: Path, file: JobFile) -> dict[str, Any]:
    """Return the content of a job's JSON file, {} where it is missing or damaged."""
    try:
        return read_object(job_file(folder, file))
    except CheckpointError:
        return {}


def is_job_dir(folder: Path) -> bool:
    """Return whether a run started in `folder`."""
    return any((folder / name).exists() for name in _JOB_FILES)


def find_job_dirs(sweep: Path) -> list[Path]:
    """Return the job folders below `sweep`, sorted by path; [] if it does not exist.

    Links are not followed.
    A slash in an override nests a job folder: `data.train_path=texts/a.csv`.
    """
    return sorted(_find_job_dirs(sweep, _MAX_DEPTH)) if sweep.is_dir() else []


def _find_job_dirs(folder: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    for path in folder.iterdir() if depth else []:
        if path.is_dir() and not path.is_symlink():
            found += [path] if is_job_dir(path) else _find_job_dirs(path, depth - 1)
    return found
