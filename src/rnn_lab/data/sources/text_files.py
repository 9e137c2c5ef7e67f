"""The user's own labelled texts: CSV, TSV, JSONL, or a folder with one folder a class."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rnn_lab.data.cache import build_once
from rnn_lab.data.config import FilesConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.corpus_storage import content_fingerprint, open_corpus, stat_key, write_corpus
from rnn_lab.data.readers.records import BadRow, infer_format, read_records, text_error
from rnn_lab.data.splits import stratified
from rnn_lab.data.text_storage import MemmapTexts, TextWriter
from rnn_lab.errors import ConfigError, DataError


@dataclass(frozen=True)
class _Row:
    """One row of one file: usable where `fault` is empty."""

    place: str  # where it stands, for a message: "data/reviews.csv:12"
    name: str  # the same, shorter, for tables: "reviews.csv:12"
    text: str = ""
    label: str = ""
    fault: str = ""


def load_files(config: FilesConfig) -> Corpus:
    """The labelled texts of `config.train`, and of `validation` and `test` where they are paths.

    Without a test path, a stratified `test_fraction` of the training rows becomes the test split.
    Classes are those of `class_names`, or the labels of the training rows in sorted order (numbers
    by value). Without a training path, a test path and `class_names` make a corpus to test on: its
    training split is empty. Parsed once, then opened from the cache until a file changes.

    Raises:
        ConfigError: neither a training path, nor a test path with class names.
        DataError: a file is missing or has no usable rows or columns, there are fewer than two
            classes, or, with `on_bad_lines="error"`, a row is broken. With "skip" such rows are
            listed in `Corpus.skipped`.
    """
    if config.train is None and (config.test is None or config.class_names is None):
        raise ConfigError("data=files needs data.train=<a .csv, .tsv, .jsonl or folder of classes>")
    paths = {"train": config.train, "validation": _validation_path(config), "test": config.test}
    given = {name: Path(path).expanduser() for name, path in paths.items() if path is not None}
    files = (file.absolute() for path in given.values() for file in _files_of(path))
    options = config.model_dump_json(exclude={"cache_dir", "batch_size", "eval_batch_size"})
    folder = Path(config.cache_dir) / f"files-{stat_key(files, options)}"
    return open_corpus(build_once(folder, lambda partial: _store(given, config, partial)))


def _validation_path(config: FilesConfig) -> str | None:
    return None if config.validation in ("stratified", "random") else config.validation


def _store(paths: dict[str, Path], config: FilesConfig, folder: Path) -> None:
    """Write the corpus into `folder`: rows as they are read, then each split on its own."""
    with TemporaryDirectory(dir=folder) as rows:
        write_corpus(_parse(paths, config, Path(rows)), folder)


def _parse(paths: dict[str, Path], config: FilesConfig, folder: Path) -> Corpus:
    """Read every row; the texts stay in `folder`."""
    classes: Sequence[str] | None = config.class_names
    splits: dict[str, Split] = {}
    with TextWriter(folder, "skipped") as skipped:
        for name in ("train", "validation", "test"):
            if name in paths:
                splits[name], classes = _read_split(
                    paths[name], folder / name, classes, config, skipped
                )
    assert classes is not None
    if "train" not in splits:
        splits["train"] = splits["test"].take(np.arange(0))
    else:
        _check_classes(paths["train"], splits["train"], classes)
    if "test" not in splits:
        splits["train"], splits["test"] = _cut_test(paths["train"], splits["train"], config)
    train, validation, test = splits["train"], splits.get("validation"), splits["test"]
    return Corpus(
        name="files",
        class_names=tuple(classes),
        train=train,
        validation=validation,
        test=test,
        fingerprint=content_fingerprint(classes, [train, validation, test]),
        skipped=MemmapTexts.open(folder, "skipped"),
    )


def _read_split(
    path: Path,
    folder: Path,
    classes: Sequence[str] | None,
    config: FilesConfig,
    skipped: TextWriter,
) -> tuple[Split, Sequence[str]]:
    """Write every row into `folder`; where `classes` is None, the labels found are the classes."""
    folder.mkdir()
    number_of_label: dict[str, int] = {}  # in order of first appearance
    numbers = array("I")  # of each row's label
    first_skipped = ""
    with TextWriter(folder, "texts") as texts, TextWriter(folder, "names") as names:
        for row in _rows(path, config):
            fault = row.fault
            if not fault and classes is not None and row.label not in classes:
                fault = f"unknown label {row.label!r}; the classes are: {', '.join(classes)}"
            if not fault:
                texts.append(row.text)
                names.append(row.name)
                numbers.append(number_of_label.setdefault(row.label, len(number_of_label)))
            elif config.on_bad_lines == "skip":
                skipped.append(f"{row.name}: {fault}")
                first_skipped = first_skipped or f"; the first skipped: {row.name}: {fault}"
            else:
                hint = "(data.on_bad_lines=skip passes such rows over)"
                raise DataError(f"{row.place}: {fault} {hint}")
    if not numbers:
        raise DataError(f"{path}: has no usable rows{first_skipped}")
    if classes is None:
        classes = _sorted_labels(set(number_of_label))
    index = {label: i for i, label in enumerate(classes)}
    index_of_number = np.array([index[label] for label in number_of_label], dtype=np.int64)
    return Split(
        texts=MemmapTexts.open(folder, "texts"),
        labels=index_of_number[np.asarray(numbers)],
        names=MemmapTexts.open(folder, "names"),
    ), classes


def _sorted_labels(labels: set[str]) -> list[str]:
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def _check_classes(path: Path, train: Split, classes: Sequence[str]) -> None:
    missing = [label for i, label in enumerate(classes) if not np.any(train.labels == i)]
    if missing:
        raise DataError(f"{path}: has no rows of the class {missing[0]!r}")
    if len(classes) < 2:
        raise DataError(f"{path}: has one class only, {classes[0]!r}; two or more are needed")


def _cut_test(path: Path, train: Split, config: FilesConfig) -> tuple[Split, Split]:
    held_out = stratified(train.labels, config.test_fraction, config.split_seed)
    if not held_out.any():
        raise DataError(f"{path}: {len(train)} rows are too few to cut a test split from")
    return train.take(np.flatnonzero(~held_out)), train.take(np.flatnonzero(held_out))


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
    """One row a file; the folder that a file lies in is its label."""
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
            raise DataError(f"{folder}: there is no text encoding {encoding!r}") from error
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
        yield _Row(place, name, text, label, fault=text_error(text, encoding) or "")


def _files_of(path: Path) -> Iterator[Path]:
    """The file itself, or the texts of a folder of classes, sorted by class and name."""
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder")
        if infer_format(path) == "txt":
            raise DataError(f"{path}: plain text has no labels; use .csv, .tsv or .jsonl")
        yield path
        return
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise DataError(
            f"{path}: holds {len(folders)} folders; a folder of texts needs one folder a class, "
            "two or more, each holding .txt files"
        )
    for folder in folders:
        # By name, not by Path: there may be hundreds of thousands, and a Path takes ten times more.
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".txt"))
        if not names:
            raise DataError(f"{folder}: holds no .txt files")
        for name in names:
            yield folder / name
