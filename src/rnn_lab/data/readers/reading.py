"""A file or stream that is being read: its options, its lines, and what was inferred of it."""

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from rnn_lab.data.readers.binary import (
    HEAD_BYTES,
    READ_ERRORS,
    HeadStream,
    describe_binary,
    open_binary,
    read_error,
)
from rnn_lab.data.readers.columns import (
    Column,
    ColumnOptions,
    ColumnStats,
    ResolvedColumns,
    UnknownColumnError,
    resolve_columns,
)
from rnn_lab.data.readers.encoding import (
    choose_encoding,
    detect_encoding,
    detect_file_encoding,
    detect_stream_encoding,
)
from rnn_lab.data.readers.formats import (
    Format,
    infer_format,
    infer_labelled_format,
    known_format,
)
from rnn_lab.data.readers.labels import LIST, Label
from rnn_lab.data.readers.lines import numbered_lines
from rnn_lab.data.readers.tables import Dialect
from rnn_lab.errors import DataError

# What options are inferred from: this many rows, or the lines with this many characters.
SAMPLE_ROWS = 1000
SAMPLE_CHARACTERS = 2**20

CLASS_FOLDERS = "class folders"  # the format of a folder a class, with a text a file

_ENDINGS = ".csv, .tsv, .jsonl, .json, .parquet, .arrow"  # in a message

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "\\t": "\t", "tab": "\t", "pipe": "|"}
_QUOTE_NAMES = {"double": '"', "single": "'", "none": ""}


def check_delimiter(delimiter: str) -> str:
    """Return a delimiter. Raises ValueError if it is not one character or its name."""
    return _check_character(delimiter, _DELIMITER_NAMES)


def check_quotechar(quotechar: str) -> str:
    """Return a quote. Raises ValueError if it is not one character or its name."""
    return _check_character(quotechar, _QUOTE_NAMES)


def check_separator(separator: str) -> str:
    """Return what separates the labels in a cell. Raises ValueError if it is empty."""
    if not separator:
        names = ", ".join([*_DELIMITER_NAMES, LIST])
        raise ValueError(f"needs one or more characters, or a name: {names}")
    return _DELIMITER_NAMES.get(separator, separator)


def _check_character(value: str, names: dict[str, str]) -> str:
    if (
        value in names
        or value == "" == names.get("none")
        or (len(value) == 1 and value not in "\r\n")
    ):
        return value
    raise ValueError(f"needs one character, or its name: {', '.join(names)}")


