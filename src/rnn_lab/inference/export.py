"""Write a run as one file, and a model card beside it."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnn_lab.data.readers.records import ReadOptions, Record, RecordReader
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import ExportOptions
from rnn_lab.io import safetensors_file
from rnn_lab.io.atomic import atomic_write, atomic_write_bytes
from rnn_lab.io.replace import check_replaceable
from rnn_lab.io.safetensors_file import SUFFIX, pack_safetensors
from rnn_lab.paths import local_path
from rnn_lab.plugins import load_plugins, require_extra
from rnn_lab.reports.model_card import MARK, ExportedFile, model_card
from rnn_lab.runs.predictions import TOP_LOSSES
from rnn_lab.runs.result_json import read_result
from rnn_lab.runs.run_folder import ONNX_SUFFIX, run_folder
from rnn_lab.validation import validate

if TYPE_CHECKING:  # torch takes seconds to import: only once the options are valid
    from rnn_lab.inference.load import LoadedModel

USAGE = """Write a trained run as one file, and a model card beside it.

usage: rnn-lab export run=RUN [output=model.safetensors] [overwrite=true] [plugins=MODULE,...]
       rnn-lab export run=RUN output=model.onnx [texts=FILE] [overwrite=true] [plugins=MODULE,...]

RUN is a run folder, or a .ckpt or .safetensors file. The file contains the network, its vocabulary
and its class names.

  .safetensors  predict, eval, explain and serve accept it as run=model.safetensors and give
                bit-identical predictions
  .onnx         predict and serve accept it, predict without torch; ONNX Runtime reads it in other
                languages. Before it is written, it is compared with the run: on the texts in
                FILE, else on the test texts in the run's folder. Needs
                pip install '<clone or wheel>[onnx]'

