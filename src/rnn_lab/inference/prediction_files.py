"""Write predictions beside what the input has: as JSON lines, CSV or Parquet.

The input's columns keep their names, except for those that an output column has: these get the
prefix `input_`.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TextIO

import numpy as np

from rnn_lab.data.readers.encoding import names_utf8
from rnn_lab.data.readers.labels import join_labels, joining_separator
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.errors import DataError, first_line, listed
from rnn_lab.iteration import batched, chain_released
from rnn_lab.plugins import require_extra
from rnn_lab.runs.csv_table import csv_writer

PREFIX = "input_"
_MARK = "\ufeff"
_METADATA = {b"rnn_lab": b"predictions"}  # of a Parquet file
_HEAD_ROWS, _HEAD_CHARACTERS = 1000, 2**22  # that the columns of a table are taken from
_BATCH_ROWS, _BATCH_CHARACTERS = 4096, 2**24  # of a row group of Parquet
_NAMED_COLUMNS = 5  # in a message
_FIRST_LINE = 2**24  # characters


class RowPrediction(NamedTuple):
    """The result of one row of the input: its labels and probabilities [classes], or the error."""

    line: int
    id: str | int | None  # the row's own, where it has one
    probabilities: np.ndarray | None
    error: str | None = None
    columns: Mapping[str, Any] | None = None  # of the row, where they are kept
    labels: tuple[str, ...] = ()  # see Predictor.predicted


class RowReader(Protocol):
    """The rows of an input, as a RecordReader."""

    @property
    def info(self) -> ReadInfo:
        """How the rows are read, once the first one was requested."""
        ...


@dataclass(frozen=True)
class OutputOptions:
    """What a file of predictions has in it."""

    class_names: Sequence[str]
    reader: RowReader  # of the input
    top_k: int | None = None  # classes whose probabilities are written; None: all
    # Where a text has any number of labels: what joins them in a table. None: it has one.
    label_separator: str | None = None
    # CSV has the delimiter of a CSV input, and a byte order mark where that has one or is not
    # UTF-8: what opens one opens the other.
    csv_as_read: bool = False
    dropped: dict[str, int] = field(default_factory=dict)  # columns a table does not have: rows

    @property
    def info(self) -> ReadInfo:
        """How the input is read; complete once its first row was."""
        return self.reader.info

    @cached_property
    def cell_separator(self) -> str | None:
        """What joins the labels in a cell, such that they are read back; None: there is one."""
        if self.label_separator is None:
            return None
        return joining_separator(self.class_names, self.label_separator)

    @property
    def label_name(self) -> str:
        """The name of what is predicted: one label, or any number."""
        return "label" if self.label_separator is None else "labels"

    def ranked(self, probabilities: np.ndarray) -> list[tuple[str, np.floating]]:
        """Return the classes to write with their probabilities: all, or the most probable ones."""
        pairs = list(zip(self.class_names, probabilities, strict=True))
        if self.top_k is None:
            return pairs
        return sorted(pairs, key=lambda pair: -float(pair[1]))[: self.top_k]

    def kept_name(self, name: str) -> str:
        """Return the name of an input's column; those of a table without a header are numbers."""
        columns = self.info.columns
        is_number = columns is not None and not columns.header and name.isdecimal()
        return f"column_{name}" if is_number else name


class PredictionFile(Protocol):
    """Write rows in order, then what is still held."""

    def write_all(self, rows: Iterable[RowPrediction]) -> Iterator[RowPrediction]:
        """Write each row; yield it once it was taken."""
        ...


class JsonLines:
    """One object a row: its line, its own keys, and `label` and `probabilities`, or `error`.

    Where a text has any number of labels, `labels`, a list, is in place of `label`.
    """

    def __init__(self, file: TextIO, options: OutputOptions) -> None:
        self._file, self._options = file, options

    def write_all(self, rows: Iterable[RowPrediction]) -> Iterator[RowPrediction]:
        """Write each row; yield it once it was taken."""
        for row in rows:
            self._file.write(_dump(self._object(row)) + "\n")
            yield row

    def _object(self, row: RowPrediction) -> dict[str, Any]:
        ours: dict[str, Any] = {"line": row.line}
        if row.columns is None and row.id is not None:
            ours["id"] = row.id
        last: dict[str, Any] = {"error": row.error}
        if row.probabilities is not None:
            classes, values = zip(*self._options.ranked(row.probabilities), strict=True)
            numbers = dict(zip(classes, shortest_floats(values), strict=True))
            is_one = self._options.label_separator is None
            labels: Any = row.labels[0] if is_one else row.labels
            last = {self._options.label_name: labels, "probabilities": numbers}
        taken = {"line", self._options.label_name, "probabilities", "error"}
        kept = {self._options.kept_name(name): value for name, value in (row.columns or {}).items()}
        names = free_names(kept, taken)
        return ours | dict(zip(names, kept.values(), strict=True)) | last


