"""The folder of one run, alone or as a job of a sweep: its name, its records and its lock."""

import contextlib
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from hydra.core.utils import get_valid_filename
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError, OutputDirConflictError, WriteError
from rnn_lab.io.atomic import atomic_write, read_text, write_json
from rnn_lab.io.locks import LockHeldError, acquire, lock_owner
from rnn_lab.runs.jobs import (
    DEFAULT_MONITOR,
    JOB_LOCK,
    MONITORED,
    JobFile,
    JobStatus,
    job_file,
    job_status,
    read_job_file,
)
from rnn_lab.runs.run_folder import CHECKPOINT_DIR, CONFIG_DIR, LAST
from rnn_lab.training.config import parse_run_config
from rnn_lab.training.spec import config_fingerprint
from rnn_lab.validation import AUTO

Records = Mapping[Path, str | None]  # the text of files; None: absent

_DIGITS = 8  # of the fingerprint in a folder's name
_HYDRA_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")


@dataclass(frozen=True)
class JobDir:
    """The folder of a run, which is a job of a sweep or the one of a command."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the job in messages."""
        return self.path.name

    @property
    def status(self) -> JobStatus:
        """The status of the job."""
        return job_status(self.path)

    @property
    def failed_at(self) -> int | None:
        """When failure.json was written, in nanoseconds; None without one."""
        return _written_at(job_file(self.path, "failure"))

    def records(self) -> Records:
        """Return the files that say which run the folder has: job.json, failure.json, .hydra."""
        own = job_file(self.path, "job"), job_file(self.path, "failure")
        found: dict[Path, str | None] = {}
        for path in (*own, *(self.path / CONFIG_DIR / name for name in _HYDRA_FILES)):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found[path] = read_text(path) if os.path.lexists(path) else None
        return found

    def read(self, file: JobFile) -> dict[str, Any]:
        """Return the content of that file; nothing where it is absent or damaged."""
        return read_job_file(self.path, file)

    def write(self, file: Literal["job", "failure"], content: dict[str, Any]) -> None:
        """Write that file, completely or not at all."""
        write_json(job_file(self.path, file), content)

    def monitored_metric(self, monitor: str) -> str:
        """Return the metric that trainer.monitor=`monitor` names; of `auto`, the run's choice."""
        if monitor != AUTO:
            return monitor
        file: JobFile = "pruned" if self.status == "pruned" else "result"
        return str(self.read(file).get(MONITORED) or DEFAULT_MONITOR)

    def value(self, monitor: str) -> float:
        """Return the metric that a sweeper optimizes; NaN where there is none."""
        status = self.status
        if status == "finished":
            found = self.read("result").get(self.monitored_metric(monitor))
        else:
            found = self.read("pruned").get("value") if status == "pruned" else None
        return float(found) if isinstance(found, int | float) else math.nan

    def acquire(self, *, wait: bool = False) -> FileLock:
        """Lock the job for as long as the lock is kept and not released.

        Raises:
            LockHeldError: another process has locked it, and `wait` is False.
        """
        return acquire(self.path / JOB_LOCK, f"hydra.run.dir={self.path}", wait=wait)

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Lock the job inside, as `acquire` does; yields whether another process had locked it."""
        waited = False
        try:
            lock = self.acquire()
        except LockHeldError:
            if not wait:
                raise
            waited, owner = True, lock_owner(self.path / JOB_LOCK)
            print(f"{self.name}: locked by {owner}; waiting for it to finish", flush=True)
            lock = self.acquire(wait=True)
        try:
            yield waited
        finally:
            lock.release()

    def unfinished_fingerprint(self) -> str | None:
        """Return the fingerprint of the run that could be resumed here; None without one."""
        last = self.path / CHECKPOINT_DIR / LAST
        return self.read("job").get("fingerprint") if last.exists() else None

    def start(self, *, fingerprint: str, overrides: list[str], trial: int | None) -> None:
        """Write job.json and remove an earlier failure.

        A run with a smaller batch that is resumed, or continued with more epochs, keeps its
        batch_halvings.
        """
        resumes = self.status == "finished" or self.unfinished_fingerprint() == fingerprint
        job = {
            "fingerprint": fingerprint,
            "overrides": overrides,
            "trial": trial,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "attempts": 0,
            "batch_halvings": self.read("job").get("batch_halvings", 0) if resumes else 0,
        }
        self.write("job", job)
        job_file(self.path, "failure").unlink(missing_ok=True)

    @contextmanager
    def started(
        self, before: Records, *, fingerprint: str, overrides: list[str], trial: int | None
    ) -> Iterator[None]:
        """Start the job inside, as `start` does.

        An error that leaves the checkpoint and the result of a run with other options as they were
        restores the records of that run, which are those `before`.
        """
        other, written = self.read("job").get("fingerprint") != fingerprint, self._run_written_at()
        try:
            self.start(fingerprint=fingerprint, overrides=overrides, trial=trial)
            yield
        except BaseException as error:
            is_kept = any(written) and written == self._run_written_at()
            if isinstance(error, OutputDirConflictError) or (other and is_kept):
                _restore(before)
            raise

    def _run_written_at(self) -> tuple[int | None, ...]:
        files = (job_file(self.path, "result"), self.path / CHECKPOINT_DIR / LAST)
        return tuple(map(_written_at, files))

    def record_unstarted(self, overrides: Sequence[str]) -> None:
        """Write job.json of a job whose process ended before it did, so that reports list it."""
        if not self.read("job"):
            with contextlib.suppress(WriteError):  # the caller prints what happened
                self.write("job", {"overrides": [*overrides]})

    def update(self, **values: int) -> None:
        """Update values in job.json."""
        self.write("job", self.read("job") | values)


def _written_at(path: Path) -> int | None:
    """Return when a file was written, in nanoseconds; None: there is none."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return None


def _restore(records: Records) -> None:
    for path, text in records.items():
        with contextlib.suppress(OSError, WriteError):  # the caller raises what happened
            if text is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_write(path, newline="") as file:
                file.write(text)


def job_dir_name(config: DictConfig) -> str:
    """Return the name of a job's folder: `gru_seed1_3f9a2b1c`.

    The same composed config has the same folder, whatever command composed it: a sweep that was
    stopped resumes, and one that grows trains only what is new.
    """
    options = resolve_options(config)
    model = options.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    fingerprint = job_fingerprint(options)[:_DIGITS]
    return get_valid_filename(f"{name}_seed{options.get('seed')}_{fingerprint}")


def job_fingerprint(options: Mapping[str, Any]) -> str:
    """Return the fingerprint of a composed config, also of an impossible one.

    That has a folder too, in which its job fails with the reason.
    """
    try:
        return config_fingerprint(parse_run_config(options))
    except ConfigError:
        return config_fingerprint(options)


def resolve_options(config: DictConfig) -> dict[str, Any]:
    """Return the options of `config` without Hydra's; what cannot be resolved, as it is written."""
    options: dict[str, Any] = {}
    for key in map(str, config):
        if key == "hydra":
            continue
        try:
            value = config[key]
            is_group = isinstance(value, DictConfig | ListConfig)
            options[key] = OmegaConf.to_container(value, resolve=True) if is_group else value
        except OmegaConfBaseException:
            options[key] = str(OmegaConf.to_container(config)[key])  # type: ignore[call-overload, index]
    return options
