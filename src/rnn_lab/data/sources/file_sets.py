"""The files that a path names, and where the labels of their texts are.

Labels are in the files (CSV, JSON, ...), or they are the names of files or folders, or lines of a
file beside the texts.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rnn_lab.data.cache import is_cache
from rnn_lab.data.readers.arrow import is_saved_dataset, saved_dataset_files
from rnn_lab.data.readers.binary import (
    READ_ERRORS,
    decompressed_name,
    describe_binary,
    open_binary,
    read_error,
)
from rnn_lab.data.readers.encoding import choose_encoding, detect_encoding
from rnn_lab.data.readers.formats import known_format
from rnn_lab.data.readers.labels import Label, canonical_label, split_labels
from rnn_lab.data.readers.lines import MAX_CHARACTERS
from rnn_lab.data.readers.reading import CLASS_FOLDERS, Reading
from rnn_lab.data.readers.records import (
    EMPTY_LABEL,
    EMPTY_TEXT,
    BadRow,
    ReadInfo,
    ReadOptions,
    RecordReader,
    text_error,
)
from rnn_lab.errors import DataError
from rnn_lab.paths import local_path

log = logging.getLogger(__name__)

_IGNORED = re.compile(r"\..*|__MACOSX|Icon\r|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_NOT_TEXTS = re.compile(r"(readme|licen[cs]e)(\.\w+)?", re.IGNORECASE)  # beside class files
_LABELS = re.compile(r"(.*[._-])?labels?([._-].*)?", re.IGNORECASE)  # labels.txt, train_label.txt
_SPLITS = {
    "data.train_path": {"train", "training"},
    "data.val_path": {"val", "valid", "validation", "dev"},
    "data.test_path": {"test", "testing"},
}
_MAX_BYTES = 4 * MAX_CHARACTERS  # of a text in a file of its own


@dataclass(frozen=True)
class Row:
    """One row of one file. It is usable if `fault` is empty."""

    place: str  # for a message: "data/reviews.csv:12"
    name: str  # for a table: "reviews.csv:12"
    text: str = ""
    label: Label = ""
    fault: str = ""
    group: str | None = None  # with data.group_column; "" is missing, None without columns


class FileSet:
    """The texts of one option, in order. `info`, once they were read, says how."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.info: dict[str, Any] = {}
        self.others: list[dict[str, Any]] = []  # how files were read that differ from the first
        self.read_info: ReadInfo | None = None  # of files with labels in them

    def files(self) -> Iterator[Path]:
        """Yield every file, in order."""
        raise NotImplementedError

    def rows(self, like: ReadInfo | None) -> Iterator[Row]:
        """Yield every row; `like` is how the training texts were read."""
        raise NotImplementedError


class RecordFiles(FileSet):
    """Files with their labels in them, one after the other."""

    def __init__(self, path: str, options: ReadOptions, files: Sequence[Path]) -> None:
        super().__init__(path, options)
        self._files = tuple(files)

    def files(self) -> Iterator[Path]:
        """Yield every file, in order."""
        yield from self._files

    def rows(self, like: ReadInfo | None) -> Iterator[Row]:
        """Yield the rows of the files; later files are read like the first."""
        read: dict[Path, ReadInfo] = {}
        for file in self._files:
            reader = RecordReader(file, self.options, labelled=True, like=like)
            for record in reader:
                place, name = f"{file}:{record.line}", f"{file.name}:{record.line}"
                if self.read_info is None or self.read_info.columns is None:
                    self.read_info = reader.info
                if isinstance(record, BadRow):
                    yield Row(place, name, fault=record.reason)
                else:
                    assert record.label is not None
                    yield Row(place, name, record.text, record.label, group=record.group)
            like = like or reader.info
            self.read_info = self.read_info or reader.info
            read[file] = reader.info
        if self.read_info is not None:
            self._describe(self.read_info, read)

    def _describe(self, first: ReadInfo, read: Mapping[Path, ReadInfo]) -> None:
        self.info = first.as_dict()
        same: list[str] = []
        for file, info in read.items():
            if (described := info.as_dict()) == self.info:
                same.append(str(file))
            else:
                self.others.append({"path": str(file)} | described)
        if self.others:
            self.info["path"] = ", ".join(same)


