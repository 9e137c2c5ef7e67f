"""Arrays on disk: written as their values come, read through a memory map."""

import mmap
from pathlib import Path
from typing import Any, Self

import numpy as np


class ArrayWriter:
    """Writes a .npy file [any number of values] in pieces: the same file as `np.save` of them all.

    To be used in a `with` statement, at whose end the file is whole.
    """

    def __init__(self, path: Path, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._size = 0
        self._write_header()

    def append(self, values: np.ndarray | bytes) -> None:
        """Put `values`, of the file's own type or in its bytes, at the end."""
        if isinstance(values, np.ndarray):
            assert values.dtype == self._dtype, f"{values.dtype} is not {self._dtype}"
            values = values.tobytes()
        self._size += self._file.write(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in it for any size, so that it is as long at the end as at the start.
        shape = (self._size // self._dtype.itemsize,)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def open_array(path: Path) -> np.ndarray:
    """Map a .npy file into memory, to be read only."""
    # A plain array over the map: indexing np.memmap itself is several times slower.
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def release_pages(array: np.ndarray) -> None:
    """Have what was read of a mapped array no longer count as memory of this process.

    Every page that is read stays with the process, up to the whole file, until the system is short
    of memory. The values stay: what is read again comes from the system's own cache, or from disk.
    An array that is not mapped is left alone.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none
        owner.madvise(mmap.MADV_DONTNEED)