overwrite=true replaces the export of another run.
The model card, model.onnx.md, has the data, metrics, baselines, seeds, versions and limits."""

SUFFIXES = (SUFFIX, ONNX_SUFFIX)
MAX_TEXTS = 256  # that an .onnx file is compared on


class Exported(NamedTuple):
    """The files that `export` wrote."""

    path: Path
    card: Path
    compared: str | None  # how an .onnx file compares with the run


def export(arguments: Sequence[str]) -> Exported:
    """Write the run of `run=...` to `output=...`, and its model card beside it.

    Raises:
        ConfigError: an argument is unknown, repeated or has an invalid value, `output` or the model
            card would replace a file of the user's or the export of another run, or an .onnx file
            cannot have the run's cell or pooling.
        CheckpointError: the run cannot be read, or an .onnx file does not give its probabilities.
        DataError: `texts` cannot be read.
        WriteError: the file cannot be written.
    """
    from rnn_lab.overrides import parse_arguments  # imports Hydra, which rnn_lab.load does not need

    given = parse_arguments(arguments, [*ExportOptions.model_fields])
    plugins = given.pop("plugins", "").strip("[]")
    options = validate(ExportOptions, given)
    output = local_path(options.output)
    card = output.with_name(f"{output.name}.md")
    _check_options(options, output, card)
    with fast_imports():
        from rnn_lab.inference.load import load_model

    load_plugins([name.strip() for name in plugins.split(",")] if plugins else [])
    texts = None if options.texts is None else _read_texts(local_path(options.texts))
    run = load_model(options.run)
    compared = None
    if output.suffix == ONNX_SUFFIX:
        content, compared = _pack_onnx(run, texts)
    else:
        content = pack_safetensors(run.model.state_dict(), run.about)
    if not options.overwrite:
        _check_same_model(options, output, content)
    with atomic_write_bytes(output) as file:
        file.write(content)
    with atomic_write(card) as text_file:
        text_file.write(model_card(_describe(output, run, compared), _recorded_result(run)))
    return Exported(output, card, compared)


def _check_options(options: ExportOptions, output: Path, card: Path) -> None:
    if output.suffix not in SUFFIXES:
        choices = ", ".join(SUFFIXES)
        raise ConfigError(f"output={options.output}: unknown extension. Choose from: {choices}")
    if output.suffix == ONNX_SUFFIX:
        require_extra("onnx", f"output={options.output}")
    elif options.texts is not None:
        raise ConfigError(f"texts={options.texts}: only an .onnx file is compared with the run")
    if output.is_dir():
        raise ConfigError(f"output={options.output}: is a folder; add a file name")
    check_replaceable(output, f"output={options.output}", "an exported file", _is_ours)
    try:
        with card.open(encoding="utf-8", errors="replace") as file:
            is_ours = file.readline(len(MARK) + 2).rstrip() == MARK
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"output={options.output}: {card}: {error.strerror}") from None
    if not is_ours:
        raise ConfigError(
            f"output={options.output}: the model card would replace {card}, which no export wrote; "
            "choose another name"
        )


def _is_ours(path: Path) -> bool:
    if path.suffix == SUFFIX:
        return safetensors_file.is_ours(path)
    from rnn_lab.inference import onnx_model

    return onnx_model.is_ours(path)


def _check_same_model(options: ExportOptions, output: Path, content: bytes) -> None:
    """Raise a ConfigError if `output` is an export of another run."""
    if not output.is_file() or not (size := output.stat().st_size):
        return
    if size != len(content) or output.read_bytes() != content:
        raise ConfigError(
            f"output={options.output}: exists and is the export of another run, or of another "
            "state of this one; choose another name, or overwrite=true"
        )


def _pack_onnx(run: "LoadedModel", texts: list[str] | None) -> tuple[bytes, str]:
    """Return an .onnx file that gives the run's probabilities, and how they were compared."""
    from rnn_lab.inference.onnx_export import export_onnx

    where = "texts"
    if texts is None:
        where, texts = "test texts", _recorded_texts(run)
    content, compared = export_onnx(run, texts)
    real = compared.texts - compared.random
    if not real:
        where = "texts, since the run's folder has none (texts=FILE gives some)"
    return content, (
        f"compared with the run on {real:,} {where} and {compared.random} random sequences of "
        f"tokens: probabilities differ by at most {compared.difference:.1e}"
    )


def _recorded_result(run: "LoadedModel") -> dict[str, Any] | None:
    """Return the run's result.json; None if it has none that can be read."""
    folder = run_folder(run.path)
    try:
        return None if folder is None else read_result(folder)
    except CheckpointError:
        return None


def _recorded_texts(run: "LoadedModel") -> list[str]:
    """Return the test texts in the run's folder: those with the highest loss."""
    folder = run_folder(run.path)
    try:
        return [] if folder is None else _read_texts(folder / TOP_LOSSES, text_column="text")
    except DataError:
        return []


def _read_texts(path: Path, text_column: str | None = None) -> list[str]:
    """Return the first texts of a file.

    Raises:
        DataError: it cannot be read, or has no text.
    """
    rows = RecordReader(path, ReadOptions(text_column=text_column), labelled=False)
    texts = [row.text for row in islice(rows, MAX_TEXTS) if isinstance(row, Record)]
    if not texts:
        raise DataError(f"{path}: contains no text")
    return texts


def _describe(output: Path, run: "LoadedModel", compared: str | None) -> ExportedFile:
    with output.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    encoder, thresholds = run.text_encoder, run.thresholds
    return ExportedFile(
        name=output.name,
        num_bytes=output.stat().st_size,
        sha256=checksum,
        cell=run.cell,
        class_names=run.class_names,
        temperature=run.temperature,
        thresholds=None if thresholds is None else thresholds.tolist(),
        tokenizer=encoder.vocabulary.name,
        vocab_size=encoder.vocab_size,
        max_length=encoder.max_length,
        truncation_side=encoder.truncation_side,
        compared=compared,
    )
