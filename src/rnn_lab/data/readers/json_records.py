"""JSON lines and JSON documents -> records."""

import io
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from rnn_lab.data.readers.binary import READ_ERRORS, open_binary, read_error
from rnn_lab.data.readers.columns import (
    ColumnOptions,
    ColumnStats,
    ResolvedColumns,
    UnknownColumnError,
    resolve_columns,
    shorten,
)
from rnn_lab.data.readers.json_rows import (
    JsonError,
    JsonObject,
    JsonStream,
    add_nested,
    parse_object,
    zip_columns,
)
from rnn_lab.data.readers.labels import indicated_labels, label_or_labels, label_text
from rnn_lab.data.readers.reading import SAMPLE_ROWS, BadRow, Reading, Record, join_text
from rnn_lab.errors import DataError
from rnn_lab.iteration import chain_released

_LISTED_KEYS = 5  # of an object, in a message
_HELD_ROWS = 100  # of a list, from which columns are inferred


def json_line_records(reading: Reading) -> Iterator[Record | BadRow]:
    """Yield the rows of JSON lines.

    The first row whose columns are known by name settles them, else the evidence of the first rows.

    Raises:
        DataError: no column is plainly the text (or the label).
    """
    options, keep = _options_by_evidence(reading), reading.options.all_columns
    paths = options.paths
    columns: ResolvedColumns | None = None
    unresolved = ""
    with reading.lines() as lines:
        for line, source in lines:
            if not source.strip():
                continue
            row = parse_object(source, reading.encoding)
            if isinstance(row, str):
                yield BadRow(line, row)
                continue
            kept, row = row if keep else None, add_nested(row, paths)
            if columns is None:
                try:
                    columns = resolve_columns(list(row), options)
                except UnknownColumnError as error:
                    unresolved = unresolved or f"{reading.name}:{line}: {error}"
                    yield BadRow(line, str(error))
                    continue
                reading.info = replace(reading.info, columns=columns)
            yield object_record(line, row, columns, kept)
    if unresolved and columns is None:
        raise DataError(unresolved)


def _options_by_evidence(reading: Reading) -> ColumnOptions:
    """Return the options with the columns that evidence finds, if names find none.

    Raises:
        DataError: neither does in a file. A stream may have them in rows that are still to come.
    """
    options, paths = reading.columns, reading.columns.paths
    stats: dict[str, ColumnStats] = {}
    for _, source in islice(reading.sample(), SAMPLE_ROWS):
        row = parse_object(source, reading.encoding) if source.strip() else ""
        if isinstance(row, str):
            continue
        row = add_nested(row, paths)
        try:
            resolve_columns(list(row), options)
            return options
        except UnknownColumnError:
            add_to_stats(stats, row)
    if not stats:
        return options
    try:
        found = resolve_columns(list(stats), options, stats)
    except UnknownColumnError as error:
        if reading.path is None:
            return options
        raise DataError(f"{reading.name}: {error}") from None
    return replace(options, text=found.text, label=found.indicators or found.label)


def json_records(reading: Reading) -> Iterator[Record | BadRow]:
    """Yield the rows of one JSON document: a list of objects, or an object of columns.

    Raises:
        DataError: the document is malformed, or no column is plainly the text (or the label).
    """
    if _has_columns(reading):
        yield from _column_records(reading)
        return
    keep, paths = reading.options.all_columns, reading.columns.paths
    with _document(reading) as document:
        rows = document.rows()
        first = list(islice(rows, _HELD_ROWS))
        stats: dict[str, ColumnStats] = {}
        for row in first:
            if isinstance(row, JsonObject):
                add_to_stats(stats, add_nested(row, paths))
        columns = reading.resolve(list(stats), stats=stats) if stats else None
        for number, row in enumerate(chain_released(first, rows), start=1):
            if not isinstance(row, JsonObject):
                yield BadRow(number, f"is not a JSON object: {_describe(row)}")
                continue
            kept, row = row if keep else None, add_nested(row, paths)
            columns = columns or reading.resolve(list(row))
            yield object_record(number, row, columns, kept)


def _has_columns(reading: Reading) -> bool:
    """Return whether the document is an object of columns."""
    if reading.path is not None:
        with _document(reading) as document:
            return document.has_columns()
    text = reading.head("json").decode(reading.encoding, "replace").removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        raise DataError(f"{reading.name}: an object of columns is read from a file, not a stream")
    return False


