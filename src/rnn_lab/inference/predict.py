"""predict.py: label one text, or every row of a file or stream."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

from rnn_lab.data.readers.records import text_error
from rnn_lab.errors import ConfigError, DataError, sanitize
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.documents import Documents, find_documents
from rnn_lab.inference.input_files import names_several
from rnn_lab.inference.labelling import OUTPUTS, check_output_file, label_rows, output_lock
from rnn_lab.inference.prediction_files import ParquetTable
from rnn_lab.inference.run_loader import LazyRun
from rnn_lab.io.locks import locked
from rnn_lab.io.streams import printing_results
from rnn_lab.paths import local_path
from rnn_lab.plugins import require_extra
from rnn_lab.validation import validate

if TYPE_CHECKING:
    import numpy as np

    from rnn_lab.inference.predictor import Predictor

NO_LABEL = "(no label)"


def predict(options: dict[str, Any]) -> None:
    """Label one `text`, as a table for people, or every row of `input`, as JSON, CSV or Parquet.

    Of several files, or of a `shard` of them, `output` is a folder; of files that are one text
    each, it may be one table.

    Raises:
        UserError: an option, the run or the input cannot be used, or no row of the input can.
    """
    checked = validate(PredictOptions, options)
    run = LazyRun(checked)
    if checked.input is None:
        predict_text(run)
    elif isinstance(checked.input, str) and not _has_output_folder(checked, checked.input):
        predict_stream(run, checked.input)
    elif (documents := find_documents(run)) is not None:
        predict_documents(run, documents)
    elif checked.engine == "ray":
        from rnn_lab.inference.predict_ray import predict_on_ray

        predict_on_ray(checked)
    else:
        from rnn_lab.inference.predict_files import predict_files

        predict_files(run)


def _has_output_folder(options: PredictOptions, source: str) -> bool:
    """Return whether `output` is a folder with one file for each of the input."""
    return options.is_divided or names_several(source)


def predict_text(run: LazyRun) -> None:
    """Print the label or labels of the option `text`, then the probability of every class."""
    text = check_text(run.options.text)
    predictor = run.predictor
    (probabilities,) = predictor.probabilities([predictor.encode(text)])
    with printing_results():
        print_prediction(predictor, probabilities, run.options.top_k)


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


def predict_stream(run: LazyRun, source: str) -> None:
    """Write what each row of `source` has with its prediction, in order, see prediction_files.

    A row that cannot be used has an `error` in place of its label, and is listed on stderr.
    """
    options = run.options
    _check_output(options.output, source, overwrite=options.overwrite)
    path = local_path(source)
    if source != "-" and path.exists() and not path.is_file():  # it could not be read twice
        raise DataError(f"{source}: not a regular file; input=- reads a pipe")
    reader = run.reader(sys.stdin.buffer if source == "-" else path)
    rows = iter(reader)
    first = next(rows, None)  # a missing or unreadable file is reported before the model is loaded
    if first is None:
        raise DataError(f"{source}: contains no text")
    predictor = run.predictor
    with _locked_output(options.output):
        label_rows(predictor, reader, chain([first], rows), options, source, options.output)


def predict_documents(run: LazyRun, documents: Documents) -> None:
    """Write one row with the name and the prediction of each file."""
    options = run.options
    _check_output(options.output, "-", overwrite=options.overwrite)
    predictor, source = run.predictor, ", ".join(options.inputs)
    with _locked_output(options.output):
        label_rows(predictor, documents, documents, options, sanitize(source), options.output)


def _check_output(output: str, source: str, *, overwrite: bool) -> None:
    """Raise a ConfigError if predictions cannot be written to `output`."""
    if output == "-":
        return
    path = local_path(output)
    if source != "-" and path.resolve() == local_path(source).resolve():
        raise ConfigError(f"output={output}: is the input file; choose another name")
    if path.suffix.lower() not in OUTPUTS:
        choices = ", ".join([*OUTPUTS, "- (JSON lines on stdout)"])
        raise ConfigError(f"output={output}: unknown extension. Choose from: {choices}")
    if OUTPUTS[path.suffix.lower()] is ParquetTable:
        require_extra("files", f"output={output}", needs="pyarrow")
    check_output_file(path, f"output={output}", overwrite=overwrite)


@contextmanager
def _locked_output(output: str) -> Iterator[None]:
    path = local_path(output).resolve()
    is_file = path.is_file() or not path.exists()  # not a device, nor a pipe
    is_lockable = output != "-" and is_file
    with locked(output_lock(path), f"output={output}") if is_lockable else nullcontext():
        yield
