"""Arrays, rows of different lengths and texts on disk, read through memory maps.

A corpus may be larger than memory: writers keep nothing of what they have written, and readers
release the pages that they have read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from rnn_lab.iteration import batched

HASH_BYTES = 16  # of a text: two numbers of uint64

_CHUNK_VALUES = 2**18  # values of a chunk of a RaggedArray; a longer row is a chunk of its own
_CHUNK_CHARACTERS = 2**23  # characters of a chunk of texts, up to the text that exceeds them
_CHUNK_TEXTS = 500  # texts that MemmapTexts reads between two releases of pages
_INT64 = struct.Struct("=q")


class ArrayWriter:
    """Write a .npy file of unknown size in chunks. The result equals `np.save` of all values.

    Use it in a `with` statement: the file is complete after the block.
    """

    def __init__(self, path: Path, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._size = 0
        self._write_header()

    def append(self, values: np.ndarray | bytes) -> None:
        """Append `values`, an array of the file's dtype or the bytes of one."""
        if isinstance(values, np.ndarray):
            assert values.dtype == self._dtype, f"{values.dtype} is not {self._dtype}"
            values = values.tobytes()
        self._size += self._file.write(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._file.closed:
            with self._file:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        # NumPy pads the header for any size, so that the final header fits over the first one.
        shape = (self._size // self._dtype.itemsize,)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def open_array(path: Path) -> np.ndarray:
    """Map a .npy file into memory, read-only."""
    # A plain array over the map: indexing np.memmap itself is several times slower.
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def release_pages(array: np.ndarray) -> None:
    """Remove the pages of a mapped array from the memory of this process.

    The system keeps every page that was read, up to the whole file, until memory is short. The
    values stay valid: they are read again from the system's cache or from disk. An array that is
    not mapped is not changed.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        owner.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class RaggedArray:
    """Rows of different lengths in one array: row i is values[offsets[i]:offsets[i + 1]].

    The arrays may be memory-mapped.
    """

    values: np.ndarray  # unsigned integers [sum of lengths]
    offsets: np.ndarray  # int64 [rows + 1]

    @classmethod
    def load(cls, folder: Path, name: str) -> RaggedArray:
        """Memory-map what a RaggedArrayWriter has written."""
        return cls(
            open_array(folder / f"{name}.values.npy"), open_array(folder / f"{name}.offsets.npy")
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def chunks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Read all rows in order, in chunks, and release the pages of each chunk.

        Yields:
            The slice of rows; their values, concatenated; their lengths, int64 [rows].
        """
        first = 0
        while first < len(self):
            begin = self.offsets[first]
            end_of_most = np.searchsorted(self.offsets, begin + _CHUNK_VALUES, side="right") - 1
            last = max(int(end_of_most), first + 1)
            values = np.array(self.values[begin : self.offsets[last]])
            yield slice(first, last), values, np.diff(self.offsets[first : last + 1])
            release_pages(self.values)
            first = last


class ConcatenatedArrays:
    """Two arrays read as one, `array[positions]`, without a copy of either."""

    def __init__(self, first: np.ndarray | ConcatenatedArrays, second: np.ndarray) -> None:
        self._first, self._second = first, second
        self.dtype: np.dtype[Any] = np.result_type(first.dtype, second.dtype)

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, positions: np.ndarray | slice) -> np.ndarray:
        """Return the values at `positions`, int64 [positions] or a slice."""
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self)))
        found = np.empty(len(positions), self.dtype)
        in_first = positions < len(self._first)
        found[in_first] = self._first[positions[in_first]]
        found[~in_first] = self._second[positions[~in_first] - len(self._first)]
        return found


class RaggedArrayWriter:
    """Write rows of different lengths as two .npy files; use it in a `with` statement."""

    def __init__(self, folder: Path, name: str, dtype: Any) -> None:
        """Write values of the unsigned integer type `dtype`."""
        self._values = ArrayWriter(folder / f"{name}.values.npy", dtype)
        self._offsets = ArrayWriter(folder / f"{name}.offsets.npy", np.int64)
        self._end = 0
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Append rows of the given lengths; `values` holds them, concatenated."""
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        self._values.append(values)
        self._offsets.append(ends)
        self._end += len(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._values.__exit__(*error)
        self._offsets.__exit__(*error)


class MemmapTexts(Sequence[str]):
    """Texts in one mapped UTF-8 blob, decoded on access."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray, rows: np.ndarray | None = None):
        """Take the texts at `rows` (None: all), where text i is blob[offsets[i]:offsets[i + 1]].

        Args:
            blob: uint8 [bytes].
            offsets: int64 [texts + 1].
            rows: int64 [rows], in any order.
        """
        self._blob = blob
        self._bytes = blob.data
        self._offsets, self._rows = offsets, rows
        self._starts, self._ends = offsets[:-1], offsets[1:]

    @classmethod
    def open(cls, folder: Path, name: str, rows: np.ndarray | None = None) -> MemmapTexts:
        """Map the texts of a TextWriter (at `rows`, None: all) without reading any."""
        blob, offsets = (open_array(folder / f"{name}{part}.npy") for part in ("", "_offsets"))
        return cls(blob, offsets, rows)

    def take(self, rows: np.ndarray) -> MemmapTexts:
        """Return the texts at `rows`, over the same blob."""
        rows = rows if self._rows is None else self._rows[rows]
        return MemmapTexts(self._blob, self._offsets, rows)

    def __len__(self) -> int:
        return len(self._starts if self._rows is None else self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            rows = index if self._rows is None else self._rows[index]
            spans = zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True)
            texts = [str(self._bytes[start:end], "utf-8") for start, end in spans]
            release_pages(self._blob)
            return texts
        row = range(len(self))[index]  # accepts negative indices and raises IndexError
        row = row if self._rows is None else int(self._rows[row])
        return str(self._bytes[self._starts[row] : self._ends[row]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK_TEXTS):
            yield from self[start : start + _CHUNK_TEXTS]


class TextWriter:
    """Write texts to disk one by one, for `MemmapTexts.open`; use it in a `with` statement."""

    def __init__(self, folder: Path, name: str) -> None:
        self._blob = ArrayWriter(folder / f"{name}.npy", np.uint8)
        self._offsets = ArrayWriter(folder / f"{name}_offsets.npy", np.int64)
        self._end = 0
        self._offsets.append(_INT64.pack(0))

    def append(self, text: str | bytes) -> None:
        """Append a text, given as such or in UTF-8."""
        encoded = text.encode("utf-8") if isinstance(text, str) else text
        self._blob.append(encoded)
        self._end += len(encoded)
        self._offsets.append(_INT64.pack(self._end))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._blob.__exit__(*error)
        self._offsets.__exit__(*error)


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """Return `hash_bytes` of the UTF-8 of each text: uint64 [texts, 2]."""
    # JSON can spell half a surrogate pair, which plain UTF-8 does not encode.
    hashes = b"".join(hash_bytes(text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.frombuffer(hashes, np.uint64).reshape(-1, 2)


def hash_bytes(content: bytes) -> bytes:
    """Return 128 bits of BLAKE2b.

    Among ten million texts the probability of one false match is below 1e-24. With the first 64
    bits alone it is 1 in 370,000.
    """
    return blake2b(content, digest_size=HASH_BYTES).digest()


def chunked(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of `size` texts, or of fewer where the texts are long."""
    return batched(texts, size, len, _CHUNK_CHARACTERS)