@dataclass(frozen=True)
class Record:
    """One readable row. `line` is the number of its first line in the file, from 1.

    In a JSON list, Parquet and Arrow it is the number of the row, from 1.
    """

    line: int
    text: str
    label: Label | None
    id: str | int | None = None  # of an unlabelled row with a column "id", or ReadOptions.id_column
    group: str | None = None  # of a labelled row, with ReadOptions.group_column; "" is missing
    columns: Mapping[str, Any] | None = None  # all of its columns, with ReadOptions.all_columns


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used, and the reason."""

    line: int
    reason: str
    columns: Mapping[str, Any] | None = None  # as of a Record, where they can be read
    id: str | int | None = None  # likewise


@dataclass(frozen=True)
class ReadOptions:
    """How files are to be read. None, () and "auto" are inferred."""

    format: Format | None = None
    encoding: str = "auto"
    header: bool | None = None
    columns: tuple[str, ...] = ()  # names, for a file without a header
    delimiter: str | None = None  # or its name: comma, semicolon, tab, pipe
    quotechar: str | None = None  # or its name: double, single, none
    text_column: Column | Sequence[Column] | None = None
    label_column: Column | Sequence[Column] | None = None  # several: of 0 and 1, one a label
    label_separator: str | None = None  # between the labels in a cell, or LIST; None: inferred
    group_column: Column | None = None
    id_column: Column | None = None  # of unlabelled rows; None: the column "id", if there is one
    all_columns: bool = False  # rows have all of their columns
    whole_files: bool = False  # a file of `txt` is one text, not one a line
    prefix: str = ""  # of these options in messages: "data."
    text_option: str = "text_column"  # its name in messages

    @property
    def delimiter_character(self) -> str | None:
        """The delimiter itself."""
        return _DELIMITER_NAMES.get(self.delimiter or "", self.delimiter)

    @property
    def quote_character(self) -> str | None:
        """The quote itself; "" for none."""
        return None if self.quotechar is None else _QUOTE_NAMES.get(self.quotechar, self.quotechar)


@dataclass(frozen=True)
class ReadInfo:
    """How a file was read: by its options, and by what was inferred."""

    format: Format
    encoding: str | None = None
    dialect: Dialect | None = None
    columns: ResolvedColumns | None = None
    has_label_lists: bool = False  # the labels of a table are in cells such as ['news', 'tech']
    # The pyarrow types of the columns of Parquet and Arrow, with ReadOptions.all_columns.
    arrow_types: Mapping[str, Any] = field(default_factory=dict)
    whole_files: bool = False  # each file is one text
    has_mark: bool = False  # whether a CSV file begins with a byte order mark

    def as_dict(self) -> dict[str, Any]:
        """Return it in the terms of the options, for result.json."""
        found: dict[str, Any] = {"format": CLASS_FOLDERS if self.whole_files else self.format}
        if self.encoding is not None:
            found["encoding"] = self.encoding
        if self.dialect is not None:
            delimiters = {character: name for name, character in _DELIMITER_NAMES.items()}
            quotes = {character: name for name, character in _QUOTE_NAMES.items()}
            found["delimiter"] = delimiters.get(self.dialect.delimiter, self.dialect.delimiter)
            quote = self.dialect.quotechar or ""
            found["quotechar"] = quotes.get(quote, quote)
        if self.columns is not None:
            if self.dialect is not None:
                found["header"] = self.columns.header
            names = list(self.columns.text)
            found["text_column"] = names[0] if len(names) == 1 else names
            found["label_column"] = list(self.columns.indicators) or self.columns.label
            if self.columns.group is not None:
                found["group_column"] = self.columns.group
            if self.has_label_lists:
                found["label_separator"] = LIST
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "ReadInfo":
        """Return the encoding and the columns of `as_dict`, and whether files are whole texts.

        Anything else, as damaged, is none.
        """
        encoding, label = found.get("encoding"), found.get("label_column")
        text = found.get("text_column")
        texts = [text] if isinstance(text, str) else text
        columns = None
        if isinstance(texts, list) and texts and all(isinstance(name, str) for name in texts):
            label = label if isinstance(label, str) else None
            names = tuple(texts) if label is None else (*texts, label)
            header = found.get("header", True) is not False
            columns = ResolvedColumns(names, tuple(texts), label, header)
        return cls(
            "txt",
            encoding if isinstance(encoding, str) else None,
            columns=columns,
            whole_files=found.get("format") == CLASS_FOLDERS,
        )


class Reading:
    """A file or open binary stream, the options for it, and `info`: how it is read."""

    info: ReadInfo

    def __init__(
        self,
        source: str | Path | BinaryIO,
        options: ReadOptions,
        *,
        labelled: bool,
        like: ReadInfo | None = None,
    ) -> None:
        """Store the arguments; see RecordReader."""
        self.path = source if isinstance(source, str | Path) else None
        self.name = str(source) if self.path else getattr(source, "name", "<stream>")
        self.options = options
        self.labelled = labelled
        self.columns = ColumnOptions(
            text=options.text_column,
            label=options.label_column,
            group=options.group_column,
            id=options.id_column,
            names=options.columns,
            header=options.header,
            labelled=labelled,
            several_labels=options.label_separator is not None,
            like=like.columns if like else None,
            prefix=options.prefix,
            text_option=options.text_option,
        )
        self._like = like
        self._source = source
        self._head: bytes | None = None  # of a stream

    @property
    def source(self) -> str | Path | BinaryIO:
        """The path, or the stream at its start."""
        return self._source

    def infer(self) -> None:
        """Set the format and the encoding in `info`.

        Raises:
            DataError: neither the ending nor the lines of the file show its format, or it is an
                archive, a document of an office program or another file without texts.
        """
        if self.options.format not in ("parquet", "arrow") and (kind := self._binary_kind()):
            raise DataError(f"{self.name}: is {kind}")
        format = self.options.format or self._infer_format()
        if format in ("parquet", "arrow"):
            self.info = ReadInfo(format)
        else:
            self.info = ReadInfo(
                format,
                self._infer_encoding(format),
                whole_files=self.options.whole_files and format == "txt",
                has_mark=format == "csv" and self._has_mark(),
            )

    def _has_mark(self) -> bool:
        if self.path is None:
            return self.head("csv").startswith(_MARKS)
        try:
            with open_binary(self.path) as stream:
                return stream.read(len(codecs.BOM_UTF8)).startswith(_MARKS)
        except READ_ERRORS:
            return False  # reading its rows says why

    def _binary_kind(self) -> str | None:
        """Return what the source evidently is, if no text and not what its ending says."""
        if self.path is None:
            try:
                kind = describe_binary(self.head(self.options.format or "txt"))
            except DataError:
                return None  # reading its rows says why, and where
            return kind and f"{kind.partition(';')[0]}; a stream must be text"
        is_table = known_format(self.path) in ("parquet", "arrow")
        if is_table or not Path(self.path).is_file():
            return None
        try:
            with open_binary(self.path) as stream:
                return describe_binary(stream.read(HEAD_BYTES))
        except READ_ERRORS:
            return None  # reading its rows says why

    def _infer_format(self) -> Format:
        if self.path is None:
            return "txt"
        if not self.labelled:
            return infer_format(self.path)
        format = known_format(self.path) or "txt"
        if format != "txt":
            return format
        self.info = ReadInfo(format, self._infer_encoding(format))
        found = infer_labelled_format(self.sample)
        if found is None and any("\0" in line for _, line in self.sample()):
            raise DataError(f"{self.path}: is a binary file; formats that are read: {_ENDINGS}")
        if found is None:
            raise DataError(
                f"{self.path}: plain text has no labels; {self.options.prefix}format=label_text "
                f"reads lines of a label and a text; other formats: {_ENDINGS}"
            )
        return found

    def _infer_encoding(self, format: Format) -> str:
        if self.options.encoding != "auto":
            return self.options.encoding
        if self.path is not None:
            found = detect_file_encoding(self.path)
        else:
            found = self._stream_encoding(format)
        return choose_encoding(found, self._like.encoding if self._like else None)

    def _stream_encoding(self, format: Format) -> str | None:
        head, stream = self.head(format), cast(BinaryIO, self._source)
        if not stream.seekable():
            may_go_on = format in ("txt", "jsonl") or len(head) == HEAD_BYTES
            return detect_encoding([head], is_cut=may_go_on)
        start = stream.tell()
        found = detect_stream_encoding(stream)
        stream.seek(start)
        return found

    def head(self, format: Format) -> bytes:
        """Return the first bytes of the stream, which is read from its start nevertheless."""
        if self._head is None:
            stream = cast(BinaryIO, self._source)
            try:
                if stream.seekable():
                    start = stream.tell()
                    self._head = stream.read(HEAD_BYTES)
                    stream.seek(start)
                else:
                    # The columns of a table need several rows; texts are read as they arrive.
                    raw = HeadStream(stream, whole_head=format not in ("txt", "jsonl"))
                    self._head = raw.head
                    self._source = io.BufferedReader(raw)
            except READ_ERRORS as error:
                raise DataError(f"{self.name}: cannot be read: {read_error(error)}") from error
        return self._head

    @property
    def label_separator(self) -> str | None:
        """What separates the labels in a cell, or LIST; None: a cell is one label."""
        return LIST if self.info.has_label_lists else self.options.label_separator

    @property
    def encoding(self) -> str:
        """The encoding of a text format."""
        assert self.info.encoding is not None
        return self.info.encoding

    @contextmanager
    def lines(self, newline: str = "\n") -> Iterator[Iterator[tuple[int, str]]]:
        """Open the source; return its numbered lines."""
        # A caller may stop early: the generator of lines is closed before its file.
        with (
            open_binary(self._source) as stream,
            closing(numbered_lines(stream, self.name, self.encoding, newline)) as lines,
        ):
            yield lines

    def sample(self, newline: str = "\n") -> Iterator[tuple[int, str]]:
        """Yield the first lines, again from the start at each call."""
        if self.path is not None:
            with self.lines(newline) as lines:
                yield from _first_lines(lines)
            return
        head = self.head(self.info.format)
        stream = io.BytesIO(head)
        with closing(numbered_lines(stream, self.name, self.encoding, newline)) as lines:
            previous: tuple[int, str] | None = None
            for line in _first_lines(lines):
                if previous is not None:
                    yield previous
                previous = line
            # The last line of the head may be cut.
            if previous is not None and (len(head) < HEAD_BYTES or previous[0] == 1):
                yield previous

    def resolve(
        self,
        names: Sequence[str],
        options: ColumnOptions | None = None,
        stats: dict[str, ColumnStats] | None = None,
    ) -> ResolvedColumns:
        """Resolve the columns, and note them in `info`.

        Raises:
            DataError: as resolve_columns, with the name of the file.
        """
        try:
            columns = resolve_columns(names, options or self.columns, stats)
        except UnknownColumnError as error:
            raise DataError(f"{self.name}: {error}") from None
        self.info = replace(self.info, columns=columns)
        return columns


def _first_lines(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    characters = 0
    for line in lines:
        yield line
        characters += len(line[1])
        if characters >= SAMPLE_CHARACTERS:
            return


def join_text(parts: Sequence[str]) -> str:
    """Join the parts of a text with a space; empty ones add none."""
    return parts[0] if len(parts) == 1 else " ".join(part.strip() for part in parts if part.strip())
