"""Read CSV, TSV, JSONL or plain lines as a stream of texts, one record at a time.

Memory does not grow with the file, and a row that cannot be read is an item of the stream, not an
exception: the caller decides whether it ends the job or is counted and passed over.
"""

import csv
import io
import json
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from src.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "txt"]

FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
}
PLAIN_TEXT_COLUMNS = (
    *("text", "texts", "review", "reviews", "review_text", "reviewtext", "sentence", "sentences"),
    *("content", "comment", "comments", "body", "document", "message", "tweet"),
)
PLAIN_LABEL_COLUMNS = (
    *("label", "labels", "sentiment", "class", "category", "target", "polarity", "topic"),
)
UNREADABLE = re.compile("[\0\ud800-\udfff]")
MAX_FIELD_CHARACTERS = 2**24  # bounds what an unclosed quote can swallow before it is noticed


@dataclass(frozen=True)
class Record:
    """One readable row. `line` is the line of the file it starts on, counted from 1."""

    line: int
    text: str
    label: str | None
    id: str | int | None = None  # of an unlabelled row with a column "id"


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used, and why."""

    line: int
    reason: str


def format_of(path: str | Path) -> Format:
    """The format that a file's ending stands for. Raises DataError for an unknown ending."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMAT_OF_SUFFIX:
        choices = ", ".join(FORMAT_OF_SUFFIX)
        raise DataError(f"{path}: cannot tell its format from the ending; choices: {choices}")
    return FORMAT_OF_SUFFIX[suffix]


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

    CSV and TSV need a first line of column names; `text_column` and `label_column` are guessed
    where they are plain. With `labelled` false no label is looked for and every label is None;
    `txt`, one text a line, has none to give. Blank lines between rows are passed over, except in
    `txt`, where each line is a text. A byte order mark is dropped.

    Raises:
        DataError: the file is missing, the encoding unknown, or its columns do not name a text
            (and a label). Raised when the first item is asked for.
    """
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "<stream>")
    columns = _Columns(name, text_column, label_column, labelled)
    opened = _open(source) if isinstance(source, str | Path) else nullcontext(source)
    newline = "" if format == "csv" else "\n"
    # A caller may stop half-way: the lines are let go of before their file is closed.
    with opened as stream, closing(_decoded_lines(stream, name, encoding, newline)) as lines:
        if format == "txt":
            rows: Iterator[Record | BadRow] = (
                Record(line, text.rstrip("\r\n"), None) for line, text in lines
            )
        elif format == "jsonl":
            rows = _json_records(lines, columns, encoding)
        else:
            split_rows = _csv_rows(lines) if format == "csv" else _tsv_rows(lines)
            rows = _table_records(split_rows, columns, encoding)
        for row in rows:
            yield _checked(row, encoding) if isinstance(row, Record) else row


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _decoded_lines(
    stream: BinaryIO, name: str, encoding: str, newline: str
) -> Generator[tuple[int, str], None, None]:
    """Number and decode lines. A byte that cannot be decoded stays, as a lone surrogate."""
    bom_tolerant = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8", "utf_8") else encoding
    try:
        text_stream = io.TextIOWrapper(
            stream, encoding=bom_tolerant, errors="surrogateescape", newline=newline
        )
    except LookupError as error:
        raise DataError(f"{name}: there is no text encoding {encoding!r}") from error
    line = 0
    try:
        for line, text in enumerate(text_stream, start=1):
            yield line, text
    except UnicodeError as error:
        raise DataError(f"{name}:{line + 1}: is not {encoding}: {error}") from error
    finally:
        text_stream.detach()  # the stream is its opener's to close


class _Columns:
    """Which columns hold the text and the label, settled by the first row's names."""

    def __init__(self, name: str, text: str | None, label: str | None, labelled: bool) -> None:
        self.name = name
        self.text = text
        self.label = label
        self.labelled = labelled

    def settle(self, columns: list[str]) -> None:
        self.text = self._choose("text", self.text, PLAIN_TEXT_COLUMNS, columns)
        if self.labelled:
            self.label = self._choose("label", self.label, PLAIN_LABEL_COLUMNS, columns)

    def _choose(
        self, kind: str, wanted: str | None, plain: tuple[str, ...], columns: list[str]
    ) -> str:
        listed = ", ".join(_short(column) for column in columns)
        option = f"set {kind}_column to one of: {listed}"
        if wanted is not None:
            if columns.count(wanted) != 1:
                found = "no" if wanted not in columns else "more than one"
                raise DataError(f"{self.name}: has {found} column {wanted!r}; {option}")
            return wanted
        guesses = [column for column in columns if column.lower() in plain]
        if len(guesses) != 1:
            found = "no column is" if not guesses else "more than one column may be"
            raise DataError(f"{self.name}: {found} plainly the {kind}; {option}")
        return guesses[0]


