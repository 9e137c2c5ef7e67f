"""Infer the text encoding of bytes."""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rnn_lab.data.readers.binary import READ_ERRORS, open_binary

FALLBACK = "utf-8"  # where no encoding is plausible: each invalid line is reported
MIXED = "utf-8 and cp1252"  # lines of both: either encoding garbles or loses some
# For an error message. Those that decode any bytes, such as latin-1, say nothing.
_CANDIDATES = ("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251", "cp1252", "utf-16")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HIGH = bytes(range(0x80, 0x100))
_LETTERS = bytes(c for c in range(0x80) if chr(c).isalpha())
_NOT_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"
_CHUNK = 2**20
_MAX_HIGH_SHARE = 0.3  # of the letters of a text in a Latin script that are not ASCII
_MIXED_SHARE = 0.1  # valid characters of UTF-8 per invalid byte; cp1252 has fewer, by chance
# NUL bytes of UTF-16: ASCII is half of them, in Chinese text there are line ends and commas alone.
_MANY_NULS, _FEW_NULS, _MIN_NULS = 0.2, 0.01, 8


@dataclass
class _Counts:
    """What the bytes of a file are, from one pass over it."""

    letters: int = 0  # of ASCII
    high: int = 0  # bytes from 0x80
    undefined: int = 0  # those that cp1252 does not define
    nul_even: int = 0  # NUL bytes at even positions
    nul_odd: int = 0
    size: int = 0
    valid: int = 0  # characters of several bytes in UTF-8
    invalid: int = 0  # bytes that are not part of UTF-8
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("surrogateescape")
    )

    def update(self, chunk: bytes, *, final: bool = False) -> None:
        text = self.decoder.decode(chunk, final)
        if b"\0" in chunk:
            even = self.size % 2
            self.nul_even += chunk[even::2].count(0)
            self.nul_odd += chunk[1 - even :: 2].count(0)
        self.size += len(chunk)
        self.letters += len(chunk) - len(chunk.translate(None, _LETTERS))
        if not text.isascii():
            invalid = len(text) - len(text.encode("utf-8", "ignore").decode())  # surrogates
            self.invalid += invalid
            self.valid += len(text) - len(text.encode("ascii", "ignore")) - invalid
        if not chunk.isascii():
            self.high += len(chunk) - len(chunk.translate(None, _HIGH))
            self.undefined += len(chunk) - len(chunk.translate(None, _NOT_IN_CP1252))

    def encoding(self) -> str | None:
        """Return the plausible encoding, or None."""
        for nul, other, name in (
            (self.nul_odd, self.nul_even, "utf-16-le"),
            (self.nul_even, self.nul_odd, "utf-16-be"),
        ):
            is_frequent = nul > _MANY_NULS * self.size
            if nul > 10 * other and (
                is_frequent or (nul >= _MIN_NULS and nul > _FEW_NULS * self.size)
            ):
                return name
        # More valid characters than invalid bytes: UTF-8 with some damage, not another encoding.
        if self.valid >= self.invalid:
            return "utf-8"
        if self.undefined or self.high > _MAX_HIGH_SHARE * (self.letters + self.high):
            return None
        return "cp1252" if self.valid < _MIXED_SHARE * self.invalid else MIXED


def detect_encoding(chunks: Iterable[bytes], *, is_cut: bool = False) -> str | None:
    """Return the plausible encoding of bytes in one pass, or None.

    UTF-16 and UTF-32 by their byte order marks, UTF-16 also by its NUL bytes; else UTF-8 if the
    bytes are valid, or nearly; else cp1252, which contains latin-1's printable characters, if
    most letters are ASCII, or `MIXED`. With `is_cut`, the last character may be incomplete.
    """
    counts = _Counts()
    for number, chunk in enumerate(chunks):
        if number == 0:
            for mark, name in _MARKS:
                if chunk.startswith(mark):
                    return name
        counts.update(chunk)
    counts.update(b"", final=not is_cut)
    return counts.encoding()


def detect_file_encoding(path: str | Path) -> str | None:
    """Return the plausible encoding of a file, reading all of it; None: there is none.

    A first part would not do: the first character that is not ASCII may be anywhere.
    """
    with open_binary(path) as stream:
        return detect_stream_encoding(stream)


def detect_stream_encoding(stream: BinaryIO) -> str | None:
    """Return the plausible encoding of what is left of a stream, reading all of it; or None."""
    return detect_encoding(_chunks(stream))


def choose_encoding(detected: str | None, like: str | None) -> str:
    """Return the encoding to read a file with.

    Bytes that are neither UTF-8 nor UTF-16 do not show their encoding: it is that of a file `like`
    this one, unless that is one of these too.
    """
    codec = None if like is None else _lookup(like)
    is_other = codec is not None and not codec.name.startswith(("utf", "ascii", "cp1252"))
    if codec is not None and is_other and detected in (None, "cp1252", MIXED):
        return codec.name
    return FALLBACK if detected in (None, MIXED) else detected


def _chunks(stream: BinaryIO) -> Iterable[bytes]:
    try:
        while chunk := stream.read(_CHUNK):
            yield chunk
    except READ_ERRORS:
        return  # reported with its line when the file is read


def working_encodings(path: str | Path, failed: str) -> list[str]:
    """Return the plausible encoding of a file, if it is not `failed`; none for a mixed file.

    If none is plausible, return all known ones that decode the file.
    """
    likely = detect_file_encoding(path)
    if likely == MIXED:
        return []
    names = _CANDIDATES if likely is None else (likely,)
    return [n for n in names if _lookup(n) != _lookup(failed) and _decodes(path, n)]


def encoding_hint(path: str | Path, fault: str, prefix: str) -> str | None:
    """Return which encodings decode a file, for a fault of `decoding_error`; None if none does.

    `prefix` is that of the option `encoding` in a message.
    """
    if not fault.startswith("is not ") or ": byte 0x" not in fault:
        return None
    failed = fault.removeprefix("is not ").partition(":")[0]
    working = working_encodings(path, failed)
    if len(working) == 1:
        return f"({prefix}encoding={working[0]} decodes the file)"
    if working:
        return f"(encodings that decode the file: {', '.join(working)}; set {prefix}encoding)"
    return None


def mixed_encoding_hint(path: str | Path, fault: str) -> str | None:
    """Return how many lines of a file with this fault of a line are not UTF-8, and what reads them.

    None: UTF-8 is not the encoding that failed.
    """
    if not fault.startswith("is not utf-8: byte 0x"):
        return None
    other = "; data.encoding=cp1252 decodes them, but garbles utf-8"
    with open_binary(path) as stream:
        lines = iter(lambda: stream.readline(_CHUNK), b"")
        is_utf8 = [_is_utf8(line) for line in lines]
    return (
        f"({is_utf8.count(False):,} of {len(is_utf8):,} lines are not utf-8: "
        f"data.on_bad_lines=skip skips them{other if _decodes(path, 'cp1252') else ''})"
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def names_utf8(encoding: str) -> bool:
    """Return whether an encoding, by any of its names, is UTF-8."""
    codec = _lookup(encoding)
    return codec is not None and codec.name in ("utf-8", "utf-8-sig")


def _lookup(name: str) -> codecs.CodecInfo | None:
    try:
        return codecs.lookup(name)
    except (LookupError, ValueError):
        return None


def _decodes(path: str | Path, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        with open_binary(path) as stream:
            for chunk in _chunks(stream):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True
