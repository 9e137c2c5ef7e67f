"""Your own labelled texts, in the files as you have them."""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from rnn_lab.data.cache import build_once, stat_key
from rnn_lab.data.corpus import Corpus, CorpusWriter, open_corpus
from rnn_lab.data.options import Fraction, TextOptions
from rnn_lab.data.readers.columns import shorten
from rnn_lab.data.readers.config import Column, ReadConfig, Separator, read_options
from rnn_lab.data.readers.encoding import encoding_hint, mixed_encoding_hint
from rnn_lab.data.readers.labels import (
    LIST,
    LabelEncoder,
    LabelSetEncoder,
    canonical_label,
    encoder_for,
    find_joined_labels,
    option_label,
)
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.readers.records import EMPTY_LABEL
from rnn_lab.data.sources.file_sets import FileSet, Row, find_file_set
from rnn_lab.data.sources.registry import register_source
from rnn_lab.data.splits import ONLY_ONE, assign_folds, hold_out_groups, stratified
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.validation import AUTO, FilePath, OrAuto, Text

# The options that decide what is read from the files: part of the cache key.
_READING = {
    *("train_path", "val_path", "test_path", "test_fraction", "split_seed", "format"),
    *("header", "columns", "delimiter", "quotechar", "text_column", "label_column"),
    *("class_names", "encoding", "on_bad_lines", "group_column", "folds", "fold"),
    "label_separator",
}
_RULES = 2  # part of the cache key; raise it when the same files are read, or split, differently


class FilesConfig(TextOptions, ReadConfig):
    """The options of files. conf/data/files.yaml explains each."""

    source: Literal["files"] = "files"
    train_path: FilePath | list[FilePath] | None = None
    val_path: FilePath | list[FilePath] | None = None
    val_split: Annotated[Literal["stratified", "random", "by_group"], OrAuto()] = AUTO
    test_path: FilePath | list[FilePath] | None = None
    test_fraction: Fraction = 0.2
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] | None = None
    label_column: Column | list[Column] | None = None
    label_separator: Separator | None = None
    group_column: Column | None = None
    class_names: list[Text] | None = None
    on_bad_lines: Literal["error", "skip"] = "error"

    @field_validator("label_column")
    @classmethod
    def _several_labels(cls, column: Any) -> Any:
        if isinstance(column, list) and len(set(column)) < max(2, len(column)):
            raise ValueError("a list names two or more columns of 0 and 1, one a label")
        return column

    @field_validator("label_separator")
    @classmethod
    def _of_one_column(cls, separator: str | None, options: ValidationInfo) -> str | None:
        if separator is not None and isinstance(options.data.get("label_column"), list):
            raise ValueError("columns of 0 and 1 have no separator; set data.label_column to one")
        return separator

    @field_validator("class_names", mode="before")
    @classmethod
    def _as_labels(cls, names: Any) -> Any:
        """Spell numbers and booleans as the files do: [0,1] are the labels "0" and "1"."""
        return list(map(option_label, names)) if isinstance(names, list) else names

    @field_validator("fold")
    @classmethod
    def _is_a_fold(cls, fold: int | None, options: ValidationInfo) -> int | None:
        folds = options.data.get("folds")
        if fold is not None and folds is not None and fold >= folds:
            raise ValueError(f"must be 0 to {folds - 1} with data.folds={folds}")
        return fold

    @model_validator(mode="after")
    def _splits_go_together(self) -> Self:
        if self.folds is None and self.fold is not None:
            raise ValueError(f"data.fold={self.fold}: needs data.folds=<number of folds>")
        if self.folds is not None:
            if self.fold is None:
                every = ",".join(map(str, range(self.folds)))
                raise ValueError(
                    f"data.folds={self.folds}: needs data.fold, the part to test on; a sweep tests "
                    f"on each: -m data.folds={self.folds} data.fold={every}"
                )
            if self.test_path is not None:
                raise ValueError(
                    f"data.folds={self.folds}: the folds are the test splits; leave out "
                    "data.test_path"
                )
        if self.val_split == "by_group" and self.group_column is None:
            raise ValueError("data.val_split=by_group: needs data.group_column=<name or number>")
        return self

    def resolve(self, corpus: Corpus) -> TextOptions:
        """Return the options with what data.val_split=auto means."""
        if self.val_split != AUTO:
            return self
        method = "stratified" if self.group_column is None else "by_group"
        return self.model_copy(update={"val_split": method})


