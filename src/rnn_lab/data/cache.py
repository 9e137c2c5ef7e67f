"""Cache folders that are either complete or absent, built once for all runs, and their names."""

import ctypes
import hashlib
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock

from rnn_lab.errors import UserError
from rnn_lab.io.atomic import find_os_error, write_error

CACHE_FORMAT = 4  # part of every key of texts; raise it when the files of a CorpusWriter change
_MANIFEST = "manifest.json"
_TAG = "CACHEDIR.TAG"
_SAMPLED_BYTES = 4096


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`; call `build` first if it does not exist or is damaged.

    `build` writes into a temporary sibling, which is renamed when complete, so that a killed
    process leaves no incomplete folder. Concurrent runs wait on a lock, which the system releases
    when its owner dies, and then find the complete folder.

    Raises:
        WriteError: the folder cannot be written.
    """
    if _is_complete(folder):
        return folder
    partial = folder.with_name(folder.name + ".partial")
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _tag(folder.parent)
        with lock:
            if not _is_complete(folder):
                for leftover in (partial, folder):
                    shutil.rmtree(leftover, ignore_errors=True)
                _fill(partial, build)
                partial.replace(folder)
                _trim_heap()
    except UserError:
        raise
    except Exception as error:  # a full disk, a folder without permission
        if refused := find_os_error(error) or (error if isinstance(error, OSError) else None):
            raise write_error(
                refused, folder, what="the cache (cache_dir) cannot be filled"
            ) from error
        raise
    return folder


def is_cache(folder: Path) -> bool:
    """Return whether a folder is a cache, of this program or of another one that tags its own.

    https://bford.info/cachedir
    """
    return (folder / _TAG).is_file()


def _tag(folder: Path) -> None:
    """Mark a folder as a cache, which is no class where it is among folders of texts."""
    tag = folder / _TAG
    if not tag.exists():
        tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# A cache of RNN Lab.\n")


def _trim_heap() -> None:
    """Return freed memory to the system, if the C library can (glibc).

    glibc keeps freed blocks below 32 MiB in one heap per thread, and training would need its
    memory in addition. The amount varies and grows with the data.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
        if trim is not None:
            trim(0)


def _fill(partial: Path, build: Callable[[Path], None]) -> None:
    partial.mkdir()
    try:
        build(partial)
        (partial / _MANIFEST).write_text(json.dumps(_signatures(partial)))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _is_complete(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _MANIFEST).read_text()) == _signatures(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _signatures(folder: Path) -> dict[str, list[int]]:
    """Return size and a checksum of both ends of every file.

    They show what a full disk, a crash or a power cut does to a file, and take the same time for a
    large file as for a small one.
    """
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)
    return {path.relative_to(folder).as_posix(): _signature(path) for path in files}


def _signature(path: Path) -> list[int]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_SAMPLED_BYTES)
        file.seek(max(size - _SAMPLED_BYTES, 0))
        return [size, zlib.crc32(file.read(), zlib.crc32(head))]


def settings_key(settings: Mapping[str, object]) -> str:
    """Return the name of a cache folder for what these settings, of plain types, decide."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]


def rows_fingerprint(rows: np.ndarray) -> str:
    """Return a sha256 (hex) of the positions of examples."""
    return hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()


def stat_key(files: Iterable[Path | os.DirEntry[str]], options: str = "") -> str:
    """Return a cache key for the content of files, derived from path, size and time alone.

    Give absolute paths in a fixed order, so that the key is the same from every working folder.
    """
    digest = hashlib.sha256(f"{CACHE_FORMAT}\n{options}".encode())
    for path in files:
        stat = path.stat()
        line = f"\n{os.fspath(path)} {stat.st_size} {stat.st_mtime_ns}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
