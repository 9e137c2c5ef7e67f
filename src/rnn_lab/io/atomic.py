"""Files that are either whole or absent."""

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rnn_lab.errors import UserError, WriteError

# What is no fault of the program, and what the user can do about it.
_WHAT_TO_DO = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "the system limits the size of a file (ulimit -f)",
    errno.EROFS: "choose a place that is not read-only",
    errno.EACCES: "choose another place, or get the right to it",
    errno.EPERM: "choose another place, or get the right to it",
    errno.ENOTDIR: "choose another place",
    errno.ELOOP: "it is a link, which is not followed",
    errno.EIO: "see to the disk",
    errno.ENOENT: "its folder was deleted or moved meanwhile",
}

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def write_error(error: OSError, path: Path | str, *, what: str = "cannot be written") -> WriteError:
    """Say in one line why `path` cannot be written, and what to do."""
    advice = _WHAT_TO_DO.get(error.errno or 0)
    reason = f"{path}: {what}: {error.strerror or error}"
    return WriteError(f"{reason}; {advice}" if advice else reason)


def find_os_error(error: BaseException) -> OSError | None:
    """Return the error by which the system refused a file: `error` itself, or what it came of.

    A library that writes may raise another in its place. None: it is a fault of ours.
    """
    if isinstance(error, OSError) and error.errno in _WHAT_TO_DO:
        return error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def translating_os_errors(path: Path) -> Iterator[None]:
    """Tell of the file `path` where the system refuses to have it written inside.

    Raises:
        WriteError: says why, and what to do.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except Exception as error:
        refused = find_os_error(error) or (error if isinstance(error, OSError) else None)
        if refused is None:
            raise
        raise write_error(refused, path) from error


LARGEST_TEXT = 2**30  # bytes; predictions of ten million reviews


@contextmanager
def atomic_write(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open `path` for writing under a temporary name, which it loses when complete.

    An error or a kill on the way leaves untouched what stood at `path` before. A device or pipe
    is written to as it is. A link is replaced, and what it leads to is left alone: in a folder that
    a stranger made it could lead to any file of the user's. Text is UTF-8; a lone surrogate, which
    UTF-8 cannot hold, is written as the escape that JSON reads back.

    Raises:
        WriteError: the file cannot be written; says why.
    """
    path = path.absolute()
    # Unlike Path's, these take what cannot be looked at for missing: opening it then says why.
    link, file, there = (look(path) for look in (os.path.islink, os.path.isfile, os.path.exists))
    replaced = link or file or not there
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial") if replaced else path
    try:
        with translating_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            options: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": newline}
            with partial.open("w", **options) as opened:
                yield opened
            if replaced:
                partial.replace(path)
    finally:
        if replaced:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` as `atomic_write` does.

    A figure that cannot be had (the AUROC of a split with one class) is null: JSON has no NaN.
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }
    with atomic_write(path) as file:
        json.dump(finite, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_text(path: Path) -> str:
    """Return the text of a file of a run's or a sweep's folder, which a stranger may have made.

    Raises:
        OSError: it cannot be read, is no regular file (a pipe would be waited for, and a device has
            no end), or larger than any that is written there.
        UnicodeDecodeError: it is not UTF-8.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or a pipe is waited for here
    with os.fdopen(handle, encoding="utf-8") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > LARGEST_TEXT:
            raise OSError(errno.EFBIG, "too large to be what a run leaves", str(path))
        return file.read()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`; looking needs no right to write."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that two that look at once do not take one another for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)  # which gives the lock back
    return False


@contextmanager
def atomic_write_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes as `atomic_write` does; it is on the disk before it is renamed.

    Raises:
        WriteError: the file cannot be written; says why.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with translating_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
