"""Data parallel training: a process a device, each with its share of every batch.

Lightning would start the other processes by repeating the command line, which in a sweep is a whole
sweep again, and would leave this process one of a group that the next run cannot join. So all of
them are started here, this process waits, and when one fails the others end with it.
"""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from typing import Any

from src.errors import ConfigError
from src.training.config import RunConfig
from src.training.process import die_with_parent

_GRACE = 3.0  # seconds in which a process may end by itself
_TERMINATED = 128 + signal.SIGTERM  # exit status of a run that SIGTERM ended in order


class ReplicaError(RuntimeError):
    """One of the processes has ended without saying why."""


def is_replica() -> bool:
    """Whether this process is one of several that train together, started here or elsewhere."""
    return "LOCAL_RANK" in os.environ or started_by_srun()


def started_by_srun() -> bool:
    """Whether srun started several tasks, of which this is one."""
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def train_in_replicas(config: RunConfig, options: dict[str, Any], marks: dict[str, Any]) -> None:
    """Train the run of `config` in as many processes as it has devices; wait for their end.

    Raises:
        ConfigError: this machine has fewer devices, or nobody says where the other machines are.
        ReplicaError: a process was killed.
        Exception: that of the process that failed first.
    """
    from torch import multiprocessing

    from src.training.machine import choose_accelerator, choose_devices

    trainer = config.trainer
    devices = choose_devices(trainer, choose_accelerator(trainer))
    node = _node(trainer.num_nodes)
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    context = multiprocessing.start_processes(
        _replica,
        (devices, node, _what_hydra_says(), (config, options, marks), errors),
        nprocs=devices,
        join=False,
        start_method="spawn",
    )
    assert context is not None
    try:
        while not context.join(timeout=60, grace_period=_GRACE):
            pass
    except (
        multiprocessing.ProcessRaisedException,
        multiprocessing.ProcessExitedException,
    ) as error:
        if not errors.empty():
            raise pickle.loads(errors.get()) from None
        if getattr(error, "exit_code", None) == _TERMINATED:
            sys.exit(_TERMINATED)  # whoever stops one of them stops the run
        raise ReplicaError(f"of {devices} processes that train together, {error}") from None
    finally:
        _end(context.processes)


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
    from src.training.train import train

    config, options, marks = run
    try:
        train(config, options, marks=marks)
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
        told = ReplicaError(f"{type(error).__name__}: {error}")
        told.add_note(error.__notes__[-1])
        pickled = pickle.dumps(told)
    return pickled


def _end(processes: Any) -> None:
    """Leave none behind: Ctrl-C reaches all of them, but not all listen."""
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
