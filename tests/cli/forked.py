"""Runs commands in processes that are forked from one that has imported what they will.

Importing is most of what a short run takes. What a test asks is answered as by `run_command`, which
stays for tests of a start itself: an import that fails, a variable that is read by one. As a
program it does what each line of a connection asks, and answers in a line: one process serves all
that test together.
"""

import contextlib
import functools
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NoReturn

from rnn_lab.fast_import import fast_imports
from tests.cli.runner import PROJECT, command_environment
from tests.cli.zygote import finish, install, take_media_folder

IMPORTED = (
    *("matplotlib.backends.backend_agg", "matplotlib.pyplot", "rich.table"),
    "hydra_plugins.rnn_lab_plugins",
    *("rnn_lab.inference.evaluate", "rnn_lab.inference.explanation"),
    "rnn_lab.reports.explain.page",
    *("rnn_lab.reports.sweep.report", "rnn_lab.training.retry", "rnn_lab.training.train"),
    *("wandb.sdk.data_types._private", "wandb.sdk.launch.inputs.internal"),
    *("jinja2", "sklearn.feature_extraction.text", "sklearn.linear_model"),
)
# Not in every environment.
EXTRAS = (
    *("gensim.models", "optuna.study", "optuna.importance"),
    *("fastapi", "uvicorn.protocols.http.h11_impl", "prometheus_client"),
    *("wandb_workspaces.reports.v2", "wandb_workspaces.workspaces"),
)
SOCKET = "RNN_LAB_TESTS_SOCKET"  # the variable that names the server's socket


def run_warm_command(
    script: str,
    *arguments: str,
    cwd: Path,
    env: dict[str, str] | None = None,
    stdin: Path = Path(os.devnull),
    warm_children: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `python <script> <arguments>` in `cwd`, as `run_command` does.

    With `warm_children` the Python processes that it starts are forked too, see tests.cli.zygote.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        status = Started(
            *(script, *arguments),
            cwd=cwd,
            out=out,
            err=err,
            env=env,
            stdin=stdin,
            warm_children=warm_children,
        ).wait()
        said = out.read_bytes().decode(), err.read_bytes().decode()
    return subprocess.CompletedProcess([script, *arguments], status, *said)


class Started:
    """`python <script> <arguments>` at work in `cwd`; both streams go to `out` without `err`."""

    def __init__(
        self,
        script: str,
        *arguments: str,
        cwd: Path,
        out: Path,
        err: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: Path = Path(os.devnull),
        warm_children: bool = False,
    ) -> None:
        environment = command_environment(cwd) | (env or {})
        asked = {"script": script, "arguments": arguments, "environment": environment}
        asked |= {"stdin": str(stdin), "warm_children": warm_children}
        self.pid: int = _ask(
            start=asked | {"cwd": str(cwd), "out": str(out), "err": str(err or out)}
        )
        self.returncode: int | None = None
        self.out = out

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it is at work."""
        if self.returncode is None:
            self.returncode = _ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Its exit status, when it has ended, which it has to in so many seconds."""
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                self.send_signal(signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} is still at work: {self.printed()}")
            time.sleep(0.01)
        return status

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def printed(self) -> str:
        """What it has printed so far."""
        return self.out.read_bytes().decode()


def _ask(**asked: Any) -> Any:
    stream = _connection(os.getpid())
    stream.write(json.dumps(asked).encode() + b"\n")
    stream.flush()
    return json.loads(stream.readline())


@functools.cache
def _connection(pid: int) -> IO[bytes]:
    """The connection of this process to the server."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        return connection.makefile("rwb")


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Have a server for this process and all that it starts. It imports when first asked."""
    home = Path(tempfile.mkdtemp())
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "socket"))
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forked", str(listening.fileno())],
            cwd=PROJECT,
            env=command_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # a file would let commands seek in theirs, also in a pipe
            pass_fds=[listening.fileno()],
        )
    os.environ[SOCKET] = str(home / "socket")
    try:
        yield
    finally:
        del os.environ[SOCKET]
        server.communicate()  # the end of its input is its end
        shutil.rmtree(home)


def main() -> None:
    """Start a command, or tell how one has ended, for each line of a connection."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    with selectors.DefaultSelector() as ready:
        ready.register(listening, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    stream = connection.makefile("rwb")
                    ready.register(connection, selectors.EVENT_READ, stream)
                elif not _answer(key.data):
                    ready.unregister(key.fileobj)


def _answer(stream: IO[bytes]) -> bool:
    """Answer the next line of a connection; return whether there was one."""
    line = stream.readline()
    if not line:
        return False
    import_all()
    asked = json.loads(line)
    answer = fork(**asked["start"]) if "start" in asked else status_of(asked["poll"])
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()
    return True


@functools.cache
def import_all() -> None:
    """Import what commands do, with what comes at first use: grammars, compiled steps, fonts."""
    with fast_imports():
        extras = (name for name in EXTRAS if find_spec(name.partition(".")[0]) is not None)
        for name in (*IMPORTED, *extras):
            importlib.import_module(name)
        import hydra
        import torch

        from rnn_lab.models.layers import GRU
        from rnn_lab.paths import conf_dir
        from rnn_lab.reports.plot_style import make_axes, make_figure, save_png

        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            hydra.compose("train", ["model=lstm", "data.batch_size=3"])
        outputs, _ = GRU(1, 1)(torch.zeros(1, 1, 1), torch.ones(1, dtype=torch.int64))
        outputs.sum().backward()
        figure = make_figure(4, 4, "headline", "run")
        make_axes(figure, 111, "title", "x", "y")
        with tempfile.TemporaryDirectory() as folder:
            save_png(figure, Path(folder) / "figure.png")


def fork(
    script: str,
    arguments: list[str],
    *,
    cwd: str | Path,
    out: str | Path,
    err: str | Path,
    stdin: str = os.devnull,
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
    warm_children: bool = False,
) -> int:
    """Start a command in a forked process; `before` is called there first. Returns its id.

    `out` and `err` are appended to; without an `environment` it has that of this process.
    """
    pid = os.fork()
    if pid:
        return pid

    def prepare() -> None:
        appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
        for stream, path in ((1, out), (2, err)):
            os.dup2(os.open(path, appended), stream)
        os.chdir(cwd)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
            _take_encoding(environment)
        if before is not None:
            before()
        take_media_folder()
        if warm_children:
            install()

    _be(script, arguments, prepare)


def _take_encoding(environment: dict[str, str]) -> None:
    """Have the encoding of the environment, which Python reads when it starts."""
    if encoding := environment.get("PYTHONIOENCODING"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding)


def status_of(pid: int, *, wait: bool = False) -> int | None:
    """The exit status of a forked process, negative for a signal; None while it is at work."""
    ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _be(script: str, arguments: list[str], prepare: Callable[[], None]) -> NoReturn:
    """Never come back, whatever fails: the caller's work is that of the process forked from."""
    status: Any = 1
    try:
        prepare()
        sys.argv = [script, *arguments]
        importlib.import_module(".".join(Path(script).with_suffix("").parts)).main()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        finish(status)


if __name__ == "__main__":
    main()
