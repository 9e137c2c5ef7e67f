"""Data parallel training: one process per device, each with its share of every batch.

Lightning would start the other processes by repeating the command line, which in a sweep is a whole
sweep again, and would leave this process in a process group that the next run cannot join. So all
of them are started here, this process waits, and when one fails the others are ended.
"""

import gc
import math
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import OmegaConf

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.io.streams import fault_tolerant_streams
from rnn_lab.plugins import load_plugins
from rnn_lab.process import die_with_parent
from rnn_lab.training.in_process import train_in_process
from rnn_lab.training.signals import PREEMPTION_SIGNALS, GracefulShutdown, Interrupted
from rnn_lab.training.spec import RunSpec

# Seconds in which a process may end by itself: after another failed; to save a checkpoint; after
# another saved it.
_GRACE, _SAVING, _CLOSING = 3.0, 60.0, 7.0
# Exit statuses of a run that a signal stopped cleanly.
_STOPPED = {128 + signum: signum for signum in (signal.SIGTERM, *PREEMPTION_SIGNALS)}


class WorkerError(RuntimeError):
    """One of the processes ended without an error of its own."""


def launch_ddp(spec: RunSpec, shutdown: GracefulShutdown) -> None:
    """Train the run of `spec` in one process per device; wait for their end.

    Raises:
        Interrupted: `shutdown` or one of the processes received a signal.
        ConfigError: this machine has fewer devices, or the other machines are not known.
        WorkerError: a process was killed.
        Exception: that of the process that failed first.
    """
    with fast_imports():
        from rnn_lab.training.hardware import choose_accelerator, choose_devices

    trainer, hydra = spec.config.trainer, HydraConfig.get()
    devices = choose_devices(trainer, choose_accelerator(trainer))
    environments = _environments(trainer.num_nodes, devices)
    job_logging = OmegaConf.create(OmegaConf.to_container(hydra.job_logging, resolve=True))
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    arguments = ((job_logging, hydra.verbose), spec, errors)
    processes = [context.Process(target=_worker, args=(e, *arguments)) for e in environments]
    shutdown.deferred = True
    try:
        with _ctrl_c_only_here():
            for process in processes:
                process.start()
        failed = _wait(processes, shutdown)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            if process.pid is not None:
                process.join()
    for process in processes:  # a signal to one of them stops the run
        shutdown.received = shutdown.received or _STOPPED.get(process.exitcode)
    shutdown.raise_received()
    if not errors.empty():
        raise pickle.loads(errors.get())
    if failed is not None:
        code = processes[failed].exitcode or 0
        status = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise WorkerError(
            f"of {devices} processes that train together, process {failed} terminated with {status}"
        )


def _wait(processes: list[SpawnProcess], shutdown: GracefulShutdown) -> int | None:
    """Wait until all have ended, or one has failed and the others have had their time.

    Forwards a signal that `shutdown` receives. Returns the process that failed first.
    """
    forwarded, deadline, failed = False, math.inf, None
    while running := [process for process in processes if process.exitcode is None]:
        if shutdown.received is not None and not forwarded:
            forwarded, deadline = True, time.monotonic() + _SAVING
            for process in running:
                process.terminate()
        if failed is None:
            failed = _first_failed(processes)
            if failed is not None:
                saved = processes[failed].exitcode in _STOPPED
                deadline = time.monotonic() + (_CLOSING if saved else _GRACE)
        if time.monotonic() > deadline:
            break
        connection.wait([process.sentinel for process in running], timeout=0.1)
    return _first_failed(processes) if failed is None else failed


def _first_failed(processes: list[SpawnProcess]) -> int | None:
    return next((i for i, process in enumerate(processes) if process.exitcode), None)


@contextmanager
def _ctrl_c_only_here() -> Iterator[None]:
    """Let processes that are started inside ignore Ctrl-C, which is sent to the whole group."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@fault_tolerant_streams()
def _worker(
    environment: dict[str, str], log_config: tuple[Any, Any], spec: RunSpec, errors: Any
) -> None:
    die_with_parent()
    os.environ |= environment
    if environment["RANK"] == "0":
        configure_log(*log_config)
    with GracefulShutdown(forwarded=True) as shutdown:
        try:
            load_plugins(spec.config.plugins)  # the parent has registered them for itself alone
            train_in_process(spec, shutdown)
        except Interrupted as interrupted:
            gc.freeze()  # as in `launch`
            sys.exit(128 + interrupted.signum)
        except Exception as error:
            errors.put(_pickled(error))
            sys.exit(1)


def _environments(num_nodes: int, devices: int) -> list[dict[str, str]]:
    """Return for each process here where the processes of all machines meet, and its rank."""
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            node = dict(zip(names, ("127.0.0.1", str(free.getsockname()[1]), "0"), strict=True))
    elif missing := [name for name in names if name not in os.environ]:
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}: start the same command on each machine by srun or "
            f"torchrun, or set {', '.join(missing)} there"
        )
    else:
        node = {name: os.environ[name] for name in names}
    node["WORLD_SIZE"] = str(num_nodes * devices)
    first = int(node["NODE_RANK"]) * devices
    return [node | {"LOCAL_RANK": str(i), "RANK": str(first + i)} for i in range(devices)]


def _pickled(error: Exception) -> bytes:
    """Return the error for the waiting process, with its stack trace as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        reported = WorkerError(f"{type(error).__name__}: {error}")
        reported.add_note(error.__notes__[-1])
        pickled = pickle.dumps(reported)
    return pickled
