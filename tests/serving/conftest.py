"""Servers that the tests of a module share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.server import Server

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that starts a server; all are stopped after the module."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, env: dict[str, str] | None = None) -> Server:
            server = Server(*arguments, cwd=tmp_path_factory.mktemp("server"), env=env)
            stack.callback(server.process.send_signal, 9)
            return server

        yield start


@pytest.fixture(scope="module")
def server(start: Start, mood_run: Path) -> Server:
    """A server with one run, which the tests of a module share."""
    return start(f"run={mood_run}")
