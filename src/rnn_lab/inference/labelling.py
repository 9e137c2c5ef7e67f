"""Write the predictions of the rows of one input to one output."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rnn_lab.data.readers.records import BadRow, Record, RecordReader
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.ensemble import Ensemble, combine_runs
from rnn_lab.inference.prediction_files import (
    CsvTable,
    JsonLines,
    OutputOptions,
    ParquetTable,
    PredictionFile,
    describe_dropped,
    is_prediction_file,
)
from rnn_lab.inference.predictor import FLOAT32
from rnn_lab.io.atomic import atomic_write, atomic_write_bytes
from rnn_lab.io.run_file import is_onnx_file
from rnn_lab.io.streams import printing_results
from rnn_lab.paths import local_path
from rnn_lab.plugins import require_extra
from rnn_lab.process import num_threads

if TYPE_CHECKING:
    from rnn_lab.inference.prediction_files import RowPrediction
    from rnn_lab.inference.predictor import Predictor, SingleModel

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
    reader: RecordReader,
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
    total = bad_count = 0
    bad: list[RowPrediction] = []  # the first ones
    separator = run.label_separator if run.task == "multilabel" else None
    output_options = OutputOptions(run.class_names, reader, options.top_k, separator)
    with _opened(output, output_options) as file, _progress(output) as show:
        for prediction in file.write_all(predict_rows(run, rows, options.batch_size)):
            show(total := total + 1)
            if prediction.error is not None:
                bad_count += 1
                bad = [*bad, prediction][:NAMED_LINES]
    if total and bad_count == total and not all_may_be_bad:
        raise DataError(f"{source}:{bad[0].line}: {bad[0].error}; no line can be used")
    for prediction in bad:
        print(f"{source}:{prediction.line}: {prediction.error}", file=sys.stderr)
    if bad_count > len(bad):
        print(f"... and {bad_count - len(bad):,} more bad lines", file=sys.stderr)
    if dropped := describe_dropped(output_options):
        print(dropped, file=sys.stderr)
    print(f"{prefix}{total - bad_count:,} of {total:,} texts labelled", file=sys.stderr)
    return Counts(total, bad_count)


def _check_columns(run: Ensemble, source: str) -> None:
    if len(run.text_columns) > 1:
        columns = " / ".join(sorted("+".join(names) for names in run.text_columns))
        raise ConfigError(
            f"{source}: the runs were trained on texts of different columns, {columns}; give "
            "text_column=<name>"
        )


def load_predictor(options: PredictOptions) -> "Predictor":
    """Load the run, or the ensemble of several, whose number is printed."""
    loaded = combine_runs(options.run, lambda run: _load(run, options))
    if isinstance(loaded, Ensemble):
        print(f"The mean of {len(loaded.members)} runs", file=sys.stderr)
    return loaded


def _load(run: str, options: PredictOptions) -> "SingleModel":
    """Load one run. torch takes seconds to import: only once the options are valid."""
    is_one_text = options.input is None
    if is_onnx_file(run):
        if options.precision != FLOAT32:
            raise ConfigError(
                f"precision={options.precision}: an .onnx file computes in float32. Choose from: "
                f"{FLOAT32}"
            )
        require_extra("onnx", f"run={run}")
        with fast_imports():
            from rnn_lab.inference.onnx_model import load_onnx

        return load_onnx(run, options.device, threads=1 if is_one_text else num_threads())
    with fast_imports():
        from rnn_lab.inference.load import load_model

    loaded = replace(load_model(run, options.device), precision=options.precision)
    # numba takes a second to import: too long for one text.
    loaded.model.recurrent.use_numba = not is_one_text
    return loaded


def check_replaceable(path: Path, what: str, *, overwrite: bool) -> None:
    """Raise a ConfigError if `path` is a file, not one of predictions, and `overwrite` is false."""
    if not overwrite and path.is_file() and not is_prediction_file(path):
        raise ConfigError(
            f"{what}: exists and is not a file of predictions; choose another name, or "
            "overwrite=true"
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
    """Count texts on stderr if it is a terminal and the predictions go elsewhere."""
    if not sys.stderr.isatty() or (output == "-" and sys.stdout.isatty()):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} texts"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda count: progress.update(task, completed=count)
