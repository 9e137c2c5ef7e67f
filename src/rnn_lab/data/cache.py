"""Folders that are either whole or absent, built once however many runs want them."""

import ctypes
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rnn_lab.errors import UserError
from rnn_lab.io.atomic import find_os_error, write_error

_MANIFEST = "manifest.json"
_SAMPLED_BYTES = 4096


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, first filled by `build` if it does not exist yet or is damaged.

    `build` writes into a temporary sibling that is renamed when complete, so a process killed
    half-way leaves no half-filled folder. Runs that want the same folder at once wait on a lock
    (released by the system when its holder dies) and find it built.

    Raises:
        WriteError: the folder cannot be written.
    """
    if _is_whole(folder):
        return folder
    partial = folder.with_name(folder.name + ".partial")
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            if not _is_whole(folder):
                for leftover in (partial, folder):
                    shutil.rmtree(leftover, ignore_errors=True)
                _fill(partial, build)
                partial.replace(folder)
                _give_back_freed_memory()
    except UserError:
        raise
    except Exception as error:  # a full disk, a folder of someone else's
        if refused := find_os_error(error) or (error if isinstance(error, OSError) else None):
            raise write_error(refused, folder, what="the cache cannot be filled") from error
        raise
    return folder


def _give_back_freed_memory() -> None:
    """Have the system take back what building has freed, where the C library can (glibc).

    glibc keeps freed pieces of less than 32 MiB, in a heap for each thread that asked for any, and
    training would come on top of them: how much, is chance and grows with the data.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
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


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _MANIFEST).read_text()) == _signatures(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _signatures(folder: Path) -> dict[str, list[int]]:
    """Size and a checksum of both ends of every file.

    What a full disk, a crash or a power cut does to a file shows there, and a gigabyte is judged
    as fast as a line.
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
