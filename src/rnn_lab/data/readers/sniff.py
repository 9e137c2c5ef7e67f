"""Infer the delimiter and the quotes of a table from its first rows.

`csv.Sniffer` counts characters and is wrong for texts, which contain commas and quotes. Here every
candidate splits the rows as it would when they are read, and the one that gives nearly all rows the
same number of columns wins.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from rnn_lab.data.readers.columns import DEFAULT_LABEL_COLUMNS, DEFAULT_TEXT_COLUMNS
from rnn_lab.data.readers.tables import Dialect, TableRow, table_rows

Lines = Callable[[], Iterator[tuple[int, str]]]  # the first lines of a file, from the start

DELIMITERS = (",", "\t", ";", "|", "^", "~")
QUOTES = ('"', "'")
_ROWS = 200
_CONSISTENT = 0.8  # share of the rows with the same number of columns; fewer is no table
_BETTER = 0.02  # difference of that share between two kinds of quotes
# Quotes are plain characters if reading them as quotes breaks rows, and reading them plainly none.
_BROKEN, _WHOLE, _DECISIVE_ROWS = 0.1, 0.98, 20
_SEPARATOR_LINE = re.compile(r'"?sep\s*=\s*(.)"?\s*', re.IGNORECASE)  # Excel's first line


@dataclass(frozen=True)
class _Measured:
    """What a dialect makes of the first rows."""

    dialect: Dialect
    first: Sequence[str] = ()
    rows: int = 0
    width: int = 0  # number of columns of most rows
    consistency: float = 0.0  # share of those rows
    fragments: int = 0  # fields that look like a part of one: see _is_fragment


def separator_line(lines: Lines) -> str | None:
    """Return the delimiter that a first line such as `sep=;` names; None: there is no such line."""
    first = next(lines(), (1, ""))[1]
    found = _SEPARATOR_LINE.fullmatch(first)
    return found[1] if found else None


def sniff_dialect(
    lines: Lines,
    default: Dialect,
    *,
    delimiter: str | None = None,
    quotechar: str | None = None,
    names: Collection[str] = (),
    labelled: bool = True,
) -> Dialect:
    """Return the dialect of a table.

    Args:
        lines: the first lines of the file.
        default: where no candidate fits.
        delimiter: the user's; None: inferred.
        quotechar: the user's, "" for a file without quotes; None: inferred.
        names: columns that the user names, in the header of the file if it has one.
        labelled: whether a header names a label.
    """
    if delimiter is None:
        delimiter = _sniff_delimiter(lines, default, quotechar, set(names), labelled)
    if quotechar == "":
        return Dialect(delimiter, None)
    quotes = QUOTES if quotechar is None else (quotechar,)
    return _sniff_quotes(lines, delimiter, quotes)


def consistent_width(lines: Lines, dialect: Dialect) -> tuple[int, float]:
    """Return the number of columns of most rows, and the share of those rows."""
    measured = _measure(lines, dialect)
    return measured.width, measured.consistency


def _sniff_delimiter(
    lines: Lines, default: Dialect, quotechar: str | None, names: set[str], labelled: bool
) -> str:
    quotes: tuple[str | None, ...] = QUOTES if quotechar is None else (quotechar or None,)
    order = [default.delimiter, *(d for d in DELIMITERS if d != default.delimiter)]
    found: list[_Measured] = []
    for delimiter in order:
        measured = [
            _measure(lines, Dialect(delimiter, quote, multiline=delimiter != "\t"))
            for quote in quotes
        ]
        if _is_header(measured[0].first, names, labelled, alone=delimiter == default.delimiter):
            return delimiter
        found += measured
    # The first of equals.
    best = max(found, key=lambda m: (m.consistency if m.width > 1 else 0.0, -m.fragments))
    if best.width > 1 and best.consistency >= _CONSISTENT:
        return best.dialect.delimiter
    return default.delimiter


def _is_header(first: Sequence[str], names: set[str], labelled: bool, *, alone: bool) -> bool:
    """Return whether a row has the names of columns, of which a single one needs `alone`."""
    cells = [cell.strip() for cell in first]
    if names and names <= set(cells) and (alone or len(cells) > 1):
        return True
    lower = {cell.lower() for cell in cells}
    is_known = bool(lower & {*DEFAULT_TEXT_COLUMNS})
    if labelled:
        return is_known and bool(lower & {*DEFAULT_LABEL_COLUMNS})
    return is_known and (alone or len(cells) > 1)


def _sniff_quotes(lines: Lines, delimiter: str, quotes: Sequence[str]) -> Dialect:
    measured = [_measure(lines, Dialect(delimiter, quote)) for quote in quotes]
    best = measured[0]
    for other in measured[1:]:
        if other.consistency >= best.consistency and _pairs(lines, other) > _pairs(lines, best):
            best = other
    if delimiter == "\t":
        # Most TSV files are written without quoting.
        single = _measure(lines, replace(best.dialect, multiline=False))
        if single.consistency >= best.consistency - _BETTER:
            best = single
    plain = _measure(lines, Dialect(delimiter, None))
    if (
        best.consistency < 1 - _BROKEN
        and plain.consistency >= _WHOLE
        and plain.width > 1
        and plain.rows >= _DECISIVE_ROWS
    ):
        return plain.dialect
    return best.dialect


def _pairs(lines: Lines, measured: _Measured) -> int:
    """Return how often a quote opens a field and closes one: an apostrophe seldom does both.

    A field that is one quote alone does neither.
    """
    quote = re.escape(measured.dialect.quotechar or "")
    delimiter = re.escape(measured.dialect.delimiter)
    opens = re.compile(f"(?:^|{delimiter}){quote}(?!{delimiter}|\r?\n?$)")
    closes = re.compile(f"(?<=[^{delimiter}]){quote}(?:{delimiter}|\r?\n?$)")
    opened = closed = 0
    for _, line in islice(lines(), _ROWS):
        opened += len(opens.findall(line))
        closed += len(closes.findall(line))
    return min(opened, closed)


def _measure(lines: Lines, dialect: Dialect) -> _Measured:
    widths: Counter[int] = Counter()
    fragments = 0
    first: TableRow | None = None
    for row in islice(table_rows(lines(), dialect), _ROWS):
        first = first or row
        widths[0 if row.fault else len(row.fields)] += 1
        fragments += sum(map(_is_fragment, row.fields))
    if first is None:
        return _Measured(dialect)
    # Of equally many, the wider: a row that is not split has one column with every delimiter.
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
    rows = widths.total()
    consistency = count / rows if width else 0.0
    return _Measured(dialect, first.fields, rows, width, consistency, fragments)


def _is_fragment(field: str) -> bool:
    """Return whether a field was cut out of prose or of quotes: ` and left`, `"Well`."""
    return field.startswith(" ") or (field[:1] in QUOTES) != (field[-1:] in QUOTES)
