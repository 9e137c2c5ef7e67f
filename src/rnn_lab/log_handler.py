"""train.log: a run does not end, nor say a thing twice, because a line of it cannot be written."""

import logging
import os
import sys
from io import TextIOWrapper

from rnn_lab.io.atomic import write_error


class FaultTolerantFileHandler(logging.FileHandler):
    """logging.FileHandler that tells once where the system refuses the file, and goes on."""

    def __init__(self, filename: str) -> None:
        self._told = False
        try:
            super().__init__(filename, encoding="utf-8")
        except OSError as error:
            super().__init__(filename, encoding="utf-8", delay=True)
            self._tell(error)

    def _open(self) -> TextIOWrapper:
        # A folder may be a stranger's, and its train.log a link to a file of the user's.
        no_link = getattr(os, "O_NOFOLLOW", 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | no_link
        return os.fdopen(os.open(self.baseFilename, flags, 0o666), "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, where that is possible."""
        try:
            super().emit(record)
        except OSError as error:  # of opening the file
            self._tell(error)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Tell of the system's errors; any other is shown as logging does."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._tell(error)
        else:
            super().handleError(record)

    def flush(self) -> None:
        """Hydra calls this at the end of each job."""
        try:
            super().flush()
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        """What is still held back is lost with the file."""
        try:
            super().close()
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            said = write_error(error, self.baseFilename, what="this log cannot be written")
            print(f"{said}; it goes on without", file=sys.stderr, flush=True)