def _column_records(reading: Reading) -> Iterator[Record | BadRow]:
    stats: dict[str, ColumnStats] = {}
    with _document(reading) as document:
        for name, values in document.columns():
            if values is not None:
                stats[name] = ColumnStats()
                for value in islice(values, SAMPLE_ROWS):
                    stats[name].add(value)
    columns = reading.resolve(list(stats), stats=stats)
    keep = reading.options.all_columns
    wanted = tuple(stats) if keep else columns.read
    with ExitStack() as stack:
        opened = [_column_values(reading, name) for name in wanted]
        for column in opened:
            stack.callback(column.close)
        try:
            for number, row in enumerate(zip_columns(opened), start=1):
                record = JsonObject(list(zip(wanted, row, strict=True)))
                yield object_record(number, record, columns, record if keep else None)
        except JsonError as error:
            raise DataError(f"{reading.name}: {error}") from None


def _column_values(reading: Reading, wanted: str) -> Generator[Any, None, None]:
    with _document(reading) as document:
        for name, values in document.columns():
            if name == wanted and values is not None:
                yield from values
                return


@contextmanager
def _document(reading: Reading) -> Iterator[JsonStream]:
    with open_binary(reading.source) as stream:
        try:
            text = io.TextIOWrapper(
                stream, encoding=reading.encoding, errors="escape bytes", newline="\n"
            )
        except (LookupError, ValueError) as error:
            raise DataError(
                f"{reading.name}: no such text encoding: {reading.encoding!r}"
            ) from error
        try:
            yield JsonStream(text)
        except JsonError as error:
            raise DataError(f"{reading.name}: {error}") from None
        except UnicodeError as error:
            raise DataError(f"{reading.name}: is not {reading.encoding}: {error}") from error
        except READ_ERRORS as error:
            raise DataError(f"{reading.name}: cannot be read: {read_error(error)}") from error
        finally:
            text.detach()  # the caller closes the stream


def add_to_stats(stats: dict[str, ColumnStats], row: dict[str, Any]) -> None:
    """Count the values of a row."""
    for name, value in row.items():
        found = stats.setdefault(name, ColumnStats())
        found.add(value)
        if isinstance(value, JsonObject):
            found.paths.update(dict.fromkeys(_paths(name, value)))


def _paths(name: str, value: Any) -> Iterator[str]:
    """Yield the path of each value in an object, as options name it."""
    if not isinstance(value, JsonObject):
        yield name
        return
    for key, below in value.items():
        yield from _paths(f"{name}.{key}", below)


def object_record(
    line: int,
    row: JsonObject,
    columns: ResolvedColumns,
    kept: Mapping[str, Any] | None = None,
) -> Record | BadRow:
    """Return the record in an object of JSON, or in a row of Arrow, with the columns to keep."""
    for key in columns.wanted:
        if key not in row:
            return BadRow(line, f"has no {key!r}", kept)
    for key in columns.read:
        if key in row.duplicate_keys:
            return BadRow(line, f"has {key!r} more than once", kept)
    parts = []
    for key in columns.text:
        value = row[key]
        if value is None and len(columns.text) > 1:
            continue
        if not isinstance(value, str):
            return BadRow(line, f"{key!r} is not a string: {_describe(value, key)}", kept)
        parts.append(value)
    text = join_text(parts)
    if columns.indicators:
        try:
            values = [row[key] for key in columns.indicators]
            labels = indicated_labels(columns.indicators, values)
            return Record(line, text, labels, group=_group_of(row, columns))
        except ValueError as error:
            return BadRow(line, str(error))
    if columns.label is None:
        name = row.get(columns.id or "id")
        return Record(line, text, None, name if isinstance(name, str | int) else None, columns=kept)
    value, column = row[columns.label], columns.label
    try:
        label = label_or_labels(value)
        group = _group_of(row, columns)
    except TypeError:
        described = _describe(value, column)
        return BadRow(line, f"{column!r} is not a name or number, or a list of them: {described}")
    except ValueError as error:
        return BadRow(line, str(error))
    return Record(line, text, label, group=group)


def _group_of(row: JsonObject, columns: ResolvedColumns) -> str | None:
    """Return the group of a row, which it may lack, as it may be null. Raises ValueError."""
    if columns.group is None:
        return None
    value = row.get(columns.group)
    try:
        return label_text(value)
    except TypeError:
        what = f"{columns.group!r} is not a name or number: {_describe(value)}"
        raise ValueError(what) from None


def _describe(value: Any, key: str = "") -> str:
    if isinstance(value, JsonObject) and value and key:
        inner = ", ".join(shorten(f"{key}.{name}") for name in islice(value, _LISTED_KEYS))
        return f"an object; a column may be a key of it: {inner}"
    if isinstance(value, dict | list):  # may be deeply nested
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str | int | float | None):
        return shorten(json.dumps(value))
    return f"a {type(value).__name__}"