@register_source("files", FilesConfig)
def load_files(config: FilesConfig) -> Corpus:
    """Load the texts of `train_path`, and of `val_path` and `test_path` where they are given.

    Without `test_path`, a stratified `test_fraction` of the training rows becomes the test split,
    or part `fold` of `folds`. With `group_column`, the rows of a group are in one split.
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
    return f"{_RULES} {config.model_dump_json(include=_READING)}"


def _write(sets: dict[str, FileSet], config: FilesConfig, folder: Path) -> None:
    """Copy every usable row of the files into `folder`, in one pass."""
    classes: Sequence[str] | None = config.class_names
    rows: dict[str, np.ndarray] = {}
    labels: list[np.ndarray] = []
    groups = GroupEncoder()
    like: ReadInfo | None = None
    encoder: LabelEncoder | LabelSetEncoder | None = None
    with CorpusWriter(folder) as corpus, _naming_skipped_rows(corpus):
        for name, texts in sets.items():
            first = corpus.rows
            encoder = _copy_rows(texts, corpus, groups, config, like, classes, encoder)
            labels_of_split, classes = encoder.finish()
            if isinstance(encoder, LabelEncoder) and encoder.in_lists:
                texts.info = texts.info | {"label_separator": None, "lists_of_one": True}
            rows[name] = np.arange(first, corpus.rows)
            labels.append(labels_of_split)
            like = like or texts.read_info
        assert classes is not None
        _check_separator(config.label_separator, classes)
        every_label = np.concatenate(labels)
        if "train" not in rows:
            rows["train"] = np.arange(0)
        else:
            check_classes(sets["train"].path, every_label[rows["train"]], classes)
        if "test" not in rows:
            held_out = _split_test(sets["train"].path, every_label, groups, rows["train"], config)
            rows["test"], rows["train"] = rows["train"][held_out], rows["train"][~held_out]
        info = {}
        for name, texts in sets.items():
            option = _OPTIONS[name].removeprefix("data.")
            info[option] = {"path": texts.path} | texts.info
            info |= {f"{option}[{i}]": other for i, other in enumerate(texts.others, 1)}
        corpus.finish(
            "files",
            classes,
            rows=rows,
            labels=every_label,
            groups=None if config.group_column is None else groups.finish(),
            source_info=info,
        )


def _check_separator(separator: str | None, classes: Sequence[str]) -> None:
    """Make sure that no class contains what separates the labels in a cell.

    Classes may be named by an option, or by lists in another file.

    Raises:
        DataError: one does: such a cell would be read as other labels.
    """
    if separator in (None, LIST):
        return
    if (name := next((name for name in classes if separator in name), None)) is not None:
        raise DataError(
            f"data.label_separator={separator!r}: the label {name!r} contains it, and would be "
            f"read as several; choose another separator, or data.label_separator={LIST} for cells "
            "with lists"
        )


@contextmanager
def _naming_skipped_rows(corpus: CorpusWriter) -> Iterator[None]:
    """Add to an error how many rows were skipped: no file lists them if there is no run."""
    try:
        yield
    except DataError as error:
        if not corpus.num_skipped:
            raise
        count = f"{corpus.num_skipped:,} row{'' if corpus.num_skipped == 1 else 's'}"
        were = "was" if corpus.num_skipped == 1 else "were"
        first = corpus.first_skipped
        raise DataError(f"{error}; {count} {were} skipped, the first: {first}") from None


class GroupEncoder:
    """Turn the groups of rows into numbers, the same in all files, as they arrive."""

    def __init__(self) -> None:
        self._number_of_group: dict[str, int] = {}  # in order of first appearance
        self._numbers = array("q")

    def add(self, group: str | None) -> None:
        """Append the group of a row. A row without one is a group of its own, with a number < 0."""
        group = canonical_label(group or "")
        own = -len(self._numbers) - 1
        number = self._number_of_group.setdefault(group, len(self._number_of_group))
        self._numbers.append(number if group else own)

    def finish(self) -> np.ndarray:
        """Return the group of each row, int64 [rows]."""
        return np.array(self._numbers, dtype=np.int64)


def _split_test(
    path: str, labels: np.ndarray, groups: GroupEncoder, rows: np.ndarray, config: FilesConfig
) -> np.ndarray:
    """Return a mask, bool [rows], of the training rows that become the test split."""
    labels = labels[rows]
    group_of_row = None if config.group_column is None else groups.finish()[rows]
    if config.folds is None:
        return split_test(path, labels, config.test_fraction, config.split_seed, group_of_row)
    try:
        return assign_folds(labels, config.folds, config.split_seed, group_of_row) == config.fold
    except ValueError as error:
        raise DataError(f"{path}: {error}; set data.folds to a smaller number") from None


def _copy_rows(
    texts: FileSet,
    corpus: CorpusWriter,
    groups: GroupEncoder,
    config: FilesConfig,
    like: ReadInfo | None,
    classes: Sequence[str] | None,
    previous: LabelEncoder | LabelSetEncoder | None,
) -> LabelEncoder | LabelSetEncoder:
    """Copy the usable rows of `texts` and their groups; return their labels, encoded.

    `previous` is the encoder of the training labels. They decide whether a text has one label or
    any number: lists of one label each are one, unless an option says otherwise.
    """
    encoder = None if previous is None or classes is None else previous.for_next(classes)
    for row in texts.rows(like):
        if encoder is None and not row.fault:
            columns = texts.read_info.columns if texts.read_info else None
            indicators = columns.indicators if columns else ()
            encoder = encoder_for(row.label)(classes or indicators or None)
        fault = row.fault or (None if encoder is None else encoder.fault(row.label))
        if not fault and encoder is not None:
            corpus.append(row.text, row.name)
            encoder.add(row.label)
            groups.add(row.group)
            if row.group is None and like is None and config.group_column is not None:
                raise DataError(
                    f"data.group_column={config.group_column}: {texts.path} has no columns"
                )
            if encoder.has_many_classes:
                raise _not_classes(texts, encoder)
        elif config.on_bad_lines == "skip":
            corpus.skip(f"{row.name}: {fault}")
        else:
            hint = _encoding_hint(texts, row) or _bad_row_hint(
                fault or "", encoder, texts.read_info
            )
            raise DataError(f"{row.place}: {fault} {hint}")
    if encoder is None or not len(encoder):
        raise DataError(f"{texts.path}: has no usable rows")
    if previous is None and isinstance(encoder, LabelSetEncoder):
        encoder = encoder if _has_label_sets(texts, config) else encoder.one_each() or encoder
    if encoder.problem:
        raise _not_classes(texts, encoder)
    return encoder


def _has_label_sets(texts: FileSet, config: FilesConfig) -> bool:
    """Return whether the options say that a text may have any number of labels."""
    info = texts.read_info
    is_fasttext = info is not None and info.format == "label_text"  # data.label_column=labels
    several = isinstance(config.label_column, list)
    return config.label_separator is not None or several or is_fasttext


def _not_classes(texts: FileSet, encoder: LabelEncoder | LabelSetEncoder) -> DataError:
    columns = texts.read_info.columns if texts.read_info else None
    what, advice = "has", "set data.class_names=[...] if they are classes"
    if columns is not None and columns.label is not None:
        what = f"the column {columns.label!r} has"
        others = [name for name in columns.names if name not in columns.wanted]
        if others:
            listed = ", ".join(map(shorten, others[:20]))
            advice = f"set data.label_column to another column ({listed}), or {advice[4:]}"
    if isinstance(encoder, LabelEncoder) and (joined := find_joined_labels(encoder.labels)):
        advice = (
            f"set data.label_separator={joined.separator} if a text may have any number of labels "
            f"({joined.evidence}), or {advice[4:]}"
        )
    return DataError(f"{texts.path}: {what} {encoder.problem}; {advice}")


def _bad_row_hint(
    fault: str, encoder: LabelEncoder | LabelSetEncoder | None, info: ReadInfo | None
) -> str:
    """Return what to do about a row that cannot be used, after the labels in `encoder`."""
    hint = "data.on_bad_lines=skip skips such rows"
    if fault.startswith(EMPTY_LABEL):
        labels = encoder.labels if isinstance(encoder, LabelEncoder) else ()
        joined = find_joined_labels(labels)
        separator = joined.separator if joined else "semicolon"
        if info is not None and info.has_label_lists:
            separator = LIST
        hint += f"; if a text may have any number of labels, data.label_separator={separator} "
        hint += "reads an empty cell as none"
    return f"({hint})"


def _encoding_hint(texts: FileSet, row: Row) -> str | None:
    """Return which encoding decodes the file of a row that was decoded wrongly."""
    file_of_row = re.sub(r":[0-9]+$", "", row.place)
    path = next((file for file in texts.files() if str(file) in (row.place, file_of_row)), None)
    if path is None:
        return None
    hint = encoding_hint(path, row.fault, "data.")
    return hint if hint or path == Path(row.place) else mixed_encoding_hint(path, row.fault)


def check_classes(path: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise a DataError if a class has no rows, or there are fewer than two."""
    found = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
    missing = [label for i, label in enumerate(classes) if i not in found]
    if missing:
        raise DataError(f"{path}: has no rows of the class {missing[0]!r}")
    if len(classes) < 2:
        raise DataError(f"{path}: has one class only, {classes[0]!r}; two or more are needed")


def split_test(
    path: str, labels: np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return a mask, bool [rows], of the training rows that become the test split.

    A fraction of each class, or whole `groups` (int64 [rows]).

    Raises:
        DataError: there are too few rows or groups.
    """
    if groups is None:
        held_out, what = stratified(labels, fraction, seed), f"{len(labels)} rows"
    else:
        held_out = hold_out_groups(labels, groups, fraction, seed)
        what = f"{len(np.unique(groups))} groups of data.group_column"
    if not held_out.any():
        if groups is None and labels.ndim == 1:
            raise DataError(
                f"{path}: each of the {len(labels)} rows is {ONLY_ONE}, so none is left for the "
                "test split: classes need several rows each"
            )
        raise DataError(f"{path}: {what} are too few to split off a test split")
    return held_out
