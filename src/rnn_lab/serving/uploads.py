"""Label the rows of an uploaded file; the answer is CSV, part by part."""

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError
from rnn_lab.inference.batch_predict import predict_rows
from rnn_lab.inference.prediction_files import CsvTable, OutputOptions
from rnn_lab.inference.predictor import Predictor

# Formats of plain text: a few bytes of them cannot decompress to gigabytes.
UploadFormat = Literal["csv", "tsv", "jsonl", "txt"]
_PART = 2**16  # characters
_MAX_COLUMNS = 1000  # the time to find the text among them grows with the square of their number
_HEAD = 2**16  # bytes in which they are counted
_SEPARATORS = b",;\t|"


class _Upload(io.BytesIO):
    name = "the file"  # in messages


def labelled_csv(
    run: Predictor,
    content: bytes,
    *,
    format: UploadFormat,
    text_column: str | int | None,
    max_text_length: int,
    batch_size: int,
) -> Iterator[bytes]:
    """Yield the table that `rnn-lab predict output=<.csv>` writes for the rows in `content`.

    It has commas, whatever the content has, and no byte order mark: the page reads it. A row that
    cannot be used, or whose text is too long, has an `error` in place of its label.

    Raises:
        DataError: there is no row, or no column is plainly the text. Raised by the first part.
    """
    head = content.lstrip()[:_HEAD].partition(b"\n")[0]
    if format in ("csv", "tsv") and max(map(head.count, _SEPARATORS)) >= _MAX_COLUMNS:
        raise DataError(f"{_Upload.name}: has more than {_MAX_COLUMNS:,} columns")
    options = ReadOptions(format, text_column=text_column, all_columns=True)
    reader = RecordReader(_Upload(content), options, labelled=False, like=run.read_info)
    rows = _short_rows(reader, max_text_length)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{_Upload.name}: contains no text")
    separator = run.label_separator if run.is_multilabel else None
    output = OutputOptions(run.class_names, reader, label_separator=separator)
    buffer = io.StringIO()
    predictions = predict_rows(run, chain([first], rows), batch_size)
    for _ in CsvTable(buffer, output).write_all(predictions):
        if buffer.tell() >= _PART:
            yield _taken(buffer)
    yield _taken(buffer)


def _short_rows(rows: Iterable[Record | BadRow], longest: int) -> Iterator[Record | BadRow]:
    for row in rows:
        if isinstance(row, Record) and len(row.text) > longest:
            reason = f"has {len(row.text):,} characters; at most {longest:,} are allowed"
            row = BadRow(row.line, reason, row.columns, row.id)
        yield row


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode(errors="backslashreplace")  # bytes that are not text became surrogates
