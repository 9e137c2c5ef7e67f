"""Exported runs, one file each: .safetensors, which cannot contain code, or .onnx.

In a .safetensors file, the tensors are those of RecurrentClassifier, under its own names. Its
metadata holds the rest that predicting needs as JSON under one key: the parts of a checkpoint of
train.py, under the same names, the schema version, and a checksum. Any version of torch can read
such a file. `onnx_export.py` makes the other kind.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnn_lab.data.readers.records import ReadOptions, Record, RecordReader
from rnn_lab.errors import CheckpointError, ConfigError, DataError, sanitize
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import ExportOptions
from rnn_lab.inference.predictor import ONNX_SUFFIX
from rnn_lab.io.atomic import atomic_write, atomic_write_bytes
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION, schema_mismatch
from rnn_lab.paths import local_path
from rnn_lab.plugins import load_plugins, require_extra
from rnn_lab.reports.model_card import MARK, ExportedFile, model_card
from rnn_lab.reports.run_files import TOP_LOSSES, read_result
from rnn_lab.validation import validate

if TYPE_CHECKING:  # torch takes seconds to import: only once the options are valid
    from torch import Tensor

    from rnn_lab.inference.load import LoadedModel

USAGE = """Write a trained run as one file, and a model card beside it.

usage: rnn-lab export run=RUN [output=model.safetensors] [plugins=MODULE,...]
       rnn-lab export run=RUN output=model.onnx [texts=FILE] [plugins=MODULE,...]

RUN is a run folder, or a .ckpt or .safetensors file. The file contains the network, its vocabulary
and its class names.

  .safetensors  predict, eval and explain accept it as run=model.safetensors and give bit-identical
                predictions
  .onnx         predict reads it without torch, and ONNX Runtime in other languages. Before it is
                written, it is compared with the run: on the texts in FILE, else on the test texts
                in the run's folder. Needs pip install 'rnn-lab[onnx]'

The model card, model.onnx.md, has the data, metrics, baselines, seeds, versions and limits."""

SUFFIX = ".safetensors"
SUFFIXES = (SUFFIX, ONNX_SUFFIX)
MAX_TEXTS = 256  # that an .onnx file is compared on
_KEY = "rnn-lab"  # of the metadata. One key, because the library writes several in any order
_DIGEST = "sha256"
_PARTS = {"hyper_parameters", "TextDataModule"}


class Exported(NamedTuple):
    """The files that `export` wrote."""

    path: Path
    card: Path
    compared: str | None  # how an .onnx file compares with the run


def export(arguments: Sequence[str]) -> Exported:
    """Write the run of `run=...` to `output=...`, and its model card beside it.

    Raises:
        ConfigError: an argument is unknown or has an invalid value, the model card would replace
            a file of the user's, or an .onnx file cannot have the cell or pooling of the run.
        CheckpointError: the run cannot be read, or an .onnx file does not give its probabilities.
        DataError: `texts` cannot be read.
        WriteError: the file cannot be written.
    """
    from rnn_lab.overrides import read_text  # it imports Hydra, which rnn_lab.load does not need

    given = {
        name: value if name == "plugins" else read_text(value)
        for name, _, value in (argument.partition("=") for argument in arguments)
    }
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
        compared = _write_onnx(output, run, texts)
    else:
        write_safetensors(output, run.model.state_dict(), run.about)
    with atomic_write(card) as file:
        file.write(model_card(_describe(output, run, compared), _recorded_result(run)))
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


def _write_onnx(output: Path, run: "LoadedModel", texts: list[str] | None) -> str:
    """Write an .onnx file that gives the run's probabilities; return how they were compared."""
    from rnn_lab.inference.onnx_export import export_onnx

    where = "texts"
    if texts is None:
        where, texts = "test texts", _recorded_texts(run)
    content, compared = export_onnx(run, texts)
    with atomic_write_bytes(output) as file:
        file.write(content)
    real = compared.texts - compared.random
    if not real:
        where = "texts, since the run's folder has none (texts=FILE gives some)"
    return (
        f"compared with the run on {real:,} {where} and {compared.random} random sequences of "
        f"tokens: probabilities differ by at most {compared.difference:.1e}"
    )


def _run_folder(run: "LoadedModel") -> Path | None:
    folder = run.path.parent
    return folder.parent if folder.name == "checkpoints" else None


def _recorded_result(run: "LoadedModel") -> dict[str, Any] | None:
    """Return the run's result.json; None if it has none that can be read."""
    folder = _run_folder(run)
    try:
        return None if folder is None else read_result(folder)
    except CheckpointError:
        return None


def _recorded_texts(run: "LoadedModel") -> list[str]:
    """Return the test texts in the run's folder: those with the highest loss."""
    folder = _run_folder(run)
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
        thresholds=None if thresholds is None else thresholds.tolist(),
        tokenizer=encoder.vocabulary.tokenizer,
        vocab_size=encoder.vocab_size,
        max_length=encoder.max_length,
        truncation_side=encoder.truncation_side,
        compared=compared,
    )


def write_safetensors(
    path: Path, weights: Mapping[str, "Tensor"], about: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write a file for `read_safetensors`. The same run gives the same bytes.

    Args:
        path: the file, whole or absent.
        weights: of a RecurrentClassifier.
        about: the parts of a checkpoint beside its weights.

    Raises:
        WriteError: the file cannot be written; says why.
    """
    from safetensors.torch import save

    assert set(about) == _PARTS
    described: dict[str, Any] = {SCHEMA_KEY: SCHEMA_VERSION, **about}
    described |= {_DIGEST: digest(weights, described)}
    content = save(dict(weights), metadata={_KEY: json.dumps(described)})
    with atomic_write_bytes(path) as file:
        file.write(content)


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return a file's content in the form of a checkpoint; tensors stay in the file until used.

    Raises:
        CheckpointError: it is not such a file, has another schema version, or is damaged. The
            message does not have the path.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = sanitize(str(error).partition("\n")[0]) or type(error).__name__
        raise CheckpointError(f"cannot be read as safetensors: {reason}") from None
    is_ours = isinstance(about, dict) and (SCHEMA_KEY in about or set(about) > _PARTS)
    if is_ours and (mismatch := schema_mismatch(about.get(SCHEMA_KEY))):
        raise CheckpointError(mismatch)
    if not isinstance(about, dict) or set(about) != _PARTS | {SCHEMA_KEY, _DIGEST}:
        raise CheckpointError(f"has no description of a run under {_KEY!r} in its metadata")
    if about.pop(_DIGEST) != digest(weights, about):
        raise CheckpointError("damaged: its checksum does not match")
    return about | {"state_dict": weights}


def digest(weights: Mapping[str, "Tensor"], about: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of a file's content, to detect damage; it proves no origin."""
    import torch

    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
