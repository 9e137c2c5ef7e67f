"""Bytes -> numbered lines of text, for any bytes."""

import codecs
import io
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import BinaryIO

from rnn_lab.data.readers.binary import READ_ERRORS, read_error
from rnn_lab.errors import DataError

MAX_CHARACTERS = 2**24  # of a line or text; bounds the memory for a line without an end
_INVALID = re.compile("[\0\ud800-\udfff]")
_LINE_END = re.compile("\r\n?|\n")
_READ_AT_ONCE = 2**16  # characters
_UTF16_BYTES = (0xFE, 0xFF)  # UTF-16 begins with them, UTF-8 never contains them


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    """Do what `surrogateescape` does, for the bytes of every encoding."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    undecodable = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in undecodable), error.end


codecs.register_error("escape bytes", _escape_bytes)


def numbered_lines(
    stream: BinaryIO, name: str, encoding: str, newline: str
) -> Generator[tuple[int, str], None, None]:
    r"""Yield the lines of a stream, decoded, with their ends and their numbers from 1.

    A byte that cannot be decoded becomes a lone surrogate; a byte order mark is dropped. A line
    longer than MAX_CHARACTERS is cut to one character more than that. `newline` is as for `open`;
    in a stream without any "\n", lines also end in "\r".

    Raises:
        DataError: the encoding is unknown, or reading fails; names the line.
    """
    try:
        text_stream = io.TextIOWrapper(
            stream, encoding=encoding, errors="escape bytes", newline=newline
        )
    except (LookupError, ValueError) as error:
        raise DataError(f"{name}: no such text encoding: {encoding!r}") from error
    line = 0
    try:
        for line, text in enumerate(_lines(text_stream, newline), start=1):
            yield line, text.removeprefix("\ufeff") if line == 1 else text
    except UnicodeError as error:
        raise DataError(f"{name}:{line + 1}: is not {encoding}: {error}") from error
    except READ_ERRORS as error:
        raise DataError(f"{name}:{line + 1}: cannot be read: {read_error(error)}") from error
    finally:
        with suppress(ValueError):  # closed already
            text_stream.detach()  # the caller closes the stream


def _lines(stream: io.TextIOWrapper, newline: str) -> Iterator[str]:
    ends = ("\n",) if newline == "\n" else ("\n", "\r")
    is_first = True
    while text := stream.readline(MAX_CHARACTERS + 1):
        if is_first and not text.endswith(ends) and "\r" in text:
            yield from _ended_by_returns(text, stream)
            return
        is_first = False
        yield text
        if len(text) > MAX_CHARACTERS:
            while not text.endswith(ends) and (text := stream.readline(_READ_AT_ONCE)):
                pass


def _ended_by_returns(begun: str, stream: io.TextIOWrapper) -> Iterator[str]:
    r"""Yield the lines of a file whose lines end in "\r", given its beginning."""
    parts: list[str] = []  # of a line whose end was not read yet
    held = 0
    while begun:
        *ended, rest = _LINE_END.split(begun)
        for line in ended:
            yield "".join([*parts, line, "\r"])
            parts, held = [], 0
        if held <= MAX_CHARACTERS:
            parts.append(rest)
            held += len(rest)
        begun = stream.read(_READ_AT_ONCE)
    if held:
        yield "".join(parts)


def decoding_error(text: str, encoding: str | None) -> str | None:
    """Return why `text` is decoded wrongly, or None; `encoding` is None if its bytes were valid."""
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS:,} characters"
    found = _INVALID.search(text)
    if found is None:
        return None
    if found[0] == "\0":
        hint = f" (is the file {encoding}?)" if encoding else ""
        return f"contains a NUL character{hint}"
    byte = ord(found[0]) - 0xDC00  # undoes _escape_bytes
    if encoding is None or not 0 <= byte <= 0xFF:
        return "contains half a surrogate pair"
    hint = " (is the file utf-16?)" if byte in _UTF16_BYTES else ""
    return f"is not {encoding}: byte 0x{byte:02x}{hint}"
