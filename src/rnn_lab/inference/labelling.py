"""Write the predictions of the rows of one input to one output."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rnn_lab.data.progress import ProgressLines
from rnn_lab.data.readers.formats import infer_unlabelled_format
from rnn_lab.data.readers.records import BadRow, Record
from rnn_lab.errors import ConfigError, DataError, sanitize
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.prediction_files import (
    CsvTable,
    JsonLines,
    OutputOptions,
    ParquetTable,
    PredictionFile,
    RowPrediction,
    RowReader,
    describe_dropped,
    is_prediction_file,
)
from rnn_lab.io.atomic import atomic_write, atomic_write_bytes
from rnn_lab.io.replace import check_replaceable
from rnn_lab.io.streams import printing_results
from rnn_lab.paths import local_path

if TYPE_CHECKING:
    from rnn_lab.inference.predictor import Predictor

OUTPUTS = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": CsvTable,
    ".parquet": ParquetTable,
}
NAMED_LINES = 10  # bad lines that the summary lists; the output has them all


class Counts(NamedTuple):
    """The rows of one input, and those that could not be used."""

    rows: int
    bad_rows: int


def label_rows(
    run: "Predictor",
    reader: RowReader,
    rows: Iterable[Record | BadRow],
    options: PredictOptions,
    source: str,
    output: str,
    *,
    prefix: str = "",
    all_may_be_bad: bool = False,
) -> Counts:
    """Write the rows of `source` with their predictions to `output`, and report the bad ones.

    The first of `rows` was requested of the `reader`. `prefix` is printed before the number of
    texts.

    Raises:
        DataError: there are rows and none can be used, unless `all_may_be_bad`.
    """
    from rnn_lab.inference.batch_predict import predict_rows

    if options.id_column is not None and reader.info.format == "txt":
        raise DataError(f"{source}: plain text has no columns; leave out id_column")
    if isinstance(run, Ensemble) and reader.info.columns and options.text_column is None:
        _check_columns(run, source)
    if options.text_column is None:
        _print_text_columns(reader, source)
    rows = iter(rows)
    first = next(rows, None)
    if first is not None:
        rows = chain([first], rows)
        _print_plain_text(reader, first, options, source)
    if reader.info.whole_files and options.one_text_per == "auto" and not prefix:
        print(
            f"{source}: a file is one text, as in training; one_text_per=line labels each line",
            file=sys.stderr,
        )
    unit = "file" if reader.info.whole_files else "line"

    def place(row: RowPrediction) -> str:
        return f"{source}:{row.line}" if unit == "line" else sanitize(str(row.id or source))

    total = bad_count = 0
    bad: list[RowPrediction] = []  # the first ones
    separator = run.label_separator if run.is_multilabel else None
    output_options = OutputOptions(
        run.class_names, reader, options.top_k, separator, csv_as_read=True
    )
    with _opened(output, output_options) as file, _progress(output) as show:
        for prediction in file.write_all(predict_rows(run, rows, options.batch_size)):
            total += 1
            show(1)
            if prediction.error is not None:
                bad_count += 1
                bad = [*bad, prediction][:NAMED_LINES]
    if total and bad_count == total and not all_may_be_bad:
        raise DataError(f"{place(bad[0])}: {bad[0].error}; no {unit} can be used")
    for prediction in bad:
        print(f"{place(prediction)}: {prediction.error}", file=sys.stderr)
    if bad_count > len(bad):
        print(f"... and {bad_count - len(bad):,} more bad {unit}s", file=sys.stderr)
    if dropped := describe_dropped(output_options):
        print(dropped, file=sys.stderr)
    print(f"{prefix}{total - bad_count:,} of {total:,} texts labelled", file=sys.stderr)
    return Counts(total, bad_count)


def _print_text_columns(reader: RowReader, source: str) -> None:
    """Print which columns of the input were inferred to be the text."""
    if (columns := reader.info.columns) is not None:
        names = " and ".join(map(repr, columns.text) if columns.header else columns.text)
        kind = "column" if len(columns.text) == 1 else "columns"
        print(sanitize(f"{source}: the text is the {kind} {names}"), file=sys.stderr)


def _print_plain_text(
    reader: RowReader, first: Record | BadRow, options: PredictOptions, source: str
) -> None:
    """Print that an input is read as plain text, where it looks like another format."""
    if options.format is not None or reader.info.format != "txt" or isinstance(first, BadRow):
        return
    if not reader.info.whole_files and (format := infer_unlabelled_format(first.text)):
        print(
            f"{source}: read as plain text, a text a line; it looks like format={format}",
            file=sys.stderr,
        )


def _check_columns(run: Ensemble, source: str) -> None:
    if len(run.text_columns) > 1:
        columns = " / ".join(sorted("+".join(names) for names in run.text_columns))
        raise ConfigError(
            f"{source}: the runs were trained on texts of different columns, {columns}; give "
            "text_column=<name>"
        )


def check_output_file(path: Path, option: str, *, overwrite: bool) -> None:
    """Raise a ConfigError if `path` is a file, not one of predictions, and `overwrite` is false."""
    if not overwrite:
        check_replaceable(
            path,
            option,
            "a file of predictions",
            is_prediction_file,
            advice="choose another name, or overwrite=true",
        )


def output_lock(path: Path) -> Path:
    """Return the lock file of an output."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _opened(output: str, options: OutputOptions) -> Iterator[PredictionFile]:
    if output != "-":
        kind = OUTPUTS[Path(output).suffix.lower()]
        path = local_path(output).resolve()
        if kind is ParquetTable:
            with atomic_write_bytes(path) as binary:
                yield ParquetTable(binary, options)
        else:
            with atomic_write(path, newline="") as file:
                yield kind(file, options)
        return
    with printing_results():
        cast(Any, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
        yield JsonLines(sys.stdout, options)


@contextmanager
def _progress(output: str) -> Iterator[Callable[[int], None]]:
    """Count texts on stderr, unless the predictions go to the same terminal."""
    if not sys.stderr.isatty():
        yield ProgressLines("Labelling texts", None).advance
        return
    if output == "-" and sys.stdout.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} texts"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda count: progress.advance(task, count)