class ClassFiles(FileSet):
    """One file per class, with one text per line."""

    def __init__(self, path: str, options: ReadOptions, files: Sequence[Path]) -> None:
        super().__init__(path, options)
        _refuse_several_labels(path, options)
        self._files = dict(zip(files, class_file_labels(files, path), strict=True))

    def files(self) -> Iterator[Path]:
        """Yield every file, in order."""
        yield from self._files

    def rows(self, like: ReadInfo | None) -> Iterator[Row]:
        """Yield the lines of the files that are not blank."""
        encodings = []
        for file, label in self._files.items():
            reader = RecordReader(file, replace(self.options, format="txt"), labelled=False)
            for record in reader:
                place, name = f"{file}:{record.line}", f"{file.name}:{record.line}"
                if not isinstance(record, BadRow):
                    yield Row(place, name, record.text, label)
                elif record.reason != EMPTY_TEXT:
                    yield Row(place, name, fault=record.reason)
            encodings.append(reader.info.encoding)
        self.info = {"format": "class files", "encoding": _one_or_all(encodings)}


class PairedFiles(FileSet):
    """A file of texts and a file of their labels, line by line."""

    def __init__(self, path: str, options: ReadOptions, texts: Path, labels: Path) -> None:
        super().__init__(path, options)
        self._texts, self._labels = texts, labels

    def files(self) -> Iterator[Path]:
        """Yield both files."""
        yield from (self._texts, self._labels)

    def rows(self, like: ReadInfo | None) -> Iterator[Row]:
        """Yield each text with its label.

        Raises:
            DataError: the files differ in their number of lines.
        """
        options = replace(self.options, format="txt")
        texts, labels = (
            RecordReader(file, options, labelled=False) for file in (self._texts, self._labels)
        )
        blank: list[Row] = []  # lines that are blank in both, unless they end the files
        for text, label in zip_longest(texts, labels):
            row = self._row(text, label)
            if _is_blank(text) and _is_blank(label):
                blank.append(row)
            else:
                yield from blank
                blank.clear()
                yield row
        encodings = [reader.info.encoding for reader in (texts, labels)]
        self.info = {"format": "texts and labels", "encoding": _one_or_all(encodings)}

    def _row(self, text: Any, label: Any) -> Row:
        if (text is None and not _is_blank(label)) or (label is None and not _is_blank(text)):
            longer, shorter = self._texts, self._labels
            if text is None:
                longer, shorter = shorter, longer
            raise DataError(
                f"{longer}:{(text or label).line}: has more lines than {shorter.name}; "
                "each text needs the label in its line"
            )
        line = (text or label).line
        place, name = f"{self._texts}:{line}", f"{self._texts.name}:{line}"
        if _is_blank(text) or isinstance(text, BadRow):
            return Row(place, name, fault=text.reason if text else EMPTY_TEXT)
        separator = self.options.label_separator
        if separator is not None and _is_blank(label):
            return Row(place, name, text.text, ())
        if _is_blank(label) or isinstance(label, BadRow):
            reason = EMPTY_LABEL if _is_blank(label) else label.reason
            return Row(place, name, fault=f"{reason} in {self._labels.name}")
        if separator is not None:
            try:
                return Row(place, name, text.text, split_labels(label.text, separator))
            except ValueError as error:
                return Row(place, name, fault=f"{error} in {self._labels.name}")
        return Row(place, name, text.text, canonical_label(label.text))


def _refuse_several_labels(path: str, options: ReadOptions) -> None:
    """Raise a DataError if the options ask for several labels a text, which are in no column."""
    if options.label_separator is not None or isinstance(options.label_column, tuple):
        option = "label_column" if options.label_separator is None else "label_separator"
        raise DataError(
            f"{path}: names of files or folders label the texts, so {options.prefix}{option} has "
            "no column to read several labels from"
        )


def _is_blank(row: Any) -> bool:
    return row is None or (isinstance(row, BadRow) and row.reason == EMPTY_TEXT)


