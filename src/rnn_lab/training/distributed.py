"""Data parallel training: a process a device, each with its share of every batch.

Lightning would start the other processes by repeating the command line, which in a sweep is a whole
sweep again, and would leave this process one of a group that the next run cannot join. So all of
them are started here, this process waits, and when one fails the others end with it.
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
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.training.config import RunConfig
from rnn_lab.training.process import die_with_parent, skip_final_gc
from rnn_lab.training.signals import GracefulShutdown, Interrupted

# Seconds in which a process may end by itself: when another has failed; when it is to save its
# training; when another has seen it saved.
_GRACE, _SAVING, _CLOSING = 3.0, 60.0, 7.0
_TERMINATED = 128 + signal.SIGTERM  # exit status of a run that SIGTERM ended in order


class WorkerError(RuntimeError):
    """One of the processes has ended without saying why."""


def is_worker() -> bool:
    """Whether this process is one of several that train together, started here or elsewhere."""
    return "LOCAL_RANK" in os.environ or started_by_srun()


def started_by_srun() -> bool:
    """Whether srun started several tasks, of which this is one."""
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def launch_ddp(
    config: RunConfig, options: dict[str, Any], marks: dict[str, Any], signals: GracefulShutdown
) -> None:
    """Train the run of `config` in as many processes as it has devices; wait for their end.

    Raises:
        Interrupted: by one of `signals`, or by one that a process was sent.
        ConfigError: this machine has fewer devices, or nobody says where the other machines are.
        WorkerError: a process was killed.
        Exception: that of the process that failed first.
    """
    with fast_imports():
        from torch import multiprocessing

        from rnn_lab.training.hardware import choose_accelerator, choose_devices

    trainer = config.trainer
    devices = choose_devices(trainer, choose_accelerator(trainer))
    node = _node(trainer.num_nodes)
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    signals.kept = True
    with _ctrl_c_left_to_this_process():
        context = multiprocessing.start_processes(
            _replica,
            (devices, node, _what_hydra_says(), (config, options, marks), errors),
            nprocs=devices,
            join=False,
            start_method="spawn",
        )
    assert context is not None
    try:
        failed = _wait(context.processes, signals)
    finally:
        _end(context.processes)
    if any(process.exitcode == _TERMINATED for process in context.processes):
        signals.received = signals.received or signal.SIGTERM  # who stops one stops the run
    signals.raise_received()
    if not errors.empty():
        raise pickle.loads(errors.get())
    if failed is not None:
        status = _status(context.processes[failed].exitcode)
        raise WorkerError(
            f"of {devices} processes that train together, process {failed} terminated with {status}"
        )


def _wait(processes: Any, signals: GracefulShutdown) -> int | None:
    """Wait until all have ended, or one has failed and the others have had their time.

    Returns the one that failed first. What comes in by `signals` is passed on.
    """
    passed_on, deadline, failed = False, math.inf, None
    while running := [process for process in processes if process.exitcode is None]:
        if signals.received is not None and not passed_on:
            passed_on, deadline = True, time.monotonic() + _SAVING
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
def _ctrl_c_left_to_this_process() -> Iterator[None]:
    """Let processes that are started inside ignore Ctrl-C, which their whole group is sent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _status(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    return f"signal {signal.Signals(-exit_code).name}"


def _replica(
    local_rank: int,
    devices: int,
    node: dict[str, str],
    hydra: dict[str, Any],
    run: tuple[RunConfig, dict[str, Any], dict[str, Any]],
    errors: Any,
) -> None:
    """Be one of the processes: what `_node` says, and its place on this machine."""
    die_with_parent()
    rank = int(node["NODE_RANK"]) * devices + local_rank
    os.environ |= node | {"LOCAL_RANK": str(local_rank), "RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(run[0].trainer.num_nodes * devices)
    _take_over(hydra, logs=rank == 0)
    from rnn_lab.training.train import train_in_process

    config, options, marks = run
    with GracefulShutdown(passed_on=True) as signals:
        try:
            train_in_process(config, options, marks, signals)
        except Interrupted as interrupted:
            skip_final_gc()
            sys.exit(128 + interrupted.signum)
        except Exception as error:
            errors.put(_pickled(error))
            sys.exit(1)


def _what_hydra_says() -> dict[str, Any]:
    """Return Hydra's own config, in plain types and without references to the task's."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    said = OmegaConf.to_container(HydraConfig.get(), resolve=True)
    assert isinstance(said, dict)
    return {str(key): value for key, value in said.items()}


def _take_over(said: dict[str, Any], *, logs: bool) -> None:
    """Let Hydra say here what it says in the process that started this one."""
    from hydra.conf import HydraConf
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import configure_log
    from omegaconf import OmegaConf, open_dict

    config = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf)})
    with open_dict(config.hydra):
        config.hydra.merge_with(said)
    HydraConfig.instance().set_config(config)
    if logs:
        configure_log(config.hydra.job_logging, config.hydra.verbose)


def _node(num_nodes: int) -> dict[str, str]:
    """Say where the processes of all machines meet, and which machine this is.

    Raises:
        ConfigError: there are several machines, and the environment does not tell.
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
    """Return the error for the process that waits, with its trace as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        told = WorkerError(f"{type(error).__name__}: {error}")
        told.add_note(error.__notes__[-1])
        pickled = pickle.dumps(told)
    return pickled


def _end(processes: Any) -> None:
    """Leave none behind."""
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()
