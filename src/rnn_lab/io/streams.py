"""Standard output and standard error that end no run.

A run writes its results to files. What it prints may meet an encoding without its characters, a
reader that has closed the pipe, a full device or a terminal that is gone: hours of training are not
to end with that.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rnn_lab.io.atomic import write_error


class FaultTolerantFile(io.FileIO):
    """The descriptor of stdout or stderr without write errors; that of stdout reports the first."""

    def __init__(self, descriptor: int, *, reports: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._reports = reports

    def write(self, data: Any) -> int:
        """Write all of `data`, or drop it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # a pipe that is full and does not block
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            self._report(error)
        return size

    def _report(self, error: OSError) -> None:
        if self._reports:
            self._reports = False
            line = f"standard output: {error.strerror or error}; continues without it"
            print(line, file=sys.stderr, flush=True)


@contextmanager
def fault_tolerant_streams(*, prints_result: bool = False) -> Iterator[None]:
    """Let sys.stdout and sys.stderr raise no error inside.

    Characters that the encoding lacks are written as escapes. A stream that is not of a file
    descriptor, such as a notebook's, is left alone. With `prints_result`, stdout still raises the
    errors of the system, see `printing_results`.
    """
    _fill_descriptors()
    if prints_result:
        _escape_unencodable(sys.stdout)
    names = ["stderr"] if prints_result else ["stdout", "stderr"]
    before = {name: getattr(sys, name) for name in names}
    inside = {name: _fault_tolerant(stream, name) for name, stream in before.items()}
    vars(sys).update(inside)
    try:
        yield
    finally:
        for name, stream in inside.items():
            if stream is before[name]:
                continue
            with contextlib.suppress(ValueError):  # it has been closed
                stream.flush()
            if getattr(sys, name) is stream:  # and nobody has replaced it
                setattr(sys, name, before[name])


@contextmanager
def printing_results() -> Iterator[None]:
    """Print what a program was started for: here an error of standard output is one.

    If the reader, such as `head`, has closed the pipe, the program ends with status 0.

    Raises:
        WriteError: standard output cannot be written.
    """
    if sys.stdout is None:
        raise write_error(OSError(errno.EBADF, "is closed"), "standard output")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout once more as it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(0)
        raise write_error(error, "standard output") from error


def _escape_unencodable(stream: TextIO | None) -> None:
    if isinstance(stream, io.TextIOWrapper) and not stream.closed:
        stream.reconfigure(errors="backslashreplace")


def _fill_descriptors() -> None:
    """Open the null device as each closed one of 0, 1, 2: the next file would be opened as it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # As the lowest number that is free; for the programs that this one starts too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _fault_tolerant(stream: TextIO | None, name: str) -> Any:
    if stream is None or stream.closed:
        return Path(os.devnull).open("w", encoding="utf-8")
    binary = getattr(stream, "buffer", None)
    raw = getattr(binary, "raw", binary)
    if not isinstance(stream, io.TextIOWrapper) or isinstance(raw, FaultTolerantFile):
        return stream
    if not isinstance(raw, io.FileIO):  # in memory, or the console of Windows
        _escape_unencodable(stream)
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    file = FaultTolerantFile(raw.fileno(), reports=name == "stdout")
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
