"""A server of `rnn-lab serve` in a process of its own, and a client that asks it."""

import http.client
import json
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.cli.forked import Started

PATIENCE = 60  # seconds: machines that test are busy


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one sentence of an error, which has nothing else."""
        assert self.headers["content-type"] == "application/json", self
        assert list(self.json) == ["error"], self
        assert "\n" not in self.json["error"]
        return self.json["error"]


class Server:
    """`rnn-lab serve <arguments>` on a free port."""

    def __init__(self, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.out, self.err = cwd / "out", cwd / "err"
        self.out.touch()
        self.err.touch()
        self.process = Started(
            *("rnn_lab/commands.py", "serve", "port=0", *arguments),
            cwd=cwd,
            out=self.out,
            err=self.err,
            env=env,
        )
        until = time.monotonic() + PATIENCE
        while not (found := re.search(r"on http://\S+:(\d+)/(\S*)\n", self.printed())):
            assert self.process.poll() is None and time.monotonic() < until, self.errors()
            time.sleep(0.02)
        self.port, self.fragment = int(found[1]), found[2]
        self.url = f"http://127.0.0.1:{self.port}"

    def printed(self) -> str:
        return self.out.read_text()

    def errors(self) -> str:
        return self.err.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, content: Any, **headers: str) -> Answer:
        """Post JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content)
        return self.ask("POST", path, body, {"Content-Type": "application/json"} | headers)

    def metric(self, name: str) -> float:
        """The value of a metric, added up over its labels."""
        text = self.get("/metrics").body.decode()
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M)
        return sum(map(float, values))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are; return what comes back until the connection closes."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return read_all(connection)

    def stop(self, signum: int = 15) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(2**16):
            found += part
    except ConnectionResetError:
        pass
    return found


def read_error(connection: socket.socket) -> bytes:
    """Return a response whose body is JSON; the connection stays open."""
    found = b""
    while not found.endswith(b"}") and (part := connection.recv(2**16)):
        found += part
    return found


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])
