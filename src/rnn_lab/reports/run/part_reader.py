"""Read the parts of a run one by one, so that a page without a damaged one has the others."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rnn_lab.errors import CheckpointError, whole_message

_T = TypeVar("_T")
_Default = TypeVar("_Default")


@dataclass
class PartReader:
    """Reads the parts of a run, and keeps what is wrong with them."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def read(self, part: str, reader: Callable[[], _T], default: _Default) -> _T | _Default:
        """Return what `reader` returns, or `default` if it raises; then name part and reason."""
        try:
            return reader()
        except Exception as error:  # a damaged file can fail anywhere in the readers
            reason = whole_message(error)
            if not isinstance(error, CheckpointError):
                reason = f"a value of another kind than expected ({reason})"
            reason = reason.replace(f"{self.folder}{os.sep}", "")
            self.problems.append(reason if reason.startswith(part) else f"{part}: {reason}")
            return default
