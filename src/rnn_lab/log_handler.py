"""The handler of train.log: a log that cannot be written ends no run and is reported once."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from rnn_lab.io.atomic import write_error


class FaultTolerantFileHandler(logging.FileHandler):
    """logging.FileHandler that reports the first write error and ignores the later ones."""

    _reported = False

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True)
        with self._tolerant():
            self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        # In an untrusted folder train.log could be a link to a file of the user's.
        no_link = getattr(os, "O_NOFOLLOW", 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | no_link
        return os.fdopen(os.open(self.baseFilename, flags, 0o666), "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; report the first error of opening the file."""
        with self._tolerant():
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report the first error of the system; print any other error as logging does."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        with self._tolerant():
            raise error

    def flush(self) -> None:
        """Flush; Hydra calls this at the end of each job."""
        with self._tolerant():
            super().flush()

    def close(self) -> None:
        """Close the file; lines that are still buffered may be lost."""
        with self._tolerant():
            super().close()

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._reported:
                self._reported = True
                line = write_error(error, self.baseFilename, what="this log cannot be written")
                print(f"{line}; the run continues without it", file=sys.stderr, flush=True)
