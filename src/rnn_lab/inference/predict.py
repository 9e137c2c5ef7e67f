"""predict.py: label one text, or every row of a file or stream."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from rnn_lab.data.readers.records import RecordReader, text_error
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
    if checked.input is None:
        predict_text(checked)
    else:
        predict_stream(checked, checked.input)


def predict_text(options: PredictOptions) -> None:
    """Print the label of `options.text`, then the probability of every class."""
    text = check_text(options.text)
    # torch takes seconds to import: only once the options are valid.
    with fast_imports():
        from rnn_lab.inference.batch_predict import classify
        from rnn_lab.inference.load import load_model

    run = load_model(options.run, options.device)
    run.model.recurrent.use_numba = False  # numba takes a second to import: too long for one text
    (probabilities,) = classify(run, [run.text_encoder.encode(text)], batch_size=1)
    print_ranking(dict(zip(run.class_names, probabilities.tolist(), strict=True)))


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


def print_ranking(probabilities: Mapping[str, float]) -> None:
    """Print the most probable class, then all classes by probability."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    names = [sanitize(name) for name, _ in ranked]
    width = max(map(len, names))
    print(names[0])
    for name, (_, probability) in zip(names, ranked, strict=True):
        print(f"  {name:{width}}  {100 * probability:5.1f} %")


def predict_stream(options: PredictOptions, source: str) -> None:
    """Write one line of JSON or CSV for each row of `source`, in order.

    A row that cannot be used has an `error` in place of its label, and is listed on stderr.
    """
    writer = _writer_for(options.output, source)
    stream = sys.stdin.buffer if source == "-" else Path(source).expanduser()
    rows = iter(RecordReader(stream, options.read_options(), labelled=False))
    first = next(rows, None)  # a missing or unreadable file is reported before the model is loaded
    if first is None:
        raise DataError(f"{source}: contains no text")
    with fast_imports():
        from rnn_lab.inference.batch_predict import predict_rows
        from rnn_lab.inference.load import load_model

    run = load_model(options.run, options.device)
    total = bad_count = 0
    bad: list[RowPrediction] = []  # the first ones
    with _output(options.output) as file, _progress(options.output) as show:
        write = writer(file, run.class_names)
        for prediction in predict_rows(run, chain([first], rows), options.batch_size):
            write(prediction)
            show(total := total + 1)
            if prediction.error is not None:
                bad_count += 1
                bad = [*bad, prediction][:NAMED_LINES]
    if bad_count == total:
        raise DataError(f"{source}:{bad[0].line}: {bad[0].error}; no line can be used")
    for prediction in bad:
        print(f"{source}:{prediction.line}: {prediction.error}", file=sys.stderr)
    if bad_count > len(bad):
        print(f"... and {bad_count - len(bad):,} more bad lines", file=sys.stderr)
    print(f"{total - bad_count:,} of {total:,} texts labelled", file=sys.stderr)


def _writer_for(output: str, source: str) -> Callable[[TextIO, Sequence[str]], Write]:
    if output == "-":
        return _json_lines
    path = Path(output).expanduser()
    if source != "-" and path.resolve() == Path(source).expanduser().resolve():
        raise ConfigError(f"output={output}: is the input file; choose another name")
    writers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows}
    if path.suffix.lower() not in writers:
        choices = ", ".join([*writers, "- (JSON lines on stdout)"])
        raise ConfigError(f"output={output}: unknown extension. Choose from: {choices}")
    return writers[path.suffix.lower()]


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
    probabilities = [f"probability_{name}" for name in class_names]
    writer.writerow(["line", "id", "label", *probabilities, "error"])

    def write(prediction: "RowPrediction") -> None:
        label, numbers = "", [""] * len(class_names)
        if prediction.probabilities is not None:
            label = class_names[int(prediction.probabilities.argmax())]
            numbers = [str(number) for number in prediction.probabilities]
        writer.writerow([prediction.line, prediction.id, label, *numbers, prediction.error])

    return write


@contextmanager
def _output(output: str) -> Iterator[TextIO]:
    if output != "-":
        path = Path(output).expanduser().resolve()
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