def _csv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]] | BadRow]:
    """Split CSV rows; after one with broken quotes, start again on the line below its first.

    A stray quote would otherwise swallow every row up to the next quote.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    again: deque[tuple[int, str]] = deque()
    current: list[tuple[int, str]] = []

    def feed() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, None):
            current.append(line)
            yield line[1]

    reader = csv.reader(feed(), strict=True)
    while True:
        current.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(current[0][0], f"broken quotes: {error}")
            again.extendleft(reversed(current[1:]))
            reader = csv.reader(feed(), strict=True)
            continue
        if row:
            yield current[0][0], row


def _tsv_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Split TSV rows, one a line: a field holds neither tab nor line break.

    Quotes around a field are taken off where they are balanced, and are plain characters where
    they are not, as in the many TSV files written without any quoting.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    for number, line in lines:
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        row = bare.split("\t")
        if '"' in bare:
            with suppress(csv.Error):
                row = next(csv.reader([bare], delimiter="\t", strict=True))
        yield number, row


def _table_records(
    rows: Iterator[tuple[int, list[str]] | BadRow], columns: _Columns, encoding: str
) -> Iterator[Record | BadRow]:
    header: list[str] | None = None
    for item in rows:
        if isinstance(item, BadRow):
            if header is None:
                raise DataError(f"{columns.name}:{item.line}: {item.reason}")
            yield item
            continue
        line, row = item
        if header is None:
            if reason := _unreadable("".join(row), encoding):
                raise DataError(f"{columns.name}:{line}: {reason}")
            header = [column.strip() for column in row]
            columns.settle(header)
            text = header.index(cast(str, columns.text))
            label = header.index(cast(str, columns.label)) if columns.labelled else None
        elif len(row) != len(header):
            yield BadRow(line, f"{len(row)} columns where the header has {len(header)}")
        else:
            name = row[header.index("id")] if "id" in header and label is None else None
            yield Record(line, row[text], None if label is None else row[label], name)


def _json_records(
    lines: Iterable[tuple[int, str]], columns: _Columns, encoding: str
) -> Iterator[Record | BadRow]:
    settled = False
    for line, source in lines:
        if not source.strip():
            continue
        if reason := _unreadable(source, encoding):
            yield BadRow(line, reason)
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as error:
            yield BadRow(line, f"is not JSON: {error}")
            continue
        if not isinstance(row, dict):
            yield BadRow(line, f"is not a JSON object: {_short(source.strip())}")
            continue
        if not settled:
            columns.settle(list(row))
            settled = True
        yield _json_record(line, row, columns)


def _json_record(line: int, row: dict[str, object], columns: _Columns) -> Record | BadRow:
    wanted = [columns.text, columns.label] if columns.labelled else [columns.text]
    for key in wanted:
        if key not in row:
            return BadRow(line, f"has no {key!r}")
    text = row[cast(str, columns.text)]
    if not isinstance(text, str):
        return BadRow(line, f"{columns.text!r} is not a string: {_short(json.dumps(text))}")
    if not columns.labelled:
        name = row.get("id")
        return Record(line, text, None, name if isinstance(name, str | int) else None)
    label = row[cast(str, columns.label)]
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, dict | list):
        return BadRow(line, f"{columns.label!r} is not a name or number: {_short(repr(label))}")
    if label is None:
        return Record(line, text, "")
    return Record(line, text, label if isinstance(label, str) else json.dumps(label))


def _checked(record: Record, encoding: str) -> Record | BadRow:
    """The record with its label stripped, or why its content is of no use."""
    if fault := text_fault(record.text, encoding):
        return BadRow(record.line, fault)
    if record.label is None:
        return record
    label = record.label.strip()
    if fault := "empty label" if not label else _unreadable(label, encoding):
        return BadRow(record.line, fault)
    return Record(record.line, record.text, label)


def text_fault(text: str, encoding: str) -> str | None:
    """Why a text is of no use: empty, or holding what `encoding` cannot have meant."""
    return _unreadable(text, encoding) or (None if text.strip() else "empty text")


def _unreadable(text: str, encoding: str) -> str | None:
    found = UNREADABLE.search(text)
    if found is None:
        return None
    if found[0] == "\0":
        return f"holds a NUL character (is the file {encoding}?)"
    byte = ord(found[0]) - 0xDC00  # undoes surrogateescape
    known = 0x80 <= byte <= 0xFF
    return f"is not {encoding}: byte 0x{byte:02x}" if known else "holds half a character"


def _short(text: str, width: int = 40) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