class ClassFolders(FileSet):
    """A folder with one folder per class, and one text per file at any depth in it."""

    def __init__(self, path: str, options: ReadOptions, folders: Sequence[Path]) -> None:
        super().__init__(path, options)
        _refuse_several_labels(path, options)
        self._folders = tuple(folders)

    def files(self) -> Iterator[Path]:
        """Yield the files of each class, sorted by name.

        Raises:
            DataError: a class has none.
        """
        for folder in self._folders:
            is_empty = True
            for file in files_below(folder):
                is_empty = False
                yield file
            if is_empty:
                raise DataError(f"{folder}: contains no files")

    def rows(self, like: ReadInfo | None) -> Iterator[Row]:
        """Yield one row per file. Its label is the name of the folder of its class."""
        encodings: set[str] = set()
        for folder in self._folders:
            label = _label_of(folder.name)
            for file in files_below(folder):
                name = file.relative_to(folder.parent).as_posix()
                text, encoding, fault = self._read(file)
                encodings.add(encoding)
                if fault is None:
                    yield Row(str(file), name, text, label)
                else:
                    yield Row(str(file), name, fault=fault)
        self.info = {"format": CLASS_FOLDERS, "encoding": _one_or_all(sorted(encodings))}

    def _read(self, file: Path) -> tuple[str, str, str | None]:
        """Return the text, its encoding, and why it cannot be used."""
        try:
            with open_binary(file) as stream:
                content = stream.read(_MAX_BYTES)
        except READ_ERRORS as error:
            raise DataError(f"{file}: cannot be read: {read_error(error)}") from error
        encoding = self.options.encoding
        if encoding == "auto":
            encoding = choose_encoding(detect_encoding([content]), None)
        if kind := describe_binary(content):
            return "", encoding, f"is {kind}"
        try:
            text = content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            return "", encoding, f"is not {encoding}: byte 0x{error.object[error.start]:02x}"
        except LookupError as error:
            raise DataError(f"{self.path}: no such text encoding: {encoding!r}") from error
        return text, encoding, text_error(text, encoding)


def find_file_set(
    paths: str | Sequence[str], options: ReadOptions, option: str = "data.train_path"
) -> FileSet:
    """Return the files of an option: a file, several files, or a folder.

    Raises:
        DataError: something is missing, or it is not plain where the labels are; the message says
            what to choose.
    """
    if isinstance(paths, str):
        path = local_path(paths)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if path.is_dir():
            return _folder_set(path, options, option)
        files = [path]
    else:
        files = [local_path(path) for path in paths]
        for file in files:
            if not file.is_file():
                raise DataError(f"{file}: no such file")
        if not files:
            raise DataError(f"{option}: is an empty list")
    return _files_set(files, ", ".join(map(str, files)), options, option)


def _folder_set(folder: Path, options: ReadOptions, option: str) -> FileSet:
    if is_saved_dataset(folder):
        arrow = replace(options, format="arrow")
        return RecordFiles(str(folder), arrow, saved_dataset_files(folder, option))
    listed = (path for path in folder.iterdir() if not _IGNORED.fullmatch(path.name))
    entries = sorted(path for path in listed if not is_cache(path))
    folders = [path for path in entries if path.is_dir()]
    files = [path for path in entries if path.is_file() and not _NOT_TEXTS.fullmatch(path.name)]
    if len(folders) >= 2:
        _refuse_splits(folder, folders, option)
        if files:
            named = ", ".join(file.name for file in files[:10])
            log.warning(
                "%s: files beside the folders of the classes are not read: %s", folder, named
            )
        return ClassFolders(str(folder), options, folders)
    if len(files) >= 2 and not folders:
        _refuse_splits(folder, files, option)
        return _files_set(files, str(folder), options, option)
    found = f"found {len(folders)} folders and {len(files)} files"
    if len(folders) == 1 and not files:  # as unpacked from an archive
        found = f"found 1 folder, {folders[0]}"
    raise DataError(
        f"{folder}: needs two or more folders, one per class, with the texts as files in each, or "
        f"two or more files, one per class, with a text per line; {found}"
    )


def _refuse_splits(folder: Path, entries: Sequence[Path], option: str) -> None:
    """Raise a DataError if the entries are splits, which must not become classes."""
    from rnn_lab.overrides import show_option  # it imports Hydra

    options = [_option_of_split(entry) for entry in entries]
    if len(set(options)) == 1:  # train_pos.txt and train_neg.txt are classes, or parts
        return
    splits = dict(zip(options[::-1], entries[::-1], strict=True))
    splits.setdefault(option, splits.get(None, entries[0]))
    wanted = list(_SPLITS) if option == "data.train_path" else [option]  # a test reads one
    advice = " ".join(show_option(name, str(splits[name])) for name in wanted if name in splits)
    raise DataError(
        f"{folder}: has splits and not classes: {', '.join(entry.name for entry in entries[:10])}; "
        f"name each split: {advice}"
    )


