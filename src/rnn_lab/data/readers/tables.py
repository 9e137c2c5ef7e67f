"""Lines -> rows of a table. A malformed row does not affect other rows."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from rnn_lab.data.readers.lines import MAX_CHARACTERS

_CHECKED_LINES = 20  # lines within a row that are checked for being rows themselves


@dataclass(frozen=True)
class Dialect:
    """How the rows of a table are written."""

    delimiter: str = ","
    quotechar: str | None = '"'  # None: quotes are plain characters
    multiline: bool = True  # False: a row is one line, and unbalanced quotes are plain characters

    def csv_options(self) -> dict[str, Any]:
        """Return the arguments of the csv module."""
        if self.quotechar is None:
            return {"delimiter": self.delimiter, "quoting": csv.QUOTE_NONE, "strict": True}
        return {"delimiter": self.delimiter, "quotechar": self.quotechar, "strict": True}


DEFAULT_DIALECT = Dialect()
TSV_DIALECT = Dialect("\t", multiline=False)


class TableRow(NamedTuple):
    """The fields of a row, and the numbers of its first and last line."""

    line: int
    last_line: int
    fields: list[str]
    fault: str = ""  # why there are no fields


def table_rows(lines: Iterator[tuple[int, str]], dialect: Dialect) -> Iterator[TableRow]:
    """Split the lines of a table into rows. Blank lines between rows are skipped."""
    return csv_rows(lines, dialect) if dialect.multiline else line_rows(lines, dialect)


def csv_rows(lines: Iterator[tuple[int, str]], dialect: Dialect) -> Iterator[TableRow]:
    """Split CSV rows; after a row with broken quotes, continue on the line after its first.

    Otherwise a stray quote would swallow every row up to the next quote. If the next quote happens
    to close it, the number of columns is wrong: such a row counts as broken if the lines within it
    are rows by themselves. No line is split more than twice because of a quote above it, since the
    swallowed lines contain no quote that could swallow all of them again.
    """
    csv.field_size_limit(MAX_CHARACTERS)
    retry: deque[tuple[int, str]] = deque()
    current: list[tuple[int, str]] = []
    width = 0
    options = dialect.csv_options()

    def feed() -> Iterator[str]:
        characters = 0  # of this row: `current` is cleared for each
        while line := retry.popleft() if retry else next(lines, None):
            characters = len(line[1]) + (characters if current else 0)
            current.append(line)
            if characters > MAX_CHARACTERS:
                raise csv.Error(f"row longer than {MAX_CHARACTERS:,} characters")
            yield line[1]

    reader = csv.reader(feed(), **options)
    while True:
        current.clear()
        fault, row = "", []
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"broken quotes: {error}"
            if len(current) == 1 and len(current[0][1]) > MAX_CHARACTERS:
                fault = str(error)
        if not row and not fault:
            continue
        first, last = current[0][0], current[-1][0]
        width = width or len(row)
        within = [line for _, line in current[1:-1][:_CHECKED_LINES]]
        if len(row) != width and within and all(_width(line, dialect) == width for line in within):
            fault = fault or f"broken quotes: they join lines {first} to {last} into one row"
        yield TableRow(first, last, row, fault)
        if fault:
            retry.extendleft(reversed(current[1:]))
            reader = csv.reader(feed(), **options)


def _width(line: str, dialect: Dialect) -> int:
    """Return the number of columns of a line of CSV."""
    with suppress(csv.Error, StopIteration):
        return len(next(csv.reader([line], **dialect.csv_options())))
    return 0


def line_rows(lines: Iterable[tuple[int, str]], dialect: Dialect) -> Iterator[TableRow]:
    """Split rows of one line each: a field contains neither delimiters nor line breaks.

    Balanced quotes around a field are removed. Unbalanced ones are plain characters, because many
    TSV files are written without quoting.
    """
    csv.field_size_limit(MAX_CHARACTERS)
    delimiter, quotechar, options = dialect.delimiter, dialect.quotechar, dialect.csv_options()
    for number, line in lines:
        if len(line) > MAX_CHARACTERS:
            yield TableRow(number, number, [], f"row longer than {MAX_CHARACTERS:,} characters")
            continue
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        row = bare.split(delimiter)
        if quotechar is not None and quotechar in bare:
            with suppress(csv.Error):
                row = next(csv.reader([bare], **options))
        yield TableRow(number, number, row)
