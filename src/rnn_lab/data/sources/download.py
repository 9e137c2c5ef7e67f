"""Download one large file over an unreliable connection: resume it, then check its MD5."""

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
class _Response:
    """The response of a server: the first byte that it sends, and the size of the file."""

    offset: int
    total: int | None


class _RangeError(Exception):
    """HTTP 416: the requested range begins at or after the end of the file."""


def download(url: str, target: Path, md5: str, *, timeout: float = 10.0) -> Path:
    """Return `target`; download it from `url` first if it does not exist.

    The bytes are written to `target.part`. After an interruption, a later call resumes there. The
    file gets its own name once it is complete and its MD5 is right. Of several processes, one
    downloads and the others wait.

    Args:
        md5: the expected MD5 of the file, in hex.
        timeout: seconds without a byte or a response that count as no network.

    Raises:
        DataError: there is no network, the server refuses, the connection is interrupted (the
            part is kept for the next call) or the MD5 is wrong (the part is deleted).
        WriteError: the file cannot be written (the part is kept for the next call).
    """
    part = target.with_name(target.name + ".part")
    with translating_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if not target.exists():
                try:
                    _fetch(url, part, timeout)
                except _RangeError:
                    if _md5(part) != md5:  # not a complete part but a wrong one: start over
                        part.unlink()
                        _fetch(url, part, timeout)
                _move_if_valid(url, part, target, md5)
    return target


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Append the missing bytes to `part`, or start over if the server cannot resume."""
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
            f"{url}: the connection was interrupted after {size:,} of {start.total:,} bytes; "
            "repeat the command to resume"
        )


def _move_if_valid(url: str, part: Path, target: Path, md5: str) -> None:
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise DataError(
            f"{url}: the download has the MD5 {found} instead of {md5} and was deleted; "
            "repeat the command"
        )
    part.replace(target)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _receive(url: str, offset: int, timeout: float) -> Iterator[tuple[_Response, Iterator[bytes]]]:
    """Request `url` from byte `offset`; yield the response and an iterator over the bytes.

    A thread makes the request, and may be abandoned: a name look-up can hang for longer than the
    timeout of a socket, and cannot be interrupted.
    """
    inbox: queue.Queue[_Response | bytes | Exception] = queue.Queue()
    abandoned = threading.Event()
    arguments = (url, offset, timeout, inbox, abandoned)
    threading.Thread(target=_request, args=arguments, daemon=True).start()

    def take() -> _Response | bytes:
        try:
            item = inbox.get(timeout=timeout)
        except queue.Empty:
            raise DataError(f"{url}: no response for {timeout:g} seconds") from None
        if isinstance(item, Exception):
            raise _as_data_error(url, item, timeout) from item
        return item

    try:
        start = take()
        assert isinstance(start, _Response)
        yield start, iter(take, b"")  # type: ignore[arg-type]
    finally:
        abandoned.set()


def _request(
    url: str,
    offset: int,
    timeout: float,
    inbox: "queue.Queue[_Response | bytes | Exception]",
    abandoned: threading.Event,
) -> None:
    """Put a _Response into `inbox`, then chunks, the last one empty; or an exception."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            length = response.headers["Content-Length"]
            resumed = response.status == HTTPStatus.PARTIAL_CONTENT
            begin = offset if resumed else 0
            inbox.put(_Response(begin, begin + int(length) if length else None))
            chunk = b"any"
            while chunk and not abandoned.is_set():
                chunk = response.read1(CHUNK_BYTES)
                inbox.put(chunk)
    except Exception as error:  # of any kind: `take` raises it in the waiting thread
        inbox.put(error)


def _as_data_error(url: str, error: Exception, timeout: float) -> Exception:
    if isinstance(error, urllib.error.HTTPError):
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _RangeError()
        return DataError(f"{url}: the server responded {error.code} {error.reason}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return DataError(f"{url}: no response for {timeout:g} seconds")
    return DataError(f"{url}: {reason}")
