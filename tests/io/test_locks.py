"""One process at a time, and the message to another one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnn_lab.data.cache import build_once
from rnn_lab.errors import UserError
from rnn_lab.io.locks import LockHeldError, acquire, locked
from tests.cli.runner import PROJECT

HOLD = """
import sys, time
from pathlib import Path
from rnn_lab.io.locks import acquire
lock = acquire(Path(sys.argv[1]), "there")
print("held", flush=True)
time.sleep(300)
"""
BUILD = """
import sys, time
from pathlib import Path
from rnn_lab.data.cache import build_once
def build(folder):
    (folder / "half").write_text("half")
    print("held", flush=True)
    time.sleep(300)
build_once(Path(sys.argv[1]), build)
"""


@contextmanager
def another(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds `path`, and is killed in the end."""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_second_process_is_shown_the_owner_of_the_lock(tmp_path):
    with another(HOLD, tmp_path / "lock") as process:
        with pytest.raises(LockHeldError) as refused:
            acquire(tmp_path / "lock", "hydra.run.dir=run")
        assert str(refused.value).startswith(
            f"hydra.run.dir=run: locked by process {process.pid} on {socket.gethostname()}; "
            "wait for it to finish, "
        )
    lock = acquire(tmp_path / "lock", "there")  # it has been killed
    assert (tmp_path / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    lock.release()


def test_a_lock_that_was_held_inside_leaves_nothing(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "new" / "lock", "there"):
            assert (tmp_path / "new" / "lock").exists()
        assert list((tmp_path / "new").iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file: cannot be written"),
        locked(tmp_path / "file" / "lock", "there"),
    ):
        pass


def test_a_cache_whose_builder_was_killed_is_built_by_the_next(tmp_path):
    with another(BUILD, tmp_path / "cache"):
        pass
    assert (tmp_path / "cache.partial" / "half").exists()
    build_once(tmp_path / "cache", lambda folder: (folder / "whole").touch() or None)
    assert (tmp_path / "cache" / "whole").exists()
    assert not (tmp_path / "cache.partial").exists() and not (tmp_path / "cache" / "half").exists()
