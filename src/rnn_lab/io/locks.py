"""Lock files: one process at a time in a folder or at a file, and the name of that process.

The system releases the lock of a process that dies, however it dies. The file that it leaves
behind is not locked and is in nobody's way.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rnn_lab.errors import UserError
from rnn_lab.io.atomic import translating_os_errors, write_error

_TIMEOUT = 0.2  # seconds; longer than the look of another process at the lock takes


class LockHeldError(UserError):
    """Another process holds the lock."""


def acquire(path: Path, what: str, *, wait: bool = False) -> FileLock:
    """Acquire the lock file `path` and return the lock, to be kept until it is released.

    This process may hold the lock already. With `wait`, another process may hold it for any time.

    Raises:
        LockHeldError: another process holds it, and `wait` is False. The message begins with `what`
            and names that process.
        WriteError: the file or its folder cannot be written.
    """
    with translating_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(-1 if wait else _TIMEOUT)
    except Timeout:
        raise LockHeldError(
            f"{what}: locked by {lock_owner(path)}; wait for it to finish, or choose another place"
        ) from None
    except OSError as error:
        raise write_error(error, path) from error
    path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    return lock


@contextmanager
def locked(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` within the context, and delete it at the end.

    Raises:
        UserError: as `acquire`.
    """
    lock = acquire(path, what, wait=wait)
    try:
        yield
    finally:
        # Deleted while held: a process that waits for it sees that the lock guards no name.
        path.unlink(missing_ok=True)
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file `path`; needs no right to write."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that two processes that look at once do not take each other for the owner.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)  # which releases the lock
    return False


def lock_owner(path: Path) -> str:
    """Return "process 123 on host" for the owner of a lock file, as far as the file tells."""
    try:
        pid, host = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "another process"
    return f"process {pid} on {host}"
