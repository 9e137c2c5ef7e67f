"""Read CSV, TSV, JSONL or plain lines as a stream of texts, one record at a time.

Memory does not grow with the file. A malformed row is an item of the stream, not an exception: the
caller decides whether to stop or to count and skip it.
"""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from rnn_lab.data.readers.lines import decoding_error, numbered_lines
from rnn_lab.data.readers.tables import TableRow, csv_rows, tsv_rows
from rnn_lab.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "txt"]

FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
}
DEFAULT_TEXT_COLUMNS = (
    *("text", "texts", "review", "reviews", "review_text", "reviewtext", "sentence", "sentences"),
    *("content", "comment", "comments", "body", "document", "message", "tweet"),
)
DEFAULT_LABEL_COLUMNS = (
    *("label", "labels", "sentiment", "class", "category", "target", "polarity", "topic"),
)
_LISTED_COLUMNS = 20  # in an error message


@dataclass(frozen=True)
class Record:
    """One readable row. `line` is the number of its first line in the file, from 1."""

    line: int
    text: str
    label: str | None
    id: str | int | None = None  # of an unlabelled row with a column "id"


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used, and the reason."""

    line: int
    reason: str


def infer_format(path: str | Path) -> Format:
    """Return the format for the ending of a file. Raises DataError for an unknown ending."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMAT_BY_SUFFIX:
        choices = ", ".join(FORMAT_BY_SUFFIX)
        raise DataError(f"{path}: unknown file ending; choose from: {choices}")
    return FORMAT_BY_SUFFIX[suffix]


def read_records(
    source: str | Path | BinaryIO,
    format: Format,
    *,
    labelled: bool,
    encoding: str = "utf-8",
    text_column: str | None = None,
    label_column: str | None = None,
) -> Iterator[Record | BadRow]:
    """Yield a Record or a BadRow for each row of a file or an open binary stream, in order.

    CSV and TSV need a first line of column names. `text_column` and `label_column` are inferred
    from common names if they are None. With `labelled` false, and in `txt` (one text per line),
    every label is None. Blank lines between rows are skipped, except in `txt`. A byte order mark
    is dropped.

    Raises:
        DataError: the file is missing, reading fails, the encoding is unknown, or no column is
            known to be the text (or the label). Raised when the item is requested.
    """
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "<stream>")
    columns = _Columns(name, text_column, label_column, labelled)
    opened = _open(source) if isinstance(source, str | Path) else nullcontext(source)
    newline = "" if format == "csv" else "\n"
    # A caller may stop early: the generator of lines is closed before its file.
    with opened as stream, closing(numbered_lines(stream, name, encoding, newline)) as lines:
        if format == "txt":
            rows: Iterator[Record | BadRow] = (
                Record(line, text.rstrip("\r\n"), None) for line, text in lines
            )
        elif format == "jsonl":
            rows = _json_records(lines, columns, encoding)
        else:
            split_rows = csv_rows(lines) if format == "csv" else tsv_rows(lines)
            rows = _table_records(split_rows, columns, encoding)
        # The bytes of JSON are checked before: a lone surrogate in its texts was an escape.
        text_encoding = None if format == "jsonl" else encoding
        for row in rows:
            yield _check(row, text_encoding) if isinstance(row, Record) else row


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


class _UnknownColumnError(Exception):
    """No single column is the text, or the label; the message lists the columns."""


class _Columns:
    """The columns of the text and the label, resolved from the names in the first row."""

    def __init__(self, name: str, text: str | None, label: str | None, labelled: bool) -> None:
        self.name = name
        self.text = text
        self.label = label
        self.labelled = labelled

    def resolve(self, columns: list[str]) -> None:
        text = self._choose("text", self.text, DEFAULT_TEXT_COLUMNS, columns)
        if self.labelled:
            self.label = self._choose("label", self.label, DEFAULT_LABEL_COLUMNS, columns)
        self.text = text

    def _choose(
        self, kind: str, wanted: str | None, known: tuple[str, ...], columns: list[str]
    ) -> str:
        listed = ", ".join(_short(column) for column in columns[:_LISTED_COLUMNS])
        if len(columns) > _LISTED_COLUMNS:
            listed += f" and {len(columns) - _LISTED_COLUMNS:,} more"
        option = f"set {kind}_column to one of: {listed}"
        if wanted is not None:
            if columns.count(wanted) != 1:
                number = "no" if wanted not in columns else "more than one"
                raise _UnknownColumnError(f"has {number} column {wanted!r}; {option}")
            return wanted
        found = [column for column in columns if column.lower() in known]
        if len(found) != 1:
            reason = "more than one column has" if found else "no column has"
            raise _UnknownColumnError(f"{reason} a common name for the {kind}; {option}")
        return found[0]


