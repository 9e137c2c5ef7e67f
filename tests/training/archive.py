"""A small archive like IMDB's, and a slow server that sends it: for downloads that are killed."""

import gzip
import hashlib
import http.server
import io
import os
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

SPLITS, MOODS = ("train", "test"), {"neg": "awful", "pos": "lovely"}
REVIEWS = 60  # of each mood in each split; two a film
_CHUNK, _PAUSE = 8_192, 0.01  # bytes, seconds


def write_archive(path: Path) -> str:
    """Write the archive; returns its MD5."""
    rng = random.Random(0)
    with (
        gzip.GzipFile(path, "wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for split in SPLITS:
            for mood, word in MOODS.items():
                urls = [f"http://www.imdb.com/title/tt{len(mood + split) * 10_000 + k // 2:07d}/"
                        for k in range(REVIEWS)]  # fmt: skip
                _add(tar, f"{split}/urls_{mood}.txt", "\n".join(urls))
                for k in range(REVIEWS):
                    words = [f"{rng.getrandbits(40):x}" for _ in range(60)] + ["film", word] * 5
                    rng.shuffle(words)
                    _add(
                        tar, f"{split}/{mood}/{k}_{7 if mood == 'pos' else 3}.txt", " ".join(words)
                    )
    return hashlib.md5(path.read_bytes()).hexdigest()


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(f"aclImdb/{name}")
    member.size = len(text)
    tar.addfile(member, io.BytesIO(text.encode()))


def is_the_archive(md5: str) -> Callable[[], None]:
    """What makes a process take this archive for IMDB's."""

    def pretend() -> None:
        from rnn_lab.data.sources import imdb

        os.environ["no_proxy"] = "*"
        imdb.ARCHIVE_MD5 = md5
        imdb.REVIEWS = {f"{split}/{mood}": REVIEWS for split in SPLITS for mood in MOODS}

    return pretend


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Whom it sends to is killed."""


class Server:
    """Sends the file `path` slowly, from a process of its own, which notes each request's Range."""

    def __init__(self, path: Path, asked: Path) -> None:
        content = path.read_bytes()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                with asked.open("a") as file:
                    file.write(f"{wanted}\n")
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                if start >= len(content):
                    return self.send_error(416)
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                for begin in range(start, len(content), _CHUNK):
                    self.wfile.write(content[begin : begin + _CHUNK])
                    time.sleep(_PAUSE)

            def log_message(self, *_: object) -> None:
                pass

        server = _Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/aclImdb_v1.tar.gz"
        self.pid = os.fork()
        if self.pid == 0:
            server.serve_forever()
        server.server_close()
