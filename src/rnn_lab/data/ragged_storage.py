"""Rows of different lengths on disk: written piece by piece, mapped into memory, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from rnn_lab.data.array_storage import ArrayWriter, open_array, release_pages

_MOST_VALUES = 2**18  # of the rows of one piece; a longer row is a piece of its own


@dataclass(frozen=True)
class RaggedArray:
    """Rows of different lengths, one after the other: row i is values[offsets[i]:offsets[i + 1]].

    The arrays may be memory-mapped.
    """

    values: np.ndarray  # unsigned integers [sum of lengths]
    offsets: np.ndarray  # int64 [rows + 1]

    @classmethod
    def load(cls, folder: Path, name: str) -> RaggedArray:
        """Memory-map what a RaggedArrayWriter wrote."""
        return cls(
            open_array(folder / f"{name}.values.npy"), open_array(folder / f"{name}.offsets.npy")
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def pieces(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """All rows in order, some at a time, without keeping what was read of a mapped file.

        Yields:
            Which rows these are; their values, one after the other; their lengths, int64 [rows].
        """
        first = 0
        while first < len(self):
            begin = self.offsets[first]
            end_of_most = np.searchsorted(self.offsets, begin + _MOST_VALUES, side="right") - 1
            last = max(int(end_of_most), first + 1)
            values = np.array(self.values[begin : self.offsets[last]])
            yield slice(first, last), values, np.diff(self.offsets[first : last + 1])
            release_pages(self.values)
            first = last


class RaggedArrayWriter:
    """Writes two .npy files into a folder; to be used in a `with` statement."""

    def __init__(self, folder: Path, name: str, dtype: Any) -> None:
        """Write values of the unsigned integer type `dtype`."""
        self._values = ArrayWriter(folder / f"{name}.values.npy", dtype)
        self._offsets = ArrayWriter(folder / f"{name}.offsets.npy", np.int64)
        self._end = 0
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Put rows of the given lengths at the end; `values` are theirs, one after the other."""
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        self._values.append(values)
        self._offsets.append(ends)
        self._end += len(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._values.__exit__(*error)
        self._offsets.__exit__(*error)
