"""A job's folder: what stands in it, and what that says of the job."""

import json
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from rnn_lab.io.atomic import read_text, write_json
from rnn_lab.io.locks import LockHeldError, acquire, is_locked, lock_owner, write_owner

Status = Literal["finished", "pruned", "failed", "running", "unfinished"]
_LOCK = "job.lock"


@dataclass(frozen=True)
class JobDir:
    """One job of a sweep, or the one run of a command."""

    path: Path

    @property
    def name(self) -> str:
        """What people call the job."""
        return self.path.name

    @property
    def status(self) -> Status:
        """What has become of the job so far."""
        for file, status in (("result", "finished"), ("pruned", "pruned"), ("failure", "failed")):
            if (self.path / f"{file}.json").exists():
                return status  # type: ignore[return-value]
        return "running" if is_locked(self.path / _LOCK) else "unfinished"

    @property
    def failed_at(self) -> int | None:
        """When the failure was written down, in nanoseconds; None where there is none."""
        try:
            return (self.path / "failure.json").stat().st_mtime_ns
        except OSError:
            return None

    def read(self, file: Literal["job", "result", "pruned", "failure"]) -> dict[str, Any]:
        """Return what stands in that file; nothing where it is absent or damaged."""
        try:
            content = json.loads(read_text(self.path / f"{file}.json"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, file: Literal["job", "failure"], content: dict[str, Any]) -> None:
        """Write that file, whole or not at all."""
        write_json(self.path / f"{file}.json", content)

    def value(self, monitor: str) -> float:
        """Return the figure that a sweeper goes by; NaN where there is none."""
        status = self.status
        if status == "finished":
            found = self.read("result").get(monitor)
        else:
            found = self.read("pruned").get("value") if status == "pruned" else None
        return float(found) if isinstance(found, int | float) else math.nan

    def acquire(self) -> FileLock:
        """Keep other processes off the job for as long as the lock is kept and not released.

        Raises:
            LockHeldError: another is at it.
        """
        return acquire(self.path / _LOCK, f"hydra.run.dir={self.path}")

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Keep other processes off the job inside; yields whether one had to be waited for.

        Raises:
            LockHeldError: another is at it, and not to be waited for.
        """
        waited = False
        try:
            lock = self.acquire()
        except LockHeldError:
            if not wait:
                raise
            waited, path = True, self.path / _LOCK
            print(f"{self.name}: {lock_owner(path)} is at this job; waiting for it", flush=True)
            lock = FileLock(path, is_singleton=True)
            lock.acquire()
            write_owner(path)
        try:
            yield waited
        finally:
            lock.release()

    def has_other_unfinished_run(self, fingerprint: str) -> bool:
        """Whether the half-done run that lies here is not the one of that fingerprint."""
        begun = self.read("job").get("fingerprint")
        return begun not in (None, fingerprint) and self._last_checkpoint.exists()

    def begin(self, *, fingerprint: str, overrides: list[str], trial: int | None) -> None:
        """Write job.json and forget an earlier failure.

        A half-done attempt at a smaller batch is one to go on with: its batch_halvings stay.
        """
        before = self.read("job")
        goes_on = before.get("fingerprint") == fingerprint and self._last_checkpoint.exists()
        job = {
            "fingerprint": fingerprint,
            "overrides": overrides,
            "trial": trial,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "attempts": 0,
            "batch_halvings": before.get("batch_halvings", 0) if goes_on else 0,
        }
        self.write("job", job)
        (self.path / "failure.json").unlink(missing_ok=True)

    def note(self, **facts: int) -> None:
        """Add to job.json."""
        self.write("job", self.read("job") | facts)

    def discard_checkpoints(self) -> None:
        """Leave nothing to go on from."""
        for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "rollbacks.json"):
            (self.path / name).unlink(missing_ok=True)

    @property
    def _last_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"


def job_dirs(sweep: Path) -> list[JobDir]:
    """Return the jobs of the sweep in that folder, by name, also those not begun by us."""
    signs = (("job.json", 1), ("result.json", 1), ("config/overrides.yaml", 2))
    found = {path.parents[up - 1] for file, up in signs for path in sweep.rglob(file)}
    return [JobDir(path) for path in sorted(found)]
