"""Atomic writes: a file is either whole or absent, and a refused write is one clear line."""

import contextlib
import errno
import io
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rnn_lab.errors import UserError, WriteError

# Errors that are not a fault of the program, and what the user can do about each.
_WHAT_TO_DO = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EFBIG: "the system limits the size of a file (ulimit -f)",
    errno.EROFS: "choose a folder that is not read-only",
    errno.EACCES: "choose another folder, or get permission to write there",
    errno.EPERM: "choose another folder, or get permission to write there",
    errno.ENOTDIR: "choose another folder",
    errno.ELOOP: "it is a symbolic link, which is not followed",
    errno.EIO: "check the disk",
    errno.ENOENT: "its folder was deleted or moved in the meantime",
}

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def write_error(error: OSError, path: Path | str, *, what: str = "cannot be written") -> WriteError:
    """Return an error of one line: why `path` cannot be written, and what to do."""
    advice = _WHAT_TO_DO.get(error.errno or 0)
    reason = f"{path}: {what}: {error.strerror or error}"
    return WriteError(f"{reason}; {advice}" if advice else reason)


def find_os_error(error: BaseException) -> OSError | None:
    """Return the system's error behind `error`: itself, its cause or its context.

    A library that writes may raise another error in its place. None: it is a fault of the program.
    """
    if isinstance(error, OSError) and error.errno in _WHAT_TO_DO:
        return error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def os_error_line(error: BaseException, output_dir: Path) -> str | None:
    """Return what to print for an error that the system is behind; None: there is none.

    It names the file, or else the folder that the program writes to.
    """
    if (refused := find_os_error(error)) is None:
        return None
    if (name := refused.filename2 or refused.filename) is None:
        return str(write_error(refused, output_dir))
    return str(write_error(refused, Path(os.fsdecode(name)).absolute(), what="cannot be used"))


@contextmanager
def translating_os_errors(path: Path) -> Iterator[None]:
    """Raise a WriteError about `path` where the system refuses a write within the context.

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


def check_writable(folder: Path, option: str) -> None:
    """Create `folder`, and raise a WriteError, which names `option`, if no file can be made there.

    Raises:
        WriteError: says why.
    """
    try:
        with translating_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except WriteError as error:
        raise WriteError(f"{option}={error}") from error


MAX_TEXT_BYTES = 2**30  # predictions of ten million texts


@contextmanager
def _replacing(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """Open a temporary file that replaces `path` when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with translating_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open(mode, **options) as file:
                yield file
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open `path` for writing under a temporary name, and rename it when complete.

    An error or a kill in between leaves an earlier file at `path` unchanged. A device or pipe is
    written to directly. A symbolic link is replaced and its target is left alone: in an untrusted
    folder it could lead to any file of the user's. Text is UTF-8; a lone surrogate, which UTF-8
    cannot encode, is written as the escape that JSON reads back.

    Raises:
        WriteError: the file cannot be written; says why.
    """
    path = path.absolute()
    options: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": newline}
    # Unlike Path's methods, these return False where access is denied: opening it then says why.
    link, file, there = (look(path) for look in (os.path.islink, os.path.isfile, os.path.exists))
    if link or file or not there:
        with _replacing(path, "w", **options) as opened:
            yield opened
    else:
        with translating_os_errors(path), path.open("w", **options) as opened:
            yield opened


@contextmanager
def atomic_write_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes as `atomic_write` does, flushed to the disk before the rename.

    Raises:
        WriteError: the file cannot be written; says why.
    """
    with _replacing(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` as `atomic_write` does.

    A number that is not finite (the AUROC of a split with one class) becomes null, because JSON
    has no NaN.
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }
    with atomic_write(path) as file:
        json.dump(finite, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


@contextmanager
def open_untrusted(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open an untrusted file for reading.

    Raises:
        OSError: it cannot be read, is not a regular file (reading a pipe would block, and a device
            has no end), or is larger than `max_bytes`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe must not block
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes / 2**30:g} GiB", str(path))
        yield file


def read_text(path: Path) -> str:
    """Return the text of a file in a run's or sweep's folder, which is untrusted.

    Raises:
        OSError: see `open_untrusted`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_untrusted(path, MAX_TEXT_BYTES) as file, io.TextIOWrapper(file, "utf-8") as text:
        return text.read()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file in a run's or sweep's folder, which is untrusted.

    None: the file is missing, cannot be read as `read_text` does, or contains something else.
    """
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
