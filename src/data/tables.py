"""Lines -> rows of CSV and TSV; a row that is broken costs no other."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from src.data.lines import MAX_CHARACTERS


class TableRow(NamedTuple):
    """The fields of a row, and the first and the last of its lines."""

    line: int
    last_line: int
    fields: list[str]
    fault: str = ""  # why there are no fields


def csv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[TableRow]:
    """Split CSV rows; after one with broken quotes, start again on the line below its first.

    A stray quote would otherwise swallow every row up to the next quote. No line is split more
    than twice for it: what is read again has no quote left that could swallow it all once more.
    """
    csv.field_size_limit(MAX_CHARACTERS)
    again: deque[tuple[int, str]] = deque()
    current: list[tuple[int, str]] = []

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
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first, is_one_line = current[0][0], len(current) == 1
            too_long = is_one_line and len(current[0][1]) > MAX_CHARACTERS
            yield TableRow(first, first, [], f"{error}" if too_long else f"broken quotes: {error}")
            again.extendleft(reversed(current[1:]))
            reader = csv.reader(feed(), strict=True)
            continue
        if row:
            yield TableRow(current[0][0], current[-1][0], row)


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
