"""Fetch one large file over an unreliable line: resumed, checked, moved into place whole."""

import hashlib
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from filelock import FileLock

from rnn_lab.data.progress import progress_bar
from rnn_lab.errors import DataError
from rnn_lab.io.atomic import translating_os_errors

CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class _Start:
    """How a server answered: from which byte on it sends, and how long the whole file is."""

    offset: int
    total: int | None


class _NothingLeftError(Exception):
    """HTTP 416: the part asked for begins at or after the end of the file."""


def download(url: str, target: Path, md5: str, *, timeout: float = 10.0) -> Path:
    """Return `target`, fetched from `url` first if it is not there.

    Bytes gather in `target.part`, which a later call goes on from when the line breaks. The file
    appears under its own name only when it is whole and its MD5 right. Of several processes, one
    downloads and the others wait for it.

    Args:
        md5: the expected MD5 of the whole file, in hex.
        timeout: seconds without a single byte, or without an answer, that count as no network.

    Raises:
        DataError: no network, a server that refuses, a connection cut short (what came is kept
            for the next call), or a wrong MD5 (what came is deleted).
        WriteError: the file cannot be written (what came is kept for the next call).
    """
    part = target.with_name(target.name + ".part")
    with translating_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if not target.exists():
                try:
                    _fetch(url, part, timeout)
                except _NothingLeftError:
                    if _md5(part) != md5:  # not a finished part but a wrong one: once more
                        part.unlink()
                        _fetch(url, part, timeout)
                _move_if_right(url, part, target, md5)
    return target


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Append to `part` what it lacks, or begin it anew where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    label = f"Downloading {part.stem}"
    with (
        _receive(url, have, timeout) as (start, chunks),
        part.open("ab" if start.offset else "wb") as file,
        progress_bar(label, start.total, done=start.offset, in_bytes=True) as advance,
    ):
        for chunk in chunks:
            file.write(chunk)
            advance(len(chunk))
        size = file.tell()
    if start.total is not None and size < start.total:
        raise DataError(
            f"{url}: the connection was cut after {size:,} of {start.total:,} bytes; "
            "run again to go on from there"
        )


def _move_if_right(url: str, part: Path, target: Path, md5: str) -> None:
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise DataError(
            f"{url}: what came had the MD5 {found} instead of {md5} and was deleted; run again"
        )
    part.replace(target)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _receive(url: str, offset: int, timeout: float) -> Iterator[tuple[_Start, Iterator[bytes]]]:
    """Ask for `url` from byte `offset` on; give the server's answer and the bytes as they come.

    The asking is done by a thread that may be left behind: looking up a name can hang for longer
    than any socket's timeout, and nothing can interrupt it.
    """
    inbox: queue.Queue[_Start | bytes | Exception] = queue.Queue()
    given_up = threading.Event()
    arguments = (url, offset, timeout, inbox, given_up)
    threading.Thread(target=_ask, args=arguments, daemon=True).start()

    def take() -> _Start | bytes:
        try:
            item = inbox.get(timeout=timeout)
        except queue.Empty:
            raise DataError(f"{url}: no answer for {timeout:g} seconds") from None
        if isinstance(item, Exception):
            raise _as_data_error(url, item, timeout) from item
        return item

    try:
        start = take()
        assert isinstance(start, _Start)
        yield start, iter(take, b"")  # type: ignore[arg-type]
    finally:
        given_up.set()


def _ask(
    url: str,
    offset: int,
    timeout: float,
    inbox: "queue.Queue[_Start | bytes | Exception]",
    given_up: threading.Event,
) -> None:
    """Put into `inbox` a _Start, then chunks, the last of them empty; or what went wrong."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            length = response.headers["Content-Length"]
            resumed = response.status == HTTPStatus.PARTIAL_CONTENT
            begin = offset if resumed else 0
            inbox.put(_Start(begin, begin + int(length) if length else None))
            chunk = b"any"
            while chunk and not given_up.is_set():
                chunk = response.read1(CHUNK_BYTES)
                inbox.put(chunk)
    except Exception as error:  # every kind: it is raised again where the caller waits
        inbox.put(error)


def _as_data_error(url: str, error: Exception, timeout: float) -> Exception:
    if isinstance(error, urllib.error.HTTPError):
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _NothingLeftError()
        return DataError(f"{url}: the server answered {error.code} {error.reason}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return DataError(f"{url}: no answer for {timeout:g} seconds")
    return DataError(f"{url}: {reason}")