class CsvTable:
    """One row of CSV a row: line, id, its own columns, label, probabilities, error."""

    def __init__(self, file: TextIO, options: OutputOptions) -> None:
        self._file, self._options = file, options

    def write_all(self, rows: Iterable[RowPrediction]) -> Iterator[RowPrediction]:
        """Write each row; yield it once it was taken."""
        head, kept, rest = _with_columns(rows, without="id")
        writer = self._begin()
        ours = _result_names(self._options)
        names = free_names(map(self._options.kept_name, kept), {"line", "id", *ours})
        writer.writerow(["line", "id", *names, *ours])
        for row in chain_released(head, rest):
            columns = row.columns or {}
            _count_dropped(columns, {"id", *kept}, self._options)
            values = [_cell(columns.get(name)) for name in kept]
            id_ = _cell(columns["id"]) if "id" in columns else row.id
            writer.writerow([row.line, id_, *values, *_results(row, self._options, text=True)])
            yield row

    def _begin(self) -> Any:
        info, delimiter = self._options.info, ","
        if self._options.csv_as_read and info.format == "csv":
            delimiter = info.dialect.delimiter if info.dialect else delimiter
            has_mark = info.has_mark or not names_utf8(info.encoding or "utf-8")
            self._file.write(_MARK if has_mark else "")
        return csv_writer(self._file, delimiter)


class ParquetTable:
    """The same in Parquet, with the types of a Parquet input, else those of the values."""

    def __init__(self, file: BinaryIO, options: OutputOptions) -> None:
        self._file, self._options = file, options

    def write_all(self, rows: Iterable[RowPrediction]) -> Iterator[RowPrediction]:
        """Write each row; yield it once it was taken.

        Raises:
            DataError: a column has values of a type that its first ones do not have.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        head, kept, rest = _with_columns(rows)
        is_id = not kept and any(row.id is not None for row in head)
        ours = _result_names(self._options)
        first = ["line", *(["id"] if is_id else [])]
        names = free_names(map(self._options.kept_name, kept), {*first, *ours})
        every = [*first, *names, *ours]
        types: list[Any] = [self._options.info.arrow_types.get(name) for name in kept]
        of_ours = [pa.float32() if name.startswith("probability_") else None for name in ours]
        types = [pa.int64(), *[None] * (len(first) - 1), *types, *of_ours]
        writer: Any = None
        batches: Iterator[list[RowPrediction]] = iter([[]])  # of no row, one that is empty
        if head:
            rows = chain_released(head, rest)
            batches = batched(rows, _BATCH_ROWS, _characters, _BATCH_CHARACTERS)
        try:
            for batch in batches:
                values: list[list[Any]] = [[row.line for row in batch]]
                values += [[row.id for row in batch]] if is_id else []
                values += [[(row.columns or {}).get(name) for row in batch] for name in kept]
                results = [_results(row, self._options, text=False) for row in batch]
                values += map(list, zip(*results, strict=True)) if results else [[] for _ in ours]
                columns = list(map(_array, values, types, every))
                if writer is None:
                    types = [column.type for column in columns]  # of all later rows
                    schema = pa.schema(list(zip(every, types, strict=True)), metadata=_METADATA)
                    writer = pq.ParquetWriter(self._file, schema)
                writer.write_table(pa.Table.from_arrays(columns, schema=writer.schema))
                for row in batch:
                    _count_dropped(row.columns or {}, set(kept), self._options)
                    yield row
        finally:
            if writer is not None:
                writer.close()


def _array(values: list[Any], type_: Any, name: str) -> Any:
    import pyarrow as pa

    try:
        if type_ is None and all(value is None for value in values):
            type_ = pa.string()
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        what = "one type" if type_ is None else f"the type {type_}"
        reason = first_line(error)
        raise DataError(
            f"the column {name!r} has values that are not of {what} ({reason}); an output that "
            "ends in .jsonl has them as they are"
        ) from None


def shortest_floats(values: Iterable[np.floating]) -> list[float]:
    """Return float32 numbers as floats with as few digits: 0.1, not 0.10000000149011612."""
    return [float(str(value)) for value in values]


def free_names(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the names, with the prefix `input_` as often as needed for no two to be equal."""
    used, free = set(taken), []
    for name in names:
        while name in used:
            name = PREFIX + name
        used.add(name)
        free.append(name)
    return free


