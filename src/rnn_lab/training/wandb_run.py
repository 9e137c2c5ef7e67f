"""What W&B is given of a run: its name, its options and how it ended."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.tracking.loggers import finish_wandb
from rnn_lab.tracking.wandb_environment import environment_tags, in_wandb_sweep
from rnn_lab.training.artifacts import run_identity
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import RunSpec


def describe_run(spec: RunSpec, hardware: Hardware, data: TextDataModule) -> dict[str, Any]:
    """Return what W&B shows of a run: its options, with what `auto` means.

    The storage of a study, which may be secret, is left out. Where the run has no name or tags of
    its own, WANDB_NAME and WANDB_TAGS have them. In a W&B sweep, W&B names its runs.
    """
    name = spec.config.name or os.environ.get("WANDB_NAME") or None
    named = {"name": name, "tags": spec.config.tags or environment_tags()}
    identity = run_identity(spec.config.model_copy(update=named), data)
    options = spec.resolved_options(hardware, data)
    options["trial"].pop("storage")
    about = {"name": identity["run_name"], "tags": identity["tags"], "group": None}
    if name is None and in_wandb_sweep():
        about["name"] = None
    if spec.sweep is not None:
        about["name"] = f"{about['name']} {spec.sweep.run_name}".strip()
        about["group"] = spec.sweep.dir.name
        options["search"] = dict(spec.sweep.parameters)
    return about | {"config": options}


@contextmanager
def finishing_wandb(shutdown: GracefulShutdown) -> Iterator[None]:
    """Finish the W&B run that is started inside, with the exit code of what is inside."""
    exit_code, stopped = 1, None
    try:
        yield
        exit_code = 0
    except (Interrupted, SystemExit):  # the latter, where the job is put back into the queue
        if shutdown.received is not None:
            exit_code = 128 + shutdown.received
            stopped = signal.Signals(shutdown.received).name
        raise
    finally:
        finish_wandb(exit_code, stopped=stopped)
