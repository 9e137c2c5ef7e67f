"""Your own labelled texts: CSV, TSV, JSONL, or a folder with one folder per class."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rnn_lab.data.cache import build_once
from rnn_lab.data.corpus import Corpus, CorpusWriter, open_corpus, stat_key
from rnn_lab.data.options import Fraction, TextOptions
from rnn_lab.data.readers.records import BadRow, infer_format, read_records, text_error
from rnn_lab.data.sources.registry import register_source
from rnn_lab.data.splits import stratified
from rnn_lab.errors import ConfigError, DataError

# The options that decide what is read from the files: part of the cache key.
_READING = {
    *("train_path", "val_path", "test_path", "test_fraction", "split_seed"),
    *("text_column", "label_column", "class_names", "encoding", "on_bad_lines"),
}


class FilesConfig(TextOptions):
    """The options of files. conf/data/files.yaml explains each."""

    source: Literal["files"] = "files"
    train_path: str | None = None
    val_path: str | None = None
    val_split: Literal["stratified", "random"] = "stratified"
    test_path: str | None = None
    test_fraction: Fraction = 0.2
    text_column: str | None = None
    label_column: str | None = None
    class_names: list[str] | None = None
    encoding: str = "utf-8"
    on_bad_lines: Literal["error", "skip"] = "error"


@dataclass(frozen=True)
class _Row:
    """One row of one file. It is usable if `fault` is empty."""

    place: str  # for a message: "data/reviews.csv:12"
    name: str  # for a table: "reviews.csv:12"
    text: str = ""
    label: str = ""
    fault: str = ""


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
        raise ConfigError(
            "data=files needs data.train_path=<a .csv, .tsv, .jsonl or folder of classes>"
        )
    paths = {"train": config.train_path, "validation": config.val_path, "test": config.test_path}
    given = {name: Path(path).expanduser() for name, path in paths.items() if path is not None}
    files = (file.absolute() for path in given.values() for file in _files_of(path))
    folder = Path(config.cache_dir) / f"files-{stat_key(files, _options_key(config))}"
    return open_corpus(build_once(folder, lambda partial: _write(given, config, partial)))


def _options_key(config: FilesConfig) -> str:
    return config.model_dump_json(include=_READING)


def _write(paths: dict[str, Path], config: FilesConfig, folder: Path) -> None:
    """Copy every usable row of the files into `folder`, in one pass."""
    classes: Sequence[str] | None = config.class_names
    rows: dict[str, np.ndarray] = {}
    labels: list[np.ndarray] = []
    with CorpusWriter(folder) as corpus:
        for name, path in paths.items():
            first = corpus.rows
            labels_of_split, classes = _copy_rows(path, corpus, classes, config)
            rows[name] = np.arange(first, corpus.rows)
            labels.append(labels_of_split)
        assert classes is not None
        every_label = np.concatenate(labels)
        if "train" not in rows:
            rows["train"] = np.arange(0)
        else:
            _check_classes(paths["train"], every_label[rows["train"]], classes)
        if "test" not in rows:
            test = _test_rows(paths["train"], every_label[rows["train"]], config)
            rows["test"], rows["train"] = rows["train"][test], rows["train"][~test]
        corpus.finish("files", classes, rows=rows, labels=every_label)


def _copy_rows(
    path: Path, corpus: CorpusWriter, classes: Sequence[str] | None, config: FilesConfig
) -> tuple[np.ndarray, Sequence[str]]:
    """Copy the usable rows of `path`; without `classes`, the labels found are the classes.

    Returns:
        The label of each row copied, int64 [rows]; the classes.
    """
    number_of_label: dict[str, int] = {}  # in order of first appearance
    numbers = array("I")  # of the label of each row
    first_skipped = ""
    for row in _rows(path, config):
        fault = row.fault
        if not fault and classes is not None and row.label not in classes:
            fault = f"unknown label {row.label!r}; the classes are: {', '.join(classes)}"
        if not fault:
            corpus.append(row.text, row.name)
            numbers.append(number_of_label.setdefault(row.label, len(number_of_label)))
        elif config.on_bad_lines == "skip":
            corpus.skip(f"{row.name}: {fault}")
            first_skipped = first_skipped or f"; the first skipped: {row.name}: {fault}"
        else:
            hint = "(data.on_bad_lines=skip skips such rows)"
            raise DataError(f"{row.place}: {fault} {hint}")
    if not numbers:
        raise DataError(f"{path}: has no usable rows{first_skipped}")
    if classes is None:
        classes = _sorted_labels(set(number_of_label))
    index = {label: i for i, label in enumerate(classes)}
    index_of_number = np.array([index[label] for label in number_of_label], dtype=np.int64)
    return index_of_number[np.asarray(numbers)], classes


def _sorted_labels(labels: set[str]) -> list[str]:
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def _check_classes(path: Path, labels: np.ndarray, classes: Sequence[str]) -> None:
    missing = [label for i, label in enumerate(classes) if not np.any(labels == i)]
    if missing:
        raise DataError(f"{path}: has no rows of the class {missing[0]!r}")
    if len(classes) < 2:
        raise DataError(f"{path}: has one class only, {classes[0]!r}; two or more are needed")


def _test_rows(path: Path, labels: np.ndarray, config: FilesConfig) -> np.ndarray:
    """Return a mask, bool [rows], of the training rows that become the test split."""
    held_out = stratified(labels, config.test_fraction, config.split_seed)
    if not held_out.any():
        raise DataError(f"{path}: {len(labels)} rows are too few to split off a test split")
    return held_out


def _rows(path: Path, config: FilesConfig) -> Iterator[_Row]:
    if path.is_dir():
        yield from _folder_rows(path, config.encoding)
        return
    records = read_records(
        path,
        infer_format(path),
        labelled=True,
        encoding=config.encoding,
        text_column=config.text_column,
        label_column=config.label_column,
    )
    for record in records:
        place, name = f"{path}:{record.line}", f"{path.name}:{record.line}"
        if isinstance(record, BadRow):
            yield _Row(place, name, fault=record.reason)
        else:
            assert record.label is not None
            yield _Row(place, name, record.text, record.label)


def _folder_rows(folder: Path, encoding: str) -> Iterator[_Row]:
    """Yield one row per file. Its label is the name of its folder."""
    for file in _files_of(folder):
        label = file.parent.name
        place, name = str(file), f"{label}/{file.name}"
        try:
            text = file.read_bytes().decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            yield _Row(place, name, fault=f"is not {encoding}: byte 0x{byte:02x}")
            continue
        except LookupError as error:
            raise DataError(f"{folder}: no such text encoding: {encoding!r}") from error
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
        yield _Row(place, name, text, label, fault=text_error(text, encoding) or "")


def _files_of(path: Path) -> Iterator[Path]:
    """Yield the file itself, or the texts of a folder of classes, sorted by class and name."""
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if infer_format(path) == "txt":
            raise DataError(f"{path}: plain text has no labels; use .csv, .tsv or .jsonl")
        yield path
        return
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise DataError(
            f"{path}: needs two or more folders, one per class, with .txt files in each; "
            f"found {len(folders)}"
        )
    for folder in folders:
        # Names, not Paths: there may be hundreds of thousands, and a Path is ten times larger.
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".txt"))
        if not names:
            raise DataError(f"{folder}: contains no .txt files")
        for name in names:
            yield folder / name