def is_prediction_file(path: Path) -> bool:
    """Return whether a file is empty, or evidently one that predict.py wrote."""
    try:
        if not path.stat().st_size:
            return True
        if path.suffix.lower() == ".parquet":
            return _is_our_parquet(path)
        with path.open(encoding="utf-8", newline="") as file:
            line = file.readline(_FIRST_LINE)
        if path.suffix.lower() == ".csv":
            line = line.removeprefix(_MARK)
            delimiter = line.removeprefix("line")[:1]
            if delimiter in ("", "\r", "\n", '"'):
                return False
            header = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
            has_label = "label" in header or "labels" in header
            return header[:2] == ["line", "id"] and header[-1:] == ["error"] and has_label
        row = json.loads(line)
        return (
            isinstance(row, dict)
            and next(iter(row), "") == "line"
            and (
                row.keys() >= {"label", "probabilities"}
                or row.keys() >= {"labels", "probabilities"}
                or "error" in row
            )
        )
    except (OSError, ValueError, RecursionError, csv.Error):
        return False


def _is_our_parquet(path: Path) -> bool:
    require_extra("files", str(path), needs="pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {}).items() >= _METADATA.items()
    except pa.ArrowException:
        return False


def kept_characters(columns: Mapping[str, Any] | None) -> int:
    """Return about how many characters the columns of a row have."""
    values = (columns or {}).values()
    return sum(len(value) if isinstance(value, str | list | dict) else 8 for value in values)


def _with_columns(
    rows: Iterable[RowPrediction], without: str = ""
) -> tuple[list[RowPrediction], list[str], Iterator[RowPrediction]]:
    """Return the first rows, the columns that they have but `without`, and the other rows."""
    iterator = iter(rows)
    head: list[RowPrediction] = []
    characters = 0
    for row in islice(iterator, _HEAD_ROWS):
        head.append(row)
        characters += kept_characters(row.columns)
        if characters > _HEAD_CHARACTERS:
            break
    names = dict.fromkeys(name for row in head for name in row.columns or {})
    return head, [name for name in names if name != without], iterator


def _result_names(options: OutputOptions) -> list[str]:
    if options.top_k is None:
        probabilities = [f"probability_{name}" for name in options.class_names]
    else:
        ranks = range(1, min(options.top_k, len(options.class_names)) + 1)
        probabilities = [f"{what}_{rank}" for rank in ranks for what in ("label", "probability")]
    return [options.label_name, *probabilities, "error"]


def _results(row: RowPrediction, options: OutputOptions, *, text: bool) -> list[Any]:
    """Return the values of `_result_names`; as `text`, those of CSV."""
    empty = "" if text else None
    if row.probabilities is None:
        return [empty] * (len(_result_names(options)) - 1) + [row.error]
    ranked = options.ranked(row.probabilities)
    values: list[Any] = []
    for name, number in ranked:
        values += [name] if options.top_k is not None else []
        values.append(str(number) if text else number)
    separator = options.cell_separator
    label = row.labels[0] if separator is None else join_labels(row.labels, separator)
    return [label, *values, row.error]


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: text unchanged, null empty, anything else as JSON."""
    return "" if value is None else value if isinstance(value, str) else _dump(value)


def _dump(value: Any) -> str:
    """Return strict JSON: a number that is not finite is null, and a date is a string."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _characters(row: RowPrediction) -> int:
    return kept_characters(row.columns)


def _count_dropped(columns: Mapping[str, Any], known: set[str], options: OutputOptions) -> None:
    for name in columns.keys() - known:
        options.dropped[name] = options.dropped.get(name, 0) + 1


def describe_dropped(options: OutputOptions) -> str | None:
    """Return a line about the columns that a table lacks, None if there are none."""
    if not options.dropped:
        return None
    named = listed(sorted(options.dropped), _NAMED_COLUMNS)
    rows = max(options.dropped.values())
    return (
        f"{rows:,} rows have columns that the first rows do not have ({named}), which are left "
        "out; an output that ends in .jsonl has them"
    )
