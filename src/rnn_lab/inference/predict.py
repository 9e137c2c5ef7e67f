"""predict.py: label one text, or every row of a file or stream."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from rnn_lab.data.readers.records import BadRow, Record, infer_format, read_records, text_error
from rnn_lab.errors import ConfigError, DataError, sanitize
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import PredictOptions
from rnn_lab.io.atomic import atomic_write, write_error
from rnn_lab.io.locks import locked
from rnn_lab.validation import validate

if TYPE_CHECKING:
    from rnn_lab.inference.batch_predict import RowPrediction

Write = Callable[["RowPrediction"], None]

NAMED_LINES = 10  # bad lines that the summary lists; the output has them all


def predict(options: dict[str, Any]) -> None:
    """Label one `text`, as a table for people, or every row of `input`, as JSON or CSV.

    Raises:
        UserError: an option, the run or the input cannot be used, or no row of the input can.
    """
    checked = validate(PredictOptions, options)
    if checked.text is not None:
        predict_text(checked)
    else:
        predict_stream(checked)


def predict_text(options: PredictOptions) -> None:
    """Print the label of `options.text`, then the probability of every class."""
    text = cast(str, options.text)
    if not text.strip():
        raise ConfigError("text: is empty; give a text to label")
    if fault := text_error(text, "utf-8"):
        raise ConfigError(f"text: {fault}")
    # torch takes seconds to import: only once the options are valid.
    with fast_imports():
        from rnn_lab.inference.batch_predict import classify
        from rnn_lab.inference.load import load_model

    run = load_model(options.run, options.device)
    run.model.recurrent.use_numba = False  # numba takes a second to import: too long for one text
    (probabilities,) = classify(run, [run.text_encoder.encode(text)], batch_size=1)
    print_ranking(dict(zip(run.class_names, probabilities.tolist(), strict=True)))


def print_ranking(probabilities: Mapping[str, float]) -> None:
    """Print the most probable class, then all classes by probability."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    names = [sanitize(name) for name, _ in ranked]
    width = max(map(len, names))
    print(names[0])
    for name, (_, probability) in zip(names, ranked, strict=True):
        print(f"  {name:{width}}  {100 * probability:5.1f} %")


def predict_stream(options: PredictOptions) -> None:
    """Write one line of JSON or CSV for each row of `options.input`, in order.

    A row that cannot be used has an `error` in place of its label, and is listed on stderr.
    """
    source = cast(str, options.input)
    writer = _writer_of(options, source)
    rows = _rows(options, source)
    first = next(rows, None)  # a missing or unreadable file is reported before the model is loaded
    if first is None:
        raise DataError(f"{source}: contains no text")
    with fast_imports():
        from rnn_lab.inference.batch_predict import predict_rows
        from rnn_lab.inference.load import load_model

    run = load_model(options.run, options.device)
    total = 0
    bad: list[RowPrediction] = []
    bad_count = 0
    with _output(options.output) as file, _progress(options.output) as show:
        write = writer(file, run.class_names)
        for prediction in predict_rows(run, chain([first], rows), options.batch_size):
            write(prediction)
            show(total := total + 1)
            if prediction.error is not None:
                bad_count += 1
                bad = [*bad, prediction][:NAMED_LINES]
    _summarize(source, total, bad_count, bad)


def _rows(options: PredictOptions, source: str) -> Iterator[Record | BadRow]:
    stream: Path | BinaryIO = sys.stdin.buffer if source == "-" else _path(source)
    format = options.format or ("txt" if source == "-" else infer_format(source))
    return read_records(
        stream,
        format,
        labelled=False,
        encoding=options.encoding,
        text_column=options.text_column,
    )


def _path(name: str) -> Path:
    return Path(name).expanduser()


def _writer_of(options: PredictOptions, source: str) -> Callable[[TextIO, Sequence[str]], Write]:
    if options.output == "-":
        return _json_lines
    if source != "-" and _path(options.output).resolve() == _path(source).resolve():
        raise ConfigError(f"output={options.output}: is the input file; choose another name")
    writers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows}
    suffix = _path(options.output).suffix.lower()
    if suffix not in writers:
        choices = ", ".join([*writers, "- (JSON lines on stdout)"])
        raise ConfigError(f"output={options.output}: unknown extension. Choose from: {choices}")
    return writers[suffix]


def _json_lines(file: TextIO, class_names: Sequence[str]) -> Write:
    def write(prediction: "RowPrediction") -> None:
        line: dict[str, Any] = {"line": prediction.line}
        if prediction.id is not None:
            line["id"] = prediction.id
        if prediction.probabilities is None:
            line["error"] = prediction.error
        else:
            line["label"] = class_names[int(prediction.probabilities.argmax())]
            numbers = (float(str(number)) for number in prediction.probabilities)
            line["probabilities"] = dict(zip(class_names, numbers, strict=True))
        file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


def _csv_rows(file: TextIO, class_names: Sequence[str]) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["line", "id", "label", *(f"probability_{name}" for name in class_names), "error"]
    )

    def write(prediction: "RowPrediction") -> None:
        if prediction.probabilities is None:
            writer.writerow(
                [prediction.line, prediction.id, "", *([""] * len(class_names)), prediction.error]
            )
        else:
            label = class_names[int(prediction.probabilities.argmax())]
            numbers = [str(number) for number in prediction.probabilities]
            writer.writerow([prediction.line, prediction.id, label, *numbers, ""])

    return write


@contextmanager
def _output(output: str) -> Iterator[TextIO]:
    if output != "-":
        path = _path(output).resolve()
        lock = path.with_name(f".{path.name}.lock")
        is_file = path.is_file() or not path.exists()  # not a device, nor a pipe
        alone = locked(lock, f"output={output}") if is_file else nullcontext()
        with alone, atomic_write(path, newline="") as file:
            yield file
        return
    cast(Any, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout once more as it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has closed the pipe
            sys.exit(0)
        raise write_error(error, "standard output") from error


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


def _summarize(source: str, total: int, bad_count: int, bad: Sequence["RowPrediction"]) -> None:
    if bad_count == total:
        raise DataError(f"{source}:{bad[0].line}: {bad[0].error}; no line can be used")
    for prediction in bad:
        print(f"{source}:{prediction.line}: {prediction.error}", file=sys.stderr)
    if bad_count > len(bad):
        print(f"... and {bad_count - len(bad):,} more bad lines", file=sys.stderr)
    print(f"{total - bad_count:,} of {total:,} texts labelled", file=sys.stderr)
