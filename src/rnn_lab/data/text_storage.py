"""Texts on disk, read when asked for: a corpus may be larger than memory."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np

from rnn_lab.data.array_storage import ArrayWriter, open_array, release_pages

_MOST_CHARACTERS = 2**23  # of the texts of one piece, but for the last of them
_READ_AT_ONCE = 500  # texts
_OFFSET = struct.Struct("=q")  # an int64 in its bytes


class MemmapTexts(Sequence[str]):
    """Texts in one UTF-8 blob, mapped into memory and decoded when asked for."""

    def __init__(self, blob: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Text i is blob[starts[i] : ends[i]], `blob` being uint8 [bytes]."""
        self._blob = blob
        self._bytes = blob.data
        self._starts = starts
        self._ends = ends

    @classmethod
    def open(cls, folder: Path, name: str) -> "MemmapTexts":
        """Map what `write_texts` or a TextWriter wrote, without reading any text."""
        offsets = open_array(folder / f"{name}_offsets.npy")
        return cls(open_array(folder / f"{name}.npy"), offsets[:-1], offsets[1:])

    def take(self, rows: np.ndarray) -> "MemmapTexts":
        """The texts at `rows`, over the same blob."""
        return MemmapTexts(self._blob, self._starts[rows], self._ends[rows])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [str(text, "utf-8") for text in self._read(index)]
        number = range(len(self))[index]  # counts negative indices and raises IndexError
        return str(self._bytes[self._starts[number] : self._ends[number]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _READ_AT_ONCE):
            yield from self[start : start + _READ_AT_ONCE]

    def utf8_lengths(self) -> np.ndarray:
        """The bytes of each text, int64 [texts]."""
        return self._ends - self._starts

    def utf8_chunks(self) -> Iterator[bytes]:
        """All texts one after the other, some at a time, undecoded."""
        for start in range(0, len(self), _READ_AT_ONCE):
            yield b"".join(self._read(slice(start, start + _READ_AT_ONCE)))

    def _read(self, rows: slice) -> Iterator[memoryview]:
        spans = zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True)
        for start, end in spans:
            yield self._bytes[start:end]
        release_pages(self._blob)


class TextWriter:
    """Writes texts to disk as they come, for `MemmapTexts.open`; to be used in a `with` statement.

    In memory it keeps nothing of them.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._blob = ArrayWriter(folder / f"{name}.npy", np.uint8)
        self._offsets = ArrayWriter(folder / f"{name}_offsets.npy", np.int64)
        self._end = 0
        self._offsets.append(_OFFSET.pack(0))

    def append(self, text: str) -> None:
        """Put a text at the end."""
        encoded = text.encode("utf-8")
        self._blob.append(encoded)
        self._end += len(encoded)
        self._offsets.append(_OFFSET.pack(self._end))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._blob.__exit__(*error)
        self._offsets.__exit__(*error)


def write_texts(texts: Sequence[str], folder: Path, name: str) -> None:
    """Write texts, from memory or from elsewhere on disk, where `MemmapTexts.open` finds them."""
    with ArrayWriter(folder / f"{name}.npy", np.uint8) as blob:
        for piece in utf8_chunks(texts):
            blob.append(piece)
    np.save(folder / f"{name}_offsets.npy", utf8_offsets(texts))


def utf8_chunks(texts: Sequence[str]) -> Iterator[bytes]:
    """All texts one after the other in UTF-8, some at a time."""
    if isinstance(texts, MemmapTexts):
        return texts.utf8_chunks()
    return ("".join(piece).encode("utf-8") for piece in chunked(texts, _READ_AT_ONCE))


def utf8_offsets(texts: Sequence[str]) -> np.ndarray:
    """Where each text begins among all of them in UTF-8, and where the last ends; int64."""
    if isinstance(texts, MemmapTexts):
        lengths = texts.utf8_lengths()
    else:
        lengths = np.fromiter((len(text.encode("utf-8")) for text in texts), np.int64, len(texts))
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))


def chunked(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """The texts in lists of `most`, or of fewer where they are long."""
    piece: list[str] = []
    characters = 0
    for text in texts:
        piece.append(text)
        characters += len(text)
        if len(piece) == most or characters >= _MOST_CHARACTERS:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece
