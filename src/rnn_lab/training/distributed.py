"""Data parallel training: one process per device, each with its share of every batch.

Lightning would start the other processes by repeating the command line, which in a sweep is a whole
sweep again, and would leave this process in a process group that the next run cannot join. So all
of them are started here, this process waits, and when one fails the others are ended.
"""

import math
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import OmegaConf

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.training.process import die_with_parent, skip_final_gc
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import CallbackFactory, RunSpec

# Trains in one process, as training.launch.train_in_process.
Train = Callable[[RunSpec, CallbackFactory, GracefulShutdown], None]

# Seconds in which a process may end by itself: after another failed; to save a checkpoint; after
# another saved it.
_GRACE, _SAVING, _CLOSING = 3.0, 60.0, 7.0
_TERMINATED = 128 + signal.SIGTERM  # exit status of a run that SIGTERM stopped cleanly


class WorkerError(RuntimeError):
    """One of the processes ended without an error of its own."""


def launch_ddp(
    train: Train, spec: RunSpec, make_callbacks: CallbackFactory, shutdown: GracefulShutdown
) -> None:
    """Call `train` for the run of `spec` in one process per device; wait for their end.

    Raises:
        Interrupted: `shutdown` or one of the processes received a signal.
        ConfigError: this machine has fewer devices, or the other machines are not known.
        WorkerError: a process was killed.
        Exception: that of the process that failed first.
    """
    with fast_imports():
        from torch import multiprocessing

        from rnn_lab.hardware import choose_accelerator, choose_devices

    trainer = spec.config.trainer
    devices = choose_devices(trainer, choose_accelerator(trainer))
    node = _node(trainer.num_nodes)
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    shutdown.deferred = True
    with _ctrl_c_only_here():
        context = multiprocessing.start_processes(
            _worker,
            (devices, node, _log_config(), (train, spec, make_callbacks), errors),
            nprocs=devices,
            join=False,
            start_method="spawn",
        )
    assert context is not None
    try:
        failed = _wait(context.processes, shutdown)
    finally:
        _end(context.processes)
    if any(process.exitcode == _TERMINATED for process in context.processes):
        # A signal to one of the processes stops the run.
        shutdown.received = shutdown.received or signal.SIGTERM
    shutdown.raise_received()
    if not errors.empty():
        raise pickle.loads(errors.get())
    if failed is not None:
        status = _status(context.processes[failed].exitcode)
        raise WorkerError(
            f"of {devices} processes that train together, process {failed} terminated with {status}"
        )


def _wait(processes: Any, shutdown: GracefulShutdown) -> int | None:
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
                saved = processes[failed].exitcode == _TERMINATED
                deadline = time.monotonic() + (_CLOSING if saved else _GRACE)
        if time.monotonic() > deadline:
            break
        connection.wait([process.sentinel for process in running], timeout=0.1)
    return _first_failed(processes) if failed is None else failed


def _first_failed(processes: Any) -> int | None:
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


def _status(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    return f"signal {signal.Signals(-exit_code).name}"


def _worker(
    local_rank: int,
    devices: int,
    node: dict[str, str],
    log_config: Any,
    run: tuple[Train, RunSpec, CallbackFactory],
    errors: Any,
) -> None:
    """Train as one of the processes, with the variables of `_node` and of its place."""
    train, spec, make_callbacks = run
    die_with_parent()
    rank = int(node["NODE_RANK"]) * devices + local_rank
    os.environ |= node | {"LOCAL_RANK": str(local_rank), "RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(spec.config.trainer.num_nodes * devices)
    if rank == 0:
        configure_log(*log_config)
    with GracefulShutdown(forwarded=True) as shutdown:
        try:
            train(spec, make_callbacks, shutdown)
        except Interrupted as interrupted:
            skip_final_gc()
            sys.exit(128 + interrupted.signum)
        except Exception as error:
            errors.put(_pickled(error))
            sys.exit(1)


def _log_config() -> Any:
    """Return the arguments of configure_log with which Hydra set up logging here."""
    config = HydraConfig.get()
    resolved = OmegaConf.to_container(config.job_logging, resolve=True)
    return OmegaConf.create(resolved), config.verbose


def _node(num_nodes: int) -> dict[str, str]:
    """Return where the processes of all machines meet, and which machine this is.

    Raises:
        ConfigError: there are several machines, and the environment does not say.
    """
    if num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in names if name not in os.environ]:
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}: start the same command on each machine by srun or "
            f"torchrun, or set {', '.join(missing)} there"
        )
    return {name: os.environ[name] for name in names}


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


def _end(processes: Any) -> None:
    """Kill the processes that are still alive."""
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()
