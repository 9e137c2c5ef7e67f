"""Read a text file and a CSV file of a run folder, and write CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import read_text


def read_run_file(path: Path) -> str:
    """Return the text of a file; raise a CheckpointError where there is none."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        hint = "is this the folder of a finished run?"
        raise CheckpointError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not text.strip():
        raise CheckpointError(f"{path}: empty")
    return text


def csv_writer(file: TextIO, delimiter: str = ",") -> Any:
    """Return a csv.writer whose rows end in a line feed.

    Before Python 3.13, csv quotes line ends only if they are in `lineterminator`, and a lone
    carriage return that is not quoted ends a row for every reader.
    """
    return csv.writer(_LineFeeds(file), delimiter=delimiter, lineterminator="\r\n")


class _LineFeeds:
    """A file for rows that end in CRLF, each of which is one call of `write`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


class CsvTable:
    """The columns of a CSV file with at least one row."""

    def __init__(self, path: Path, required: Sequence[str], *, being_written: bool = False) -> None:
        text = read_run_file(path)
        if being_written:
            text = text[: text.rfind("\n") + 1] or "\n"
        if not text.endswith("\n"):
            raise CheckpointError(f"{path}: truncated in its last line")
        # Of top_losses.csv, a cell can be a long text. The file is in memory already.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        reader = csv.reader(io.StringIO(text))
        header = next(reader)
        rows = [(reader.line_num, row) for row in reader]
        if not rows:
            raise CheckpointError(f"{path}: has no rows")
        for line, row in rows:
            if len(row) != len(header):
                raise CheckpointError(f"{path}:{line}: {len(row)} fields, expected {len(header)}")
        for name in required:
            if name not in header:
                raise CheckpointError(f"{path}: has no column {name!r}")
        self.path, self.lines = path, [line for line, _ in rows]
        cells = zip(*(row for _, row in rows), strict=True)
        self.columns = dict(zip(header, cells, strict=True))

    def numbers(self, name: str, *, empty: str = "") -> np.ndarray:
        """Return a column as float64 [rows], an empty cell as the number `empty`, if given."""
        values = []
        for row, cell in enumerate(self.columns[name]):
            try:
                values.append(float(cell or empty))
            except ValueError:
                raise self.error(row, f"{cell!r} is not a number") from None
        return np.array(values)

    def error(self, row: int, reason: str) -> CheckpointError:
        """Return the error of a row, an index, that names its line."""
        return CheckpointError(f"{self.path}:{self.lines[row]}: {reason}")
