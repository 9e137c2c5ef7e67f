"""Read files of any supported format as a stream of texts, one record at a time.

Memory does not grow with the file. A malformed row is an item of the stream, not an exception: the
caller decides whether to stop or to count and skip it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rnn_lab.data.readers import label_lines
from rnn_lab.data.readers.arrow import ArrowTable
from rnn_lab.data.readers.columns import ColumnStats, UnknownColumnError, resolve_columns
from rnn_lab.data.readers.formats import Format, infer_format, is_json_lines
from rnn_lab.data.readers.json_records import (
    add_to_stats,
    json_line_records,
    json_records,
    object_record,
)
from rnn_lab.data.readers.json_rows import JsonObject
from rnn_lab.data.readers.labels import canonical_label, split_labels
from rnn_lab.data.readers.lines import MAX_CHARACTERS, decoding_error
from rnn_lab.data.readers.reading import (
    SAMPLE_ROWS,
    BadRow,
    ReadInfo,
    Reading,
    ReadOptions,
    Record,
)
from rnn_lab.data.readers.table_records import table_records

EMPTY_TEXT, EMPTY_LABEL = "empty text", "empty label"

__all__ = (
    "EMPTY_LABEL",
    "EMPTY_TEXT",
    "BadRow",
    "Format",
    "ReadInfo",
    "ReadOptions",
    "Record",
    "RecordReader",
    "infer_format",
    "text_error",
)


class RecordReader:
    """The rows of a file or an open binary stream, in order."""

    def __init__(
        self,
        source: str | Path | BinaryIO,
        options: ReadOptions,
        *,
        labelled: bool,
        like: ReadInfo | None = None,
    ) -> None:
        """Store the arguments; the file is opened when its rows are requested.

        Args:
            source: a path, decompressed if it ends in .gz or .zst, or a stream, which stays open.
            options: the user's.
            labelled: whether rows have labels; if not, and in `txt` (one text per line, or with
                ReadOptions.whole_files one per file), every label is None.
            like: of another file, for columns that evidence does not decide.
        """
        self._reading = Reading(source, options, labelled=labelled, like=like)

    @property
    def info(self) -> ReadInfo:
        """How the rows are read, once the first one was requested."""
        return self._reading.info

    def __iter__(self) -> Iterator[Record | BadRow]:
        """Yield a Record or a BadRow for each row.

        Blank lines between rows are skipped, except in `txt`. A byte order mark is dropped.

        Raises:
            DataError: the file is missing, reading fails, the encoding is unknown, or no column is
                plainly the text (or the label). Raised when the item is requested.
        """
        reading = self._reading
        reading.infer()
        if reading.info.format == "json" and is_json_lines(text for _, text in reading.sample()):
            reading.info = replace(reading.info, format="jsonl")
        # The bytes of JSON are not checked again: a lone surrogate in its texts was an escape.
        encoding = reading.info.encoding
        if reading.info.format in ("jsonl", "json"):
            encoding = None
        may_be_empty = reading.options.label_separator is not None
        for row in _RECORDS[reading.info.format](reading):
            if isinstance(row, Record):
                row = _check(row, encoding, reading.label_separator, may_be_empty)
            yield row


def _text_records(reading: Reading) -> Iterator[Record]:
    with reading.lines() as lines:
        if reading.info.whole_files:
            yield Record(1, _joined(text for _, text in lines), None)
            return
        for line, text in lines:
            yield Record(line, text.rstrip("\r\n"), None)


def _joined(lines: Iterable[str]) -> str:
    """Return a text, or enough of one that is too long to see that it is."""
    parts: list[str] = []
    characters = 0
    for line in lines:
        parts.append(line)
        characters += len(line)
        if characters > MAX_CHARACTERS:
            break
    return "".join(parts)


def _label_line_records(reading: Reading) -> Iterator[Record | BadRow]:
    options, like = reading.columns, reading.columns.like
    fasttext = label_lines.is_fasttext(text for _, text in reading.sample())
    several = options.label is None and (
        reading.options.label_separator is not None
        or (like is not None and like.label == "labels")
        or (fasttext and label_lines.has_several(text for _, text in reading.sample()))
    )
    label = options.label or ("labels" if several else "label")
    columns = reading.resolve(
        label_lines.COLUMNS, replace(options, text=options.text or "text", label=label)
    )
    # Of other lines than fastText's, label_separator splits the first word as it does a cell.
    several = columns.label == "labels" and (fasttext or reading.label_separator is None)
    with reading.lines() as lines:
        for line, row in label_lines.label_lines(lines, fasttext=fasttext, several=several):
            if isinstance(row, str):
                yield BadRow(line, row.replace("label_column", f"{options.prefix}label_column"))
                continue
            found, text = row
            if columns.label == "coarse" and isinstance(found, str):
                found = found.partition(":")[0]
            yield Record(line, text, found if reading.labelled else None)


def _arrow_records(reading: Reading) -> Iterator[Record | BadRow]:
    table = ArrowTable(reading.source, "parquet" if reading.info.format == "parquet" else "arrow")
    names = table.names()
    try:
        columns = resolve_columns(names, reading.columns)
        reading.info = replace(reading.info, columns=columns)
    except UnknownColumnError:
        stats: dict[str, ColumnStats] = {}
        once = [name for name in names if names.count(name) == 1]
        for row in islice(table.rows(once), SAMPLE_ROWS):
            add_to_stats(stats, dict(zip(once, row, strict=True)))
        columns = reading.resolve(names, stats=stats)
    keep = reading.options.all_columns
    wanted = [name for name in names if names.count(name) == 1] if keep else list(columns.read)
    if keep:
        reading.info = replace(reading.info, arrow_types=table.types(wanted))
    for number, row in enumerate(table.rows(wanted), start=1):
        record = JsonObject(list(zip(wanted, row, strict=True)))
        yield object_record(number, record, columns, record if keep else None)


_RECORDS: dict[Format, Callable[[Reading], Iterator[Record | BadRow]]] = {
    "csv": table_records,
    "tsv": table_records,
    "jsonl": json_line_records,
    "json": json_records,
    "txt": _text_records,
    "label_text": _label_line_records,
    "parquet": _arrow_records,
    "arrow": _arrow_records,
}


def _check(
    record: Record, encoding: str | None, separator: str | None, may_be_empty: bool
) -> Record | BadRow:
    """Return the record with its labels in canonical form, or why it cannot be used.

    `may_be_empty`: a cell without any of the labels that `separator` separates means none.
    """
    if fault := text_error(record.text, encoding):
        return BadRow(record.line, fault, record.columns, record.id)
    if record.label is None:
        return record
    if isinstance(record.label, str) and separator is None:
        label = canonical_label(record.label)
        if fault := EMPTY_LABEL if not label else decoding_error(label, encoding):
            return BadRow(record.line, fault)
        return replace(record, label=label)
    labels = record.label
    if isinstance(labels, str):
        if not labels.strip() and not may_be_empty:
            return BadRow(record.line, EMPTY_LABEL)
        try:
            labels = split_labels(labels, separator or "")
        except ValueError as error:
            return BadRow(record.line, str(error))
    if fault := next(filter(None, (decoding_error(label, encoding) for label in labels)), None):
        return BadRow(record.line, fault)
    return replace(record, label=labels)


def text_error(text: str, encoding: str | None) -> str | None:
    """Return why a text cannot be used: empty, too long or decoded wrongly; None if it can.

    `encoding` is None if its bytes were valid.
    """
    return decoding_error(text, encoding) or (None if text.strip() else EMPTY_TEXT)
