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

from src.errors import UserError

LARGEST_TEXT = 2**30  # bytes; predictions of ten million reviews


@contextmanager
def whole_file(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open `path` for writing under a temporary name, which it loses when complete.

    An error or a kill on the way leaves untouched what stood at `path` before. A device or pipe
    is written to as it is. Text is UTF-8; a lone surrogate, which UTF-8 cannot hold, is written as
    the escape that JSON reads back.

    Raises:
        UserError: the file cannot be written; says why.
    """
    path = path.resolve()
    replaced = os.path.isfile(path) or not os.path.exists(path)  # noqa: PTH110, PTH113
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial") if replaced else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline=newline) as f:
            yield f
        if replaced:
            partial.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        if replaced:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` as `whole_file` does.

    A figure that cannot be had (the AUROC of a split with one class) is null: JSON has no NaN.
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }
    with whole_file(path) as file:
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
def whole_binary_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes as `whole_file` does; it is on the disk before it is renamed.

    Raises:
        UserError: the file cannot be written; says why.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
