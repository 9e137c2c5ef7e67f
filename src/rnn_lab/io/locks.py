"""Lock files: one process at a time at a folder or file, and which one that is.

The system releases the lock of a process that dies, however it dies: what is left is a file that
nobody holds, and is in nobody's way.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rnn_lab.errors import UserError
from rnn_lab.io.atomic import write_error

_LOOK = 0.2  # seconds; longer than another's look at the lock takes


class LockHeldError(UserError):
    """Another process is at it."""


def acquire(path: Path, what: str) -> FileLock:
    """Take the lock file `path`, which this process may have already, for as long as what is
    returned is kept and not released.

    Raises:
        LockHeldError: another process holds it; the message begins with `what` and names that one.
    """
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=_LOOK)
    except Timeout:
        raise LockHeldError(
            f"{what}: {lock_owner(path)} is at it; wait for its end, or choose another place"
        ) from None
    except OSError as error:
        raise write_error(error, path) from error
    write_owner(path)
    return lock


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` inside, and leave none behind.

    Raises:
        LockHeldError: as `acquire`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path.parent) from error
    lock = acquire(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while held: who waits for it sees that it guards no name
        lock.release()


def write_owner(path: Path) -> None:
    """Write into the lock file, which this process holds, who holds it."""
    path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")


def lock_owner(path: Path) -> str:
    """Name who holds the lock file, as far as it says."""
    try:
        pid, host = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "another process"
    return f"process {pid} on {host}"
