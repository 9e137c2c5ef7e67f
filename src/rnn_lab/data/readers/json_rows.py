"""JSON -> rows: one object a line, a list of objects, or an object of columns."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rnn_lab.data.readers.columns import shorten
from rnn_lab.data.readers.lines import MAX_CHARACTERS, decoding_error

_READ_AT_ONCE = 2**16  # characters
_NUMBER_REST = re.compile(r"[0-9.eE+-]*")
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonObject(dict[str, Any]):
    """A JSON object that records duplicate keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.duplicate_keys: set[str] = set()
        if len(self) != len(pairs):
            names = [name for name, _ in pairs]
            self.duplicate_keys = {name for name in self if names.count(name) > 1}


def add_nested(row: JsonObject, paths: Sequence[str]) -> JsonObject:
    """Return a row with the values of nested objects that paths such as data.text lead to."""
    if not (paths := [path for path in paths if path not in row]):
        return row
    found = JsonObject(list(row.items()))
    found.duplicate_keys.update(row.duplicate_keys)
    for path in paths:
        value: Any = row
        for key in path.split("."):
            if not isinstance(value, JsonObject) or key not in value:
                break
            if key in value.duplicate_keys:
                found.duplicate_keys.add(path)
            value = value[key]
        else:
            found[path] = value
    return found


class JsonError(Exception):
    """A JSON file that cannot be read further."""


def parse_object(source: str, encoding: str) -> JsonObject | str:
    """Return the object in a line of JSON, or the reason why there is none."""
    if reason := decoding_error(source, encoding):
        return reason
    try:
        row = json.loads(source, object_pairs_hook=JsonObject)
    except json.JSONDecodeError as error:
        hint = "; format=json reads a list over lines" if source.lstrip().startswith("[") else ""
        return f"is not JSON: {error.msg} at column {error.colno}{hint}"
    except ValueError:  # Python refuses integers with more digits than it converts quickly
        return "is not read: contains an integer with thousands of digits"
    except RecursionError:
        return "is not read: nested too deeply"
    if not isinstance(row, JsonObject):
        return f"is not a JSON object: {shorten(source.strip())}"
    return row


class JsonStream:
    """The values of one JSON document, one at a time: memory is that of the longest value."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._buffer = ""
        self._at = 0
        self._line = 1  # of the start of the buffer
        self._ended = False
        self._decoder = json.JSONDecoder(object_pairs_hook=JsonObject)

    def rows(self) -> Iterator[Any]:
        """Yield the items of a list, or of the first list in an object.

        Raises:
            JsonError: the document is malformed, or is neither.
        """
        self._enter_object()
        yield from self.items()

    def _enter_object(self) -> None:
        """Go to the first value of an object that is a list or object itself, if there is one."""
        if self._peek() != "{":
            return
        self._next("{")
        while self._peek() != "}":
            self._value()
            self._next(":")
            if self._peek() in ("[", "{"):
                return
            self._value()
            if self._peek() == "}":
                return
            self._next(",")

    def items(self) -> Iterator[Any]:
        """Yield the values of the list, or of the object, that comes next."""
        opening = self._peek()
        if opening not in ("[", "{"):
            raise self._error("expected a list of objects or an object of columns")
        self._next(opening)
        closing = "]" if opening == "[" else "}"
        if self._peek() == closing:
            self._next(closing)
            return
        while True:
            if opening == "{":
                self._value()
                self._next(":")
            yield self._value()
            if self._peek() == closing:
                self._next(closing)
                return
            self._next(",")

    def columns(self) -> Iterator[tuple[str, "Iterator[Any] | None"]]:
        """Yield the keys of an object, each with the values of its list or object, if it is one.

        The values are to be read before the next key; the rest of them is skipped.
        """
        self._next("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise self._error("expected a name in quotes")
            self._next(":")
            if self._peek() in ("[", "{"):
                values = self.items()
                yield key, values
                for _ in values:
                    pass
            else:
                self._value()
                yield key, None
            if self._peek() == "}":
                break
            self._next(",")

    def has_columns(self) -> bool:
        """Return whether the document is an object of columns; reads its beginning."""
        if self._peek() != "{":
            return False
        self._enter_object()
        if self._peek() != "[":
            return True
        self._next("[")
        return self._peek() != "{"

    def _peek(self) -> str:
        """Return the next character that is not a space; "" at the end."""
        if not self._buffer and self._read() and self._buffer.startswith("\ufeff"):
            self._at = 1
        while True:
            space = _SPACE.match(self._buffer, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._buffer) or not self._read():
                return self._buffer[self._at : self._at + 1]

    def _next(self, expected: str) -> None:
        if self._peek() != expected:
            raise self._error(f"expected {expected!r}")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        size = _READ_AT_ONCE
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self._error(error.msg, error.pos) from None
            except ValueError:
                raise self._error("contains an integer with thousands of digits") from None
            except RecursionError:
                raise self._error("nested too deeply") from None
            else:
                rest = _NUMBER_REST.match(self._buffer, end)
                assert rest is not None
                if rest.end() < len(self._buffer) or self._ended:  # else a number may go further
                    self._at = end
                    return value
            if len(self._buffer) - self._at > MAX_CHARACTERS:
                raise self._error(f"a value is longer than {MAX_CHARACTERS:,} characters")
            self._read(size)
            size *= 2  # every attempt starts over: few attempts

    def _read(self, size: int = _READ_AT_ONCE) -> bool:
        """Read on; forget what was used. Return False at the end of the file."""
        self._line += self._buffer.count("\n", 0, self._at)
        text = self._stream.read(size)
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        self._ended = not text
        return bool(text)

    def _error(self, reason: str, position: int | None = None) -> JsonError:
        at = self._at if position is None else position
        line = self._line + self._buffer.count("\n", 0, at)
        return JsonError(f"is not JSON: {reason} in line {line}")


def zip_columns(columns: Sequence[Iterator[Any]]) -> Iterator[list[Any]]:
    """Yield the rows of columns.

    Raises:
        JsonError: the columns differ in length.
    """
    missing = object()
    for row in zip_longest(*columns, fillvalue=missing):
        if any(value is missing for value in row):
            raise JsonError("the columns differ in length")
        yield list(row)
