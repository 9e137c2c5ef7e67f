"""predict.py: label one text, or every row of a file or stream."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rnn_lab.data.readers.records import BadRow, Record, RecordReader, text_error
from rnn_lab.errors import ConfigError, DataError, sanitize
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.input_files import names_several
from rnn_lab.inference.prediction_files import (
    CsvTable,
    JsonLines,
    OutputOptions,
    ParquetTable,
    PredictionFile,
    describe_dropped,
    is_prediction_file,
)
from rnn_lab.inference.predictor import FLOAT32, is_onnx_file
from rnn_lab.inference.recorded import recorded_read_info
from rnn_lab.io.atomic import atomic_write, atomic_write_bytes
from rnn_lab.io.locks import locked
from rnn_lab.io.streams import printing_results
from rnn_lab.paths import local_path
from rnn_lab.plugins import require_extra
from rnn_lab.process import num_threads
from rnn_lab.validation import validate

if TYPE_CHECKING:
    import numpy as np

    from rnn_lab.inference.prediction_files import RowPrediction
    from rnn_lab.inference.predictor import Predictor

_OUTPUTS = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": CsvTable,
    ".parquet": ParquetTable,
}
NO_LABEL = "(no label)"
NAMED_LINES = 10  # bad lines that the summary lists; the output has them all


def predict(options: dict[str, Any]) -> None:
    """Label one `text`, as a table for people, or every row of `input`, as JSON, CSV or Parquet.

    Of several files, or of a `shard` of them, `output` is a folder.

    Raises:
        UserError: an option, the run or the input cannot be used, or no row of the input can.
    """
    checked = validate(PredictOptions, options)
    if checked.input is None:
        predict_text(checked)
    elif isinstance(checked.input, str) and not _has_output_folder(checked, checked.input):
        predict_stream(checked, checked.input)
    else:
        from rnn_lab.inference.predict_files import predict_files

        predict_files(checked)


def _has_output_folder(options: PredictOptions, source: str) -> bool:
    """Return whether `output` is a folder with one file for each of the input."""
    is_divided = options.shard is not None or options.engine != "local"
    return is_divided or options.output_format is not None or names_several(source)


def predict_text(options: PredictOptions) -> None:
    """Print the label or labels of `options.text`, then the probability of every class."""
    text = check_text(options.text)
    run = load_predictor(options)
    (probabilities,) = run.probabilities([run.text_encoder.encode(text)])
    with printing_results():
        print_prediction(run, probabilities, options.top_k)


def check_text(text: str | None) -> str:
    """Return the text of the command line.

    Raises:
        ConfigError: it is empty, or is not valid Unicode.
    """
    if text is None or not text.strip():
        raise ConfigError('text: is empty; give a text: text="..."')
    if fault := text_error(text, "utf-8"):
        raise ConfigError(f"text: {fault}")
    return text


def print_prediction(
    run: "Predictor", probabilities: "np.ndarray", top_k: int | None = None
) -> None:
    """Print the predicted label or labels, then all classes, or `top_k`, by probability [classes].

    Where a text has any number of labels, those predicted are marked, beside their thresholds.
    """
    labels = run.predicted(probabilities)
    order = sorted(range(len(run.class_names)), key=lambda i: -probabilities[i])[:top_k]
    names = {i: sanitize(run.class_names[i]) for i in order}
    width = max(map(len, names.values()))
    thresholds = run.thresholds
    print(", ".join(sanitize(label) for label in labels) or NO_LABEL)
    for i in order:
        line = f"  {names[i]:{width}}  {100 * probabilities[i]:5.1f} %"
        if thresholds is not None:
            mark = "*" if run.class_names[i] in labels else " "
            line += f" {mark} from {100 * float(thresholds[i]):.1f} %"
        print(line)


def predict_stream(options: PredictOptions, source: str) -> None:
    """Write what each row of `source` has with its prediction, in order, see prediction_files.

    A row that cannot be used has an `error` in place of its label, and is listed on stderr. The
    columns of the text and the encoding are those of the run's training texts, where the input has
    them and no option says otherwise.
    """
    _check_output(options.output, source, overwrite=options.overwrite)
    run: Predictor | None = None
    is_recorded, like = recorded_read_info(options.run)
    if not is_recorded:
        run = load_predictor(options)
        like = run.read_info
    stream = sys.stdin.buffer if source == "-" else local_path(source)
    reader = RecordReader(stream, options.read_options(), labelled=False, like=like)
    rows = iter(reader)
    first = next(rows, None)  # a missing or unreadable file is reported before the model is loaded
    if first is None:
        raise DataError(f"{source}: contains no text")
    run = run or load_predictor(options)
    with _locked_output(options.output):
        label_rows(run, reader, chain([first], rows), options, source, options.output)


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
    total = bad_count = 0
    bad: list[RowPrediction] = []  # the first ones
    # `reader.info` is replaced as the first rows are read.
    separator = run.label_separator if run.task == "multilabel" else None
    output_options = OutputOptions(run.class_names, reader.info, options.top_k, separator)
    with _opened(output, output_options) as file, _progress(output) as show:
        predictions = predict_rows(run, rows, options.batch_size)
        for prediction in file.write_all(_with_info(predictions, reader, output_options)):
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


def load_predictor(options: PredictOptions) -> "Predictor":
    """Load the run. torch takes seconds to import: only once the options are valid."""
    is_one_text = options.input is None
    if is_onnx_file(options.run):
        if options.precision != FLOAT32:
            raise ConfigError(
                f"precision={options.precision}: an .onnx file computes in float32. Choose from: "
                f"{FLOAT32}"
            )
        require_extra("onnx", f"run={options.run}")
        with fast_imports():
            from rnn_lab.inference.onnx_model import load_onnx

        return load_onnx(options.run, options.device, threads=1 if is_one_text else num_threads())
    with fast_imports():
        from rnn_lab.inference.load import load_model

    run = replace(load_model(options.run, options.device), precision=options.precision)
    # numba takes a second to import: too long for one text.
    run.model.recurrent.use_numba = not is_one_text
    return run


def _with_info(
    rows: Iterable["RowPrediction"], reader: RecordReader, options: OutputOptions
) -> Iterator["RowPrediction"]:
    """Yield the rows; `options` know how the rows so far were read."""
    for row in rows:
        options.info = reader.info
        yield row


def _check_output(output: str, source: str, *, overwrite: bool) -> None:
    """Raise a ConfigError if predictions cannot be written to `output`."""
    if output == "-":
        return
    path = local_path(output)
    if source != "-" and path.resolve() == local_path(source).resolve():
        raise ConfigError(f"output={output}: is the input file; choose another name")
    if path.suffix.lower() not in _OUTPUTS:
        choices = ", ".join([*_OUTPUTS, "- (JSON lines on stdout)"])
        raise ConfigError(f"output={output}: unknown extension. Choose from: {choices}")
    if _OUTPUTS[path.suffix.lower()] is ParquetTable:
        require_extra("files", f"output={output}", needs="pyarrow")
    check_replaceable(path, f"output={output}", overwrite=overwrite)


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
def _locked_output(output: str) -> Iterator[None]:
    path = local_path(output).resolve()
    is_file = path.is_file() or not path.exists()  # not a device, nor a pipe
    is_lockable = output != "-" and is_file
    with locked(output_lock(path), f"output={output}") if is_lockable else nullcontext():
        yield


@contextmanager
def _opened(output: str, options: OutputOptions) -> Iterator[PredictionFile]:
    if output != "-":
        kind = _OUTPUTS[Path(output).suffix.lower()]
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
