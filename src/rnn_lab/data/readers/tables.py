"""Lines -> rows of CSV and TSV; a row that is broken costs no other."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from rnn_lab.data.readers.lines import MAX_CHARACTERS

_LOOKED_AT = 20  # lines of a row that is too long, to tell whether they are rows


class TableRow(NamedTuple):
    """The fields of a row, and the first and the last of its lines."""

    line: int
    last_line: int
    fields: list[str]
    fault: str = ""  # why there are no fields


def csv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[TableRow]:
    """Split CSV rows; after one with broken quotes, start again on the line below its first.

    A stray quote would otherwise swallow every row up to the next quote. So would one that the next
    happens to close, which shows by the columns: such a row is broken too where the lines within
    it are rows by themselves. No line is split more than twice for a quote above it: what has been
    swallowed holds none that could swallow it all once more.
    """
    csv.field_size_limit(MAX_CHARACTERS)
    again: deque[tuple[int, str]] = deque()
    current: list[tuple[int, str]] = []
    width = 0

    def feed() -> Iterator[str]:
        characters = 0  # of this row: `current` is cleared for each
        while line := again.popleft() if again else next(lines, None):
            characters = len(line[1]) + (characters if current else 0)
            current.append(line)
            if characters > MAX_CHARACTERS:
                raise csv.Error(f"row longer than {MAX_CHARACTERS:,} characters")
            yield line[1]

    reader = csv.reader(feed(), strict=True)
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
        within = [line for _, line in current[1:-1][:_LOOKED_AT]]
        if len(row) != width and within and all(_width(line) == width for line in within):
            fault = fault or f"broken quotes: they take lines {first} to {last} for one row"
        yield TableRow(first, last, row, fault)
        if fault:
            again.extendleft(reversed(current[1:]))
            reader = csv.reader(feed(), strict=True)


def _width(line: str) -> int:
    """The columns of a line of CSV, read as a row."""
    with suppress(csv.Error, StopIteration):
        return len(next(csv.reader([line], strict=True)))
    return 0


def tsv_rows(lines: Iterable[tuple[int, str]]) -> Iterator[TableRow]:
    """Split TSV rows, one a line: a field holds neither tab nor line break.

    Quotes around a field are taken off where they are balanced, and are plain characters where
    they are not, as in the many TSV files written without any quoting.
    """
    csv.field_size_limit(MAX_CHARACTERS)
    for number, line in lines:
        if len(line) > MAX_CHARACTERS:
            yield TableRow(number, number, [], f"row longer than {MAX_CHARACTERS:,} characters")
            continue
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        row = bare.split("\t")
        if '"' in bare:
            with suppress(csv.Error):
                row = next(csv.reader([bare], delimiter="\t", strict=True))
        yield TableRow(number, number, row)
