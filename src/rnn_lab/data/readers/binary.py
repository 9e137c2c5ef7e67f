"""Paths and streams -> bytes: decompression, and a stream whose beginning can be read twice."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from rnn_lab.errors import DataError
from rnn_lab.plugins import require_extra

COMPRESSED_SUFFIXES = (".gz", ".zst")
_COMPRESSED_BYTES = 2**11  # read at once; 2**26 decompressed at most, 128 KiB for each 4 bytes
HEAD_BYTES = 2**16  # of a stream that cannot be rewound: what is inferred from


_BZIP2 = tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
_PICKLES = (b"\x80\x02}", b"\x80\x02]", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")
# What files without texts begin with, and what to do with them.
_KINDS = (
    (b"%PDF-", "a PDF file; save its text as .txt, or as a table"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Excel or Word; save it as CSV or text"),
    (b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
    (b"\x1f\x8b", "compressed by gzip; its name needs the ending .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; its name needs the ending .zst"),
    (b"PAR1\x15", "a Parquet file; its name needs the ending .parquet"),
    (b"ARROW1\0", "an Arrow file; its name needs the ending .arrow"),
    *((mark, "an archive; unpack it") for mark in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")),
    *((mark, "compressed; unpack it") for mark in (b"\xfd7zXZ\0", *_BZIP2)),
    *((mark, "a pickle, which could run code; save it as CSV") for mark in _PICKLES),
)
# The first files in a zip archive that is a document.
_DOCUMENTS = (
    (b"xl/", "an Excel workbook; save it as CSV"),
    (b"word/", "a Word document; save it as text"),
    (b"mimetypeapplication/vnd.oasis.", "an OpenDocument file; save it as CSV or text"),
)
_ZIP, _ZIP_NAMES = b"PK\x03\x04", re.compile(rb"PK\x03\x04.{26}([\x20-\x7e]+)", re.DOTALL)
_TAR, _TAR_START = b"ustar", 257


def describe_binary(head: bytes) -> str | None:
    """Return what a file that begins with `head` evidently is, if no text: "an archive; ..."."""
    if head.startswith(_ZIP):
        names = _ZIP_NAMES.findall(head)
        found = (kind for mark, kind in _DOCUMENTS if any(n.startswith(mark) for n in names))
        return next(found, "a zip archive; unpack it")
    if head.startswith(_TAR, _TAR_START):
        return "a tar archive; unpack it"
    return next((kind for mark, kind in _KINDS if head.startswith(mark)), None)


def decompressed_name(path: str | Path) -> str:
    """Return the name of a file without `.gz` or `.zst`."""
    name = Path(path).name
    return Path(name).stem if Path(name).suffix.lower() in COMPRESSED_SUFFIXES else name


@contextmanager
def open_binary(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a file, decompressed where its name ends in `.gz` or `.zst`; leave a stream open.

    Raises:
        DataError: the file cannot be opened.
        ConfigError: it ends in `.zst`, and zstandard is not installed.
    """
    if not isinstance(source, str | Path):
        yield source
        return
    suffix = Path(source).suffix.lower()
    if suffix == ".zst":
        require_extra("files", str(source), needs="zstandard")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error.strerror}") from error
        if suffix == ".gz":
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
        elif suffix == ".zst":
            yield io.BufferedReader(_ZstdStream(file))
        else:
            yield file


class _ZstdStream(io.RawIOBase):
    """A decompressed stream. zstandard's own ends without an error where the file is cut."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file = file
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._unread = b""  # compressed
        self._data = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data and self._decompress():
            pass
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size

    def _decompress(self) -> bool:
        """Decompress some bytes; return False at the end of the file."""
        import zstandard

        unread = self._unread or self._file.read(_COMPRESSED_BYTES)
        if not unread:
            if self._frame is not None:
                raise OSError(None, "the file ends within compressed data")
            return False
        self._frame = self._frame or self._new_frame()
        try:
            self._data = memoryview(self._frame.decompress(unread))
        except zstandard.ZstdError as error:
            raise OSError(None, str(error)) from error
        self._unread = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None  # more frames may follow
        return True


READ_ERRORS = (OSError, EOFError, zlib.error)  # of a disk, or of a damaged compressed file


def read_error(error: BaseException) -> str:
    """Return the reason of one of READ_ERRORS."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class HeadStream(io.RawIOBase):
    """A stream that cannot be rewound, such as a pipe, with its `head` in front of the rest."""

    def __init__(self, stream: BinaryIO, *, whole_head: bool) -> None:
        """Read the head: HEAD_BYTES, or what one read returns unless `whole_head`."""
        self.name = getattr(stream, "name", "<stream>")
        self._stream = stream
        self.head = stream.read(HEAD_BYTES) if whole_head else _read_once(stream)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the head first, then the stream, which stays open."""
        data = self.head[self._position : self._position + len(buffer)]
        self._position += len(data)
        data = data or _read_once(self._stream, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read_once(stream: BinaryIO, size: int = HEAD_BYTES) -> bytes:
    read = getattr(stream, "read1", stream.read)
    return cast(bytes, read(size))