def _option_of_split(entry: Path) -> str | None:
    """Return the option of the split that a file or folder is named by, None without one."""
    words = {word.lower() for word in re.split(r"[\W_]+", decompressed_name(entry))}
    return next((option for option, names in _SPLITS.items() if words & names), None)


def _files_set(files: list[Path], path: str, options: ReadOptions, option: str) -> FileSet:
    if options.format not in (None, "txt"):
        return RecordFiles(path, options, files)
    labels = [file for file in files if _LABELS.fullmatch(decompressed_name(file))]
    is_text = all(known_format(file) in (None, "txt") for file in files)
    if not is_text:
        return RecordFiles(path, options, files)
    if len(files) == 2 and len(labels) == 1:
        (texts,) = (file for file in files if file not in labels)
        return PairedFiles(path, options, texts, labels[0])
    if options.format is None and (len(files) == 1 or _has_labels(files[0], options)):
        if len(files) == 1:
            _refuse_texts_alone(files[0], options, option)
        return RecordFiles(path, options, files)
    if len(files) == 1:
        _refuse_texts_alone(files[0], replace(options, format=None), option)
        raise DataError(f"{files[0]}: plain text has no labels; name one file per class")
    return ClassFiles(path, options, files)


def _has_labels(file: Path, options: ReadOptions) -> bool:
    """Return whether the lines of a text file evidently have labels."""
    try:
        Reading(file, options, labelled=True).infer()
    except DataError:
        return False
    return True


def _refuse_texts_alone(file: Path, options: ReadOptions, option: str) -> None:
    """Raise a DataError that names the file of labels beside a file of texts, if there is one."""
    if _has_labels(file, options):
        return
    beside = sorted(
        path
        for path in file.parent.iterdir()
        if path.is_file() and path != file and _LABELS.fullmatch(decompressed_name(path))
    )
    stem = re.split(r"[._-]?texts?\b", decompressed_name(file), maxsplit=1)[0]
    beside = [path for path in beside if path.name.startswith(stem)]
    if len(beside) == 1:
        raise DataError(
            f"{file}: plain text has no labels; for those of {beside[0].name}: "
            f"{option}=[{file},{beside[0]}]"
        )


def class_file_labels(files: Sequence[Path], path: str) -> list[str]:
    """Return the label of each file: the part of its name that differs, stem or ending.

    pos.txt and neg.txt have the labels pos and neg, as have rt-polarity.pos and rt-polarity.neg,
    and train_pos.txt and train_neg.txt.

    Raises:
        DataError: two files have the same label.
    """
    names = [decompressed_name(file) for file in files]
    stems = [Path(name).stem for name in names]
    labels = stems if len(set(stems)) == len(stems) else [Path(n).suffix[1:] for n in names]
    if len(set(labels)) < len(labels) or not all(labels):
        raise DataError(f"{path}: the files differ neither in stem nor in ending")
    parts = [re.split(r"([._-])", label) for label in labels]
    while len(files) > 1 and min(map(len, parts)) > 2 and len({tuple(p[:2]) for p in parts}) == 1:
        parts = [p[2:] for p in parts]
    while len(files) > 1 and min(map(len, parts)) > 2 and len({tuple(p[-2:]) for p in parts}) == 1:
        parts = [p[:-2] for p in parts]
    return [_label_of("".join(p)) for p in parts]


def _label_of(name: str) -> str:
    """Return the label of a file or folder. Bytes that are not UTF-8 are escaped: names differ."""
    return canonical_label(name.encode("utf-8", "backslashreplace").decode())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder at any depth, sorted by name, without the system's and caches."""
    walked = {*map(str, folder.resolve().parents)}  # where a link would lead around in a circle
    for root, folders, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(root)) in walked:
            folders.clear()
            continue
        walked.add(place)
        texts = (name for name in folders if not _IGNORED.fullmatch(name))
        folders[:] = sorted(name for name in texts if not is_cache(Path(root) / name))
        # Names, not Paths: there may be hundreds of thousands, and a Path is ten times larger.
        for name in sorted(names):
            if not _IGNORED.fullmatch(name):
                yield Path(root) / name


def _one_or_all(encodings: Sequence[str | None]) -> str | list[str]:
    found = sorted({encoding for encoding in encodings if encoding is not None})
    return found[0] if len(found) == 1 else found
