"""Bytes -> numbered lines of text, whatever bytes they are."""

import codecs
import io
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import BinaryIO

from rnn_lab.errors import DataError

MAX_CHARACTERS = 2**24  # of a line or text; bounds what one without an end can swallow
UNREADABLE = re.compile("[\0\ud800-\udfff]")
_LINE_END = re.compile("\r\n?|\n")
_READ_AT_ONCE = 2**16  # characters
_NO_BYTE_OF_UTF8 = (0xFE, 0xFF)  # and the two that UTF-16 begins with


def _bytes_as_halves(error: UnicodeError) -> tuple[str, int]:
    """What `surrogateescape` does, for the bytes of every encoding."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    undecodable = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in undecodable), error.end


codecs.register_error("bytes as halves", _bytes_as_halves)


def numbered_lines(
    stream: BinaryIO, name: str, encoding: str, newline: str
) -> Generator[tuple[int, str], None, None]:
    r"""Number, from 1, and decode the lines of a stream, each with the end it has.

    A byte that cannot be decoded stays, as a lone surrogate; a byte order mark is dropped. Of a
    line longer than MAX_CHARACTERS comes one character more than that. Lines end as `open` has it
    for `newline`; in a stream without any "\n" they end in "\r" too.

    Raises:
        DataError: the encoding is unknown, or the stream cannot be read on; names the line.
    """
    try:
        text_stream = io.TextIOWrapper(
            stream, encoding=encoding, errors="bytes as halves", newline=newline
        )
    except (LookupError, ValueError) as error:
        raise DataError(f"{name}: there is no text encoding {encoding!r}") from error
    line = 0
    try:
        for line, text in enumerate(_lines(text_stream, newline), start=1):
            yield line, text.removeprefix("\ufeff") if line == 1 else text
    except UnicodeError as error:
        raise DataError(f"{name}:{line + 1}: is not {encoding}: {error}") from error
    except OSError as error:
        raise DataError(f"{name}:{line + 1}: cannot be read: {error.strerror}") from error
    finally:
        with suppress(ValueError):  # closed already
            text_stream.detach()  # the stream is its opener's to close


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
    """The lines of a file of an old Mac, whose beginning has been read."""
    parts: list[str] = []  # of a line whose end has not come yet
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
    """Why `text` cannot be what was meant, if so; `encoding` is None where its bytes were good."""
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS:,} characters"
    found = UNREADABLE.search(text)
    if found is None:
        return None
    if found[0] == "\0":
        hint = f" (is the file {encoding}?)" if encoding else ""
        return f"holds a NUL character{hint}"
    byte = ord(found[0]) - 0xDC00  # undoes _bytes_as_halves
    if encoding is None or not 0 <= byte <= 0xFF:
        return "holds half a character"
    hint = " (is the file utf-16?)" if byte in _NO_BYTE_OF_UTF8 else ""
    return f"is not {encoding}: byte 0x{byte:02x}{hint}"
