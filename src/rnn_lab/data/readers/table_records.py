"""CSV and TSV -> records: dialect, header and columns are inferred from the first rows."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rnn_lab.data.readers.columns import (
    ColumnStats,
    ResolvedColumns,
    UnknownColumnError,
    has_header,
    resolve_columns,
    shorten,
)
from rnn_lab.data.readers.encoding import encoding_hint, names_utf8
from rnn_lab.data.readers.labels import Label, indicated_labels
from rnn_lab.data.readers.lines import decoding_error
from rnn_lab.data.readers.reading import SAMPLE_ROWS, BadRow, Reading, Record, join_text
from rnn_lab.data.readers.sniff import separator_line, sniff_dialect
from rnn_lab.data.readers.tables import (
    DEFAULT_DIALECT,
    TSV_DIALECT,
    Dialect,
    TableRow,
    table_rows,
)
from rnn_lab.errors import DataError, listed

log = logging.getLogger(__name__)

_LISTED_CELLS = 20  # in an error message
Sample = Callable[[], Iterator[tuple[int, str]]]


def table_records(reading: Reading) -> Iterator[Record | BadRow]:
    """Yield the rows of a table.

    Labelled rows without any value, which Excel writes below a table, are left out. Unlabelled ones
    are kept: each row of an input has one in the output of predict.py.

    Raises:
        DataError: the header is broken, or no column is plainly the text (or the label).
    """
    newline = "" if reading.info.format == "csv" else "\n"
    separator = separator_line(lambda: reading.sample(newline))
    skipped = 0 if separator is None else 1

    def sample() -> Iterator[tuple[int, str]]:
        return islice(reading.sample(newline), skipped, None)

    dialect = _infer_dialect(reading, sample, separator)
    # A table with one row per line keeps a lone "\r" within a text.
    newline = "" if dialect.multiline else "\n"
    first, below = _first_rows(reading, sample, dialect)
    if first is None:
        return
    try:
        columns = _resolve(reading, first.fields, below)
    except UnknownColumnError as error:
        raise DataError(
            f"{reading.name}:{first.line}: {error}{_encoding_note(reading, first.fields)}"
        ) from None
    reading.info = replace(
        reading.info,
        dialect=dialect,
        columns=columns,
        has_label_lists=(
            columns.label_position is not None and below[columns.label_position].is_list
        ),
    )
    text, label, names = columns.text_positions, columns.label_position, _distinct(columns.names)
    group, id_ = columns.group_position, columns.id_position
    indicators, all_columns = columns.indicator_positions, reading.options.all_columns
    width, what = len(first.fields), "the header" if columns.header else "the first row"
    num_empty = 0
    with reading.lines(newline) as lines:
        for row in table_rows(islice(lines, skipped, None), dialect):
            line, last_line, fields, fault = row
            if columns.header and line == first.line:
                continue
            if fault:
                yield BadRow(line, fault)
            elif reading.labelled and _is_empty(fields):
                num_empty += 1
            elif len(fields) != width:
                where = f", over lines {line} to {last_line}" if last_line > line else ""
                yield BadRow(line, f"{len(fields)} columns where {what} has {width}{where}")
            elif columns.header and _is_again(fields, first.fields):
                yield BadRow(line, "repeats the header, as where files are joined")
            else:
                found: Label | None = None if label is None else fields[label]
                if indicators:
                    try:
                        values = [fields[position] for position in indicators]
                        found = indicated_labels(columns.indicators, values)
                    except ValueError as error:
                        yield BadRow(line, str(error))
                        continue
                yield Record(
                    line,
                    join_text([fields[position] for position in text]),
                    found,
                    None if id_ is None else fields[id_],
                    None if group is None else fields[group],
                    dict(zip(names, fields, strict=True)) if all_columns else None,
                )
    if num_empty:
        log.info("%s: %s rows without any value are left out", reading.name, f"{num_empty:,}")


def _is_empty(fields: Sequence[str]) -> bool:
    return not any(map(str.strip, fields))


def _is_again(fields: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row is the header, perhaps after a byte order mark."""
    return [fields[0].removeprefix("\ufeff"), *fields[1:]] == [*header]


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names with a number after one that occurs again, as pandas does: a, a.1."""
    found: dict[str, None] = {}
    for name in names:
        free, count = name, 0
        while free in found:
            count += 1
            free = f"{name}.{count}"
        found[free] = None
    return list(found)


def _infer_dialect(reading: Reading, sample: Sample, separator: str | None) -> Dialect:
    return sniff_dialect(
        sample,
        TSV_DIALECT if reading.info.format == "tsv" else DEFAULT_DIALECT,
        delimiter=reading.options.delimiter_character or separator,
        quotechar=reading.options.quote_character,
        names=reading.columns.chosen_names,
        labelled=reading.labelled,
    )


def _first_rows(
    reading: Reading, sample: Sample, dialect: Dialect
) -> tuple[TableRow | None, list[ColumnStats]]:
    """Return the first row, and the columns of the rows below it."""
    rows = table_rows(sample(), dialect)
    first = next(rows, None)
    if first is None:
        return None, []
    reason = first.fault or decoding_error("".join(first.fields), reading.encoding)
    if reason:
        hint = None
        if reading.path is not None:
            hint = encoding_hint(reading.path, reason, reading.options.prefix)
        where = f"in the line of column names {hint or ''}".rstrip()
        raise DataError(f"{reading.name}:{first.line}: {reason}, {where}")
    below = [ColumnStats() for _ in first.fields]
    for row in islice(rows, SAMPLE_ROWS):
        if not row.fault and len(row.fields) == len(below) and not _is_empty(row.fields):
            for stats, value in zip(below, row.fields, strict=True):
                stats.add(value)
    return first, below


def _resolve(
    reading: Reading, first: Sequence[str], below: Sequence[ColumnStats]
) -> ResolvedColumns:
    """Return the columns, named by the header or else numbered from 0.

    Raises:
        UnknownColumnError: the header, the text or the label is not plain.
    """
    options, like = reading.columns, reading.columns.like
    cells = [cell.strip() for cell in first]
    if reading.labelled and len(cells) == 1:
        raise UnknownColumnError(_one_column(reading, cells))
    header = has_header(first, below, options)
    if header is None and like is not None:
        if like.header and {*like.text} <= {*cells}:
            header = True  # no text is that of the column's name
        elif len(like.names) == len(first):
            header = like.header
    if header:
        names = list(options.names) or cells
        _check_width(names, cells, options.prefix)
        return resolve_columns(names, options, dict(zip(names, below, strict=True)))
    for stats, value in zip(below, first, strict=True):
        stats.add(value)
    numbers = [str(position) for position in range(len(first))]
    if options.names:
        numbers = list(options.names)
        _check_width(numbers, cells, options.prefix)
    evidence = dict(zip(numbers, below, strict=True))
    if header is None:
        raise UnknownColumnError(_unknown_header(reading, cells, numbers, evidence))
    shown = [f"{number} ({shorten(cell)})" for number, cell in zip(numbers, cells, strict=True)]
    return resolve_columns(numbers, options, evidence, header=False, shown=shown)


def _encoding_note(reading: Reading, cells: Sequence[str]) -> str:
    """Return that the cells of a message may be misread, as those of UTF-8 and ASCII are not."""
    if names_utf8(reading.encoding) or "".join(cells).isascii():
        return ""
    option = f"{reading.options.prefix}encoding"
    return f" (the file was read as {reading.encoding}; set {option} if it has another encoding)"


def _check_width(names: Sequence[str], cells: Sequence[str], prefix: str) -> None:
    if len(names) != len(cells):
        raise UnknownColumnError(
            f"{prefix}columns has {len(names)} names, and the first row {len(cells)} columns: "
            f"{_listed(cells)}"
        )


def _one_column(reading: Reading, cells: Sequence[str]) -> str:
    """Return the message for a table whose delimiter is not the one it was split by."""
    prefix, delimiter = reading.options.prefix, reading.options.delimiter
    text, label = map(reading.columns.option, ("text", "label"))
    split_by = "" if delimiter is None else f" with {prefix}delimiter={delimiter}"
    return (
        f"has one column{split_by}, and {text} and {label} are two: set "
        f"{prefix}delimiter to the character between them (comma, semicolon, tab, pipe or "
        f"another): {_listed(cells)}"
    )


def _unknown_header(
    reading: Reading,
    cells: Sequence[str],
    numbers: Sequence[str],
    evidence: dict[str, ColumnStats],
) -> str:
    """Return a message that works when followed, whatever the first row is."""
    prefix, labelled = reading.options.prefix, reading.labelled
    kinds = [reading.columns.option(kind) for kind in ("text", "label")[: 1 + labelled]]
    try:
        guess = resolve_columns(numbers, reading.columns, evidence, header=False)
    except UnknownColumnError:
        by_number = f"{' and '.join(kinds)}, by number from 0"
    else:
        text = guess.text[0] if len(guess.text) == 1 else f"[{','.join(guess.text)}]"
        chosen = [text, *([guess.label] if guess.label is not None else [])]
        by_number = " ".join(f"{k}={v}" for k, v in zip(kinds, chosen, strict=True))
    number = "two" if labelled else "one"
    return (
        f"no column has a common name for the text{' and the label' if labelled else ''}; "
        f"if this first row is not a header, set {prefix}header=false {by_number}; if it is one, "
        f"set {prefix}header=true and {' and '.join(kinds)} to {number} of: {_listed(cells)}"
    )


def _listed(cells: Sequence[str]) -> str:
    return listed([shorten(cell) for cell in cells], _LISTED_CELLS)