def _table_records(
    rows: Iterator[TableRow], columns: _Columns, encoding: str
) -> Iterator[Record | BadRow]:
    header: list[str] | None = None
    for line, last_line, fields, fault in rows:
        if header is None:
            header = [column.strip() for column in fields]
            try:
                if reason := fault or decoding_error("".join(fields), encoding):
                    raise _UnknownColumnError(f"{reason}, in the line of column names")
                columns.resolve(header)
            except _UnknownColumnError as error:
                raise DataError(f"{columns.name}:{line}: {error}") from None
            text = header.index(cast(str, columns.text))
            label = header.index(cast(str, columns.label)) if columns.labelled else None
        elif fault:
            yield BadRow(line, fault)
        elif len(fields) != len(header):
            where = f", over lines {line} to {last_line}" if last_line > line else ""
            reason = f"{len(fields)} columns where the header has {len(header)}{where}"
            yield BadRow(line, reason)
        else:
            name = fields[header.index("id")] if "id" in header and label is None else None
            yield Record(line, fields[text], None if label is None else fields[label], name)


class _Object(dict[str, Any]):
    """A JSON object that records duplicate keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.duplicate_keys: set[str] = set()
        if len(self) != len(pairs):
            names = [name for name, _ in pairs]
            self.duplicate_keys = {name for name in self if names.count(name) > 1}


def _json_records(
    lines: Iterable[tuple[int, str]], columns: _Columns, encoding: str
) -> Iterator[Record | BadRow]:
    resolved, unresolved = False, ""
    for line, source in lines:
        if not source.strip():
            continue
        row = _json_object(source, encoding)
        if isinstance(row, str):
            yield BadRow(line, row)
            continue
        if not resolved:
            try:
                columns.resolve(list(row))
                resolved = True
            except _UnknownColumnError as error:
                unresolved = unresolved or f"{columns.name}:{line}: {error}"
                yield BadRow(line, str(error))
                continue
        yield _json_record(line, row, columns)
    if unresolved and not resolved:
        raise DataError(unresolved)


def _json_object(source: str, encoding: str) -> _Object | str:
    """Return the object in a line of JSON, or the reason why there is none."""
    if reason := decoding_error(source, encoding):
        return reason
    try:
        row = json.loads(source, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at column {error.colno}"
    except ValueError:  # Python refuses integers with more digits than it converts quickly
        return "is not read: contains an integer with thousands of digits"
    except RecursionError:
        return "is not read: nested too deeply"
    if not isinstance(row, _Object):
        return f"is not a JSON object: {_short(source.strip())}"
    return row


def _json_record(line: int, row: _Object, columns: _Columns) -> Record | BadRow:
    wanted = [columns.text, columns.label] if columns.labelled else [columns.text]
    for key in wanted:
        if key not in row:
            return BadRow(line, f"has no {key!r}")
        if key in row.duplicate_keys:
            return BadRow(line, f"has {key!r} more than once")
    text = row[cast(str, columns.text)]
    if not isinstance(text, str):
        return BadRow(line, f"{columns.text!r} is not a string: {_describe(text)}")
    if not columns.labelled:
        name = row.get("id")
        return Record(line, text, None, name if isinstance(name, str | int) else None)
    label = row[cast(str, columns.label)]
    if isinstance(label, dict | list):
        reason = f"{columns.label!r} is not a name or number: {_describe(label)}"
        return BadRow(line, reason)
    if label is None or (isinstance(label, float) and not math.isfinite(label)):
        return Record(line, text, "")  # some programs write NaN for a missing value
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return Record(line, text, label if isinstance(label, str) else json.dumps(label))


def _describe(value: Any) -> str:
    if isinstance(value, dict | list):  # may be deeply nested
        return "an object" if isinstance(value, dict) else "a list"
    return _short(json.dumps(value))


def _check(record: Record, encoding: str | None) -> Record | BadRow:
    """Return the record with its label stripped, or why it cannot be used."""
    if fault := text_error(record.text, encoding):
        return BadRow(record.line, fault)
    if record.label is None:
        return record
    label = record.label.strip()
    if fault := "empty label" if not label else decoding_error(label, encoding):
        return BadRow(record.line, fault)
    return Record(record.line, record.text, label)


def text_error(text: str, encoding: str | None) -> str | None:
    """Return why a text cannot be used: empty, too long or decoded wrongly; None if it can.

    `encoding` is None if its bytes were valid.
    """
    return decoding_error(text, encoding) or (None if text.strip() else "empty text")


def _short(text: str, width: int = 40) -> str:
    """Return `text` for a message: one short line of printable characters."""
    text = text if len(text) <= width else text[: width - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()
