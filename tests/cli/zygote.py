"""Answers the starts of Python that a command makes by forks of a process that has imported.

A command starts Python again for processes that train together, for jobs of submitit and in a
benchmark that runs train.py. Importing is most of the time of such a process. `install` forks a
zygote from the process as it is, and replaces `fork_exec`, through which subprocess and
multiprocessing start processes: the zygote forks in its place. Every other program starts as usual.
"""

import _posixsubprocess
import ctypes
import fcntl
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rnn_lab.process import num_cores
from tests.cli.runner import PROJECT

_SPAWN = "from multiprocessing.spawn import spawn_main"
_SCRIPTS = (PROJECT, PROJECT / "benchmarks")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PDEATHSIG, _SUBREAPER = 1, 36  # prctl(2)
_MOST_FDS = 253  # of a message, SCM_MAX_FD of Linux: a spawned process gets one for each tensor
_FREE = 512  # no descriptor that is passed on has such a number


def install() -> None:
    """Let this process's later starts of Python be forks of it as it is now, on Linux."""
    if sys.platform != "linux":
        return
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1)  # the zygote's grandchildren become children of this process
    if os.fork() == 0:
        here.close()
        libc.prctl(_PDEATHSIG, signal.SIGKILL)
        _serve(there)
    there.close()
    start, lock = _posixsubprocess.fork_exec, threading.Lock()

    def fork_exec(args: Sequence[Any], names: Any, close: bool, keep: Any, cwd: Any, env: Any,
                  in_read: int, in_write: int, out_read: int, out_write: int, err_read: int,
                  err_write: int, *rest: Any) -> int:  # fmt: skip
        given = [os.fsdecode(pair).partition("=") for pair in env or ()]
        environment = dict(os.environ) if env is None else {name: v for name, _, v in given}
        folder = str(os.fsdecode(cwd)) if cwd is not None else str(Path.cwd())
        asked_for = _without_env(list(map(os.fsdecode, args)), environment)
        command = _python(asked_for, folder, environment.get("PATH"))
        if command is None:
            return start(args, names, close, keep, cwd, env, in_read, in_write, out_read,
                         out_write, err_read, err_write, *rest)  # fmt: skip
        streams = {0: in_read, 1: out_write, 2: err_write}
        places = {n: fd for n, fd in streams.items() if fd >= 0}
        # Without the one that reports a failed exec, whose end Popen waits for.
        places |= {int(fd): fd for fd in keep if int(fd) != rest[1]}
        asked = {
            "command": command,
            "cwd": folder,
            "environment": environment,
            "places": list(places),
            "ignored": [n for n in _SIGNALS if signal.getsignal(n) == signal.SIG_IGN],
            "session": bool(rest[3]),
            "group": rest[4],
        }
        with lock:
            socket.send_fds(here, [json.dumps(asked).encode()], list(map(int, places.values())))
            return int(here.recv(64))

    subprocess._fork_exec = _posixsubprocess.fork_exec = fork_exec


def finish(status: Any) -> NoReturn:
    """End a forked process as Python ends, with the status of a SystemExit."""
    import atexit

    if isinstance(status, str):
        print(status, file=sys.stderr)
    for step in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        step()
    os._exit(status if isinstance(status, int) else status is not None)


def take_media_folder() -> None:
    """Have one of its own for W&B, which makes it when imported and removes it in the end."""
    media = sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP
    media._finalizer.detach()
    media.__init__("wandb-media")


def _without_env(args: list[str], environment: dict[str, str]) -> list[str]:
    """What `env -u NAME NAME=value ... command` starts; `environment` becomes that of it."""
    if Path(args[0]).name != "env":
        return args
    rest = args[1:]
    while rest[:1] == ["-u"] or "=" in rest[0]:
        if rest[0] == "-u":
            environment.pop(rest[1], None)
            rest = rest[2:]
        else:
            name, _, environment[name] = rest.pop(0).partition("=")
    return rest


def _python(args: list[str], cwd: str, path: str | None) -> list[str] | None:
    """What of a command line follows this Python and its switches; None for other programs."""
    here, found = Path(sys.executable), Path(shutil.which(args[0], path=path) or "")
    if found.parent != here.parent or not found.samefile(here):  # python is python3
        return None
    rest = args[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-c", "-m"):
        rest = rest[2:] if rest[0] in ("-X", "-W") else rest[1:]
    known = len(rest) > 1 and (
        (rest[0] == "-c" and rest[1].startswith(_SPAWN))
        or (rest[0] == "-m" and rest[1].startswith(("submitit.", "joblib.externals.loky.")))
        or (Path(cwd, rest[0]).resolve().parent in _SCRIPTS and rest[0].endswith(".py"))
    )
    return rest if known else None


def _serve(there: socket.socket) -> NoReturn:
    while True:
        message, received, _, _ = socket.recv_fds(there, 2**20, _MOST_FDS)
        if not message:
            os._exit(0)
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            if os.fork():
                os._exit(0)
            _be(json.loads(message), received, there, parent)
        os.waitpid(between, 0)
        for fd in received:
            os.close(fd)


def _be(asked: dict[str, Any], received: list[int], there: socket.socket, parent: int) -> NoReturn:
    """Be the process that is asked for, and never come back."""
    status: Any = 1
    try:
        while os.getppid() == parent:  # until this is the child of the one that asks
            time.sleep(0.001)
        there.send(str(os.getpid()).encode())
        there.close()
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, _FREE) for fd in received]
        for fd in received:
            os.close(fd)
        for fd, place in zip(moved, asked["places"], strict=True):
            os.dup2(fd, place)
            os.close(fd)
        if asked["session"]:
            os.setsid()
        if asked["group"] >= 0:
            os.setpgid(0, asked["group"])
        for number in _SIGNALS:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else default)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        take_media_folder()
        _take_threads(asked["environment"])
        install()  # what it starts in turn
        _run(asked["command"])
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        finish(status)


def _take_threads(environment: dict[str, str]) -> None:
    """Have as many threads as the environment names, which torch reads when imported."""
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS") or num_cores()))


def _learn_rank_late() -> None:
    """Let a process that trains with others have its rank, which Lightning takes when imported."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    from rnn_lab.training import distributed

    worker = distributed._worker

    def ranked(environment: dict[str, str], *arguments: Any) -> None:
        rank_zero_only.rank = int(environment["RANK"])
        worker(environment, *arguments)

    distributed._worker = ranked


def _run(command: list[str]) -> None:
    how, *rest = command
    if how == "-c":
        _learn_rank_late()
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif how == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        package = "benchmarks." if Path(how).parent.name == "benchmarks" else ""
        importlib.import_module(f"{package}{Path(how).stem}").main()
