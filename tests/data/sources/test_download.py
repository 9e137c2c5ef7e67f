import hashlib
import http.server
import os
import socket
import threading
import time
from dataclasses import dataclass, field

import pytest

from rnn_lab.data.sources.download import download
from rnn_lab.errors import DataError, WriteError
from tests.cli.forked import Started

CONTENT = os.urandom(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """A real HTTP server with configurable behaviour."""

    url: str = ""
    content: bytes = CONTENT
    knows_range: bool = True
    sends: int | None = None  # how many bytes of an answer, before `then`
    then: str = "cut"  # or "stall"
    delay: float = 0.0
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    stop: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers["Range"]
            state.asked.append(wanted)
            if self.path != "/file":
                return self.send_error(404)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            start = start if state.knows_range else 0
            if start >= len(state.content):
                return self.send_error(416)
            body = state.content[start:]
            self.send_response(206 if wanted and state.knows_range else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            time.sleep(state.delay)
            self.wfile.write(body[: state.sends])
            if state.sends is not None and state.then == "stall":
                self.wfile.flush()
                state.stop.wait(30)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        serve = threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        state.url = f"http://127.0.0.1:{http_server.server_port}/file"
        yield state
        state.stop.set()
        http_server.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new folder" / "file.bin"


def part_of(target):
    return target.with_name("file.bin.part")


def test_a_file_is_downloaded_completely_and_once(server, target):
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    download(server.url, target, MD5)
    assert server.asked == [None]
    assert not part_of(target).exists()


def test_an_interrupted_download_resumes_where_it_stopped(server, target):
    server.sends = HALF
    with pytest.raises(DataError, match=r"interrupted after 350,000 of 700,000 bytes; repeat"):
        download(server.url, target, MD5)
    assert part_of(target).read_bytes() == CONTENT[:HALF]
    assert not target.exists()
    server.sends = None
    assert download(server.url, target, MD5).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-"]


def test_a_server_that_cannot_resume_sends_everything_again(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:HALF])
    server.knows_range = False
    assert download(server.url, target, MD5).read_bytes() == CONTENT


def test_a_complete_part_is_used(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    assert download(server.url, target, MD5).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_downloaded_again(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT + b"more")
    assert download(server.url, target, MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("have", [0, HALF])
def test_a_wrong_file_is_refused_and_deleted(server, target, have):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:have])
    server.content = b"?" * len(CONTENT)
    with pytest.raises(DataError, match=rf"MD5 \w+ instead of {MD5}"):
        download(server.url, target, MD5)
    assert not target.exists()
    assert not part_of(target).exists()


def test_a_refusal_is_reported_with_its_status(server, target):
    with pytest.raises(DataError, match="404 Not Found"):
        download(server.url + "-missing", target, MD5)


def test_a_stall_ends_the_wait_and_keeps_what_came(server, target):
    server.sends, server.then = HALF, "stall"
    started = time.monotonic()
    with pytest.raises(DataError, match=r"no response for 0\.5 seconds"):
        download(server.url, target, MD5, timeout=0.5)
    assert time.monotonic() - started < 5
    assert part_of(target).read_bytes() == CONTENT[:HALF]


def test_a_slow_server_is_not_a_dead_one(server, target):
    server.delay = 0.6  # longer than the timeout in all, not between two signs of life
    assert download(server.url, target, MD5, timeout=1.0).read_bytes() == CONTENT


def test_a_server_that_accepts_and_never_answers_counts_as_no_network(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        started = time.monotonic()
        with pytest.raises(DataError, match=r"no response for 0\.1 seconds"):
            download(url, target, MD5, timeout=0.1)
    assert time.monotonic() - started < 5


def test_an_answer_that_never_gets_going_counts_as_no_network(target, monkeypatch):
    """Like a slow name look-up, this does not trigger the timeout of a socket."""
    monkeypatch.setenv("no_proxy", "*")
    stop = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(100):
                if stop.wait(0.02):
                    return
                connection.sendall(b"X-Header-%d: still coming\r\n" % number)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip, args=(listening,))
        dripping.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/file"
        started = time.monotonic()
        with pytest.raises(DataError, match=r"no response for 0\.2 seconds"):
            download(url, target, MD5, timeout=0.2)
        assert time.monotonic() - started < 5
        stop.set()
        dripping.join()


def test_no_server_at_all(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    with pytest.raises(DataError, match="refused"):
        download(url, target, MD5)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(WriteError, match="cannot be written"):
        download(server.url, tmp_path / "taken" / "file.bin", MD5)


def test_of_two_processes_one_downloads(server, target, tmp_path):
    server.delay = 0.3
    code = (
        "import sys; from pathlib import Path; from rnn_lab.data.sources.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    )
    command = ["tests/cli/run_code.py", code, server.url, str(target), MD5]
    runs = [Started(*command, cwd=tmp_path, out=tmp_path / name) for name in ("one", "other")]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]
