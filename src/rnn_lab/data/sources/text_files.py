"""Your own labelled texts, in the files as you have them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import StrictBool, field_validator

from rnn_lab.data.cache import build_once
from rnn_lab.data.corpus import Corpus, CorpusWriter, open_corpus, stat_key
from rnn_lab.data.options import Fraction, TextOptions
from rnn_lab.data.readers.columns import shorten
from rnn_lab.data.readers.config import Column, Delimiter, Quotechar, read_options
from rnn_lab.data.readers.encoding import encoding_hint
from rnn_lab.data.readers.formats import Format
from rnn_lab.data.readers.labels import LabelEncoder, label_text
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.sources.file_sets import FileSet, Row, find_file_set
from rnn_lab.data.sources.registry import register_source
from rnn_lab.data.splits import stratified
from rnn_lab.errors import ConfigError, DataError

# The options that decide what is read from the files: part of the cache key.
_READING = {
    *("train_path", "val_path", "test_path", "test_fraction", "split_seed", "format"),
    *("header", "columns", "delimiter", "quotechar", "text_column", "label_column"),
    *("class_names", "encoding", "on_bad_lines"),
}


class FilesConfig(TextOptions):
    """The options of files. conf/data/files.yaml explains each."""

    source: Literal["files"] = "files"
    train_path: str | list[str] | None = None
    val_path: str | list[str] | None = None
    val_split: Literal["stratified", "random"] = "stratified"
    test_path: str | list[str] | None = None
    test_fraction: Fraction = 0.2
    format: Format | None = None
    header: StrictBool | Literal["auto"] = "auto"
    columns: list[Column] | None = None
    delimiter: Delimiter | None = None
    quotechar: Quotechar | None = None
    text_column: Column | list[Column] | None = None
    label_column: Column | None = None
    class_names: list[str] | None = None
    encoding: str = "auto"
    on_bad_lines: Literal["error", "skip"] = "error"

    @field_validator("class_names", mode="before")
    @classmethod
    def _as_labels(cls, names: Any) -> Any:
        """Spell numbers and booleans as the files do: [0,1] are the labels "0" and "1"."""
        if not isinstance(names, list):
            return names
        is_number = (isinstance(name, bool | int | float) for name in names)
        return [label_text(name) if n else name for n, name in zip(is_number, names, strict=True)]


@register_source("files", FilesConfig)
def load_files(config: FilesConfig) -> Corpus:
    """Load the texts of `train_path`, and of `val_path` and `test_path` where they are given.

    Without `test_path`, a stratified `test_fraction` of the training rows becomes the test split.
    The classes are `class_names`, or the labels of the training rows in sorted order (numbers by
    value). Without `train_path`, `test_path` and `class_names` give a corpus for testing: its
    training split is empty. The first call parses the files, later calls open the cache until a
    file changes.

    Raises:
        ConfigError: there is no training path, and no test path with class names.
        DataError: a file is missing or has no usable rows or columns, or there are fewer than two
            classes, or a row is malformed and on_bad_lines="error". With "skip", such rows are
            listed in `Corpus.skipped`.
    """
    if config.train_path is None and (config.test_path is None or config.class_names is None):
        raise ConfigError("data=files needs data.train_path=<file or folder of labelled texts>")
    paths = {"train": config.train_path, "validation": config.val_path, "test": config.test_path}
    options = read_options(config, prefix="data.")
    sets = {
        name: find_file_set(path, options, _OPTIONS[name])
        for name, path in paths.items()
        if path is not None
    }
    files = (file.absolute() for texts in sets.values() for file in texts.files())
    folder = Path(config.cache_dir) / f"files-{stat_key(files, _options_key(config))}"
    return open_corpus(build_once(folder, lambda partial: _write(sets, config, partial)))


_OPTIONS = {"train": "data.train_path", "validation": "data.val_path", "test": "data.test_path"}


def _options_key(config: FilesConfig) -> str:
    return config.model_dump_json(include=_READING)


def _write(sets: dict[str, FileSet], config: FilesConfig, folder: Path) -> None:
    """Copy every usable row of the files into `folder`, in one pass."""
    classes: Sequence[str] | None = config.class_names
    rows: dict[str, np.ndarray] = {}
    labels: list[np.ndarray] = []
    like = None
    with CorpusWriter(folder) as corpus:
        for name, texts in sets.items():
            first = corpus.rows
            encoder = LabelEncoder(classes)
            _copy_rows(texts, corpus, encoder, config, like)
            labels_of_split, classes = encoder.finish()
            rows[name] = np.arange(first, corpus.rows)
            labels.append(labels_of_split)
            like = like or texts.read_info
        assert classes is not None
        every_label = np.concatenate(labels)
        if "train" not in rows:
            rows["train"] = np.arange(0)
        else:
            check_classes(sets["train"].path, every_label[rows["train"]], classes)
        if "test" not in rows:
            held_out = split_test(
                sets["train"].path,
                every_label[rows["train"]],
                config.test_fraction,
                config.split_seed,
            )
            rows["test"], rows["train"] = rows["train"][held_out], rows["train"][~held_out]
        info = {
            _OPTIONS[name].removeprefix("data."): {"path": texts.path} | texts.info
            for name, texts in sets.items()
        }
        corpus.finish("files", classes, rows=rows, labels=every_label, source_info=info)


def _copy_rows(
    texts: FileSet,
    corpus: CorpusWriter,
    encoder: LabelEncoder,
    config: FilesConfig,
    like: ReadInfo | None,
) -> None:
    """Copy the usable rows of `texts`, and their labels into `encoder`."""
    first_skipped = ""
    for row in texts.rows(like):
        fault = row.fault or encoder.fault(row.label)
        if not fault:
            corpus.append(row.text, row.name)
            encoder.add(row.label)
            if encoder.has_many_classes:
                raise _not_classes(texts, encoder)
        elif config.on_bad_lines == "skip":
            corpus.skip(f"{row.name}: {fault}")
            first_skipped = first_skipped or f"; the first skipped: {row.name}: {fault}"
        else:
            hint = _encoding_hint(texts, row) or "(data.on_bad_lines=skip skips such rows)"
            raise DataError(f"{row.place}: {fault} {hint}")
    if not len(encoder):
        raise DataError(f"{texts.path}: has no usable rows{first_skipped}")
    if encoder.problem:
        raise _not_classes(texts, encoder)


def _not_classes(texts: FileSet, encoder: LabelEncoder) -> DataError:
    columns = texts.read_info.columns if texts.read_info else None
    what, advice = "has", "set data.class_names=[...] if they are classes"
    if columns is not None and columns.label is not None:
        what = f"the column {columns.label!r} has"
        others = [name for name in columns.names if name not in columns.wanted]
        if others:
            listed = ", ".join(map(shorten, others[:20]))
            advice = f"set data.label_column to another column ({listed}), or {advice[4:]}"
    return DataError(f"{texts.path}: {what} {encoder.problem}; {advice}")


def _encoding_hint(texts: FileSet, row: Row) -> str | None:
    """Return which encoding decodes the file of a row that was decoded wrongly."""
    file_of_row = re.sub(r":[0-9]+$", "", row.place)
    path = next((file for file in texts.files() if str(file) in (row.place, file_of_row)), None)
    return None if path is None else encoding_hint(path, row.fault, "data.")


def check_classes(path: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise a DataError if a class has no rows, or there are fewer than two."""
    missing = [label for i, label in enumerate(classes) if not np.any(labels == i)]
    if missing:
        raise DataError(f"{path}: has no rows of the class {missing[0]!r}")
    if len(classes) < 2:
        raise DataError(f"{path}: has one class only, {classes[0]!r}; two or more are needed")


def split_test(path: str, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask, bool [rows], of the training rows that become the test split."""
    held_out = stratified(labels, fraction, seed)
    if not held_out.any():
        raise DataError(f"{path}: {len(labels)} rows are too few to split off a test split")
    return held_out
