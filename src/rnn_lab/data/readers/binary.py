"""Paths and streams -> bytes: decompression, and a stream whose beginning can be read twice."""

import gzip
import io
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
