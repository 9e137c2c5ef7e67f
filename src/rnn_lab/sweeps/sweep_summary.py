"""The end of a sweep: the status of every job, and the exit status.

Hydra does not tell the program that it ran a sweep, nor the outcome of its jobs. So the folder of
the sweep is recorded when Hydra starts it, and read when it is over.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rnn_lab.errors import ConfigError, UserError, WriteError, exiting_in_callback
from rnn_lab.io.locks import locked
from rnn_lab.io.timed_dir import claim_timed_dir
from rnn_lab.overrides import quote_override, shell_command
from rnn_lab.paths import command_prefix, local_path
from rnn_lab.runs.jobs import find_job_dirs
from rnn_lab.training.job_dir import JobDir
from rnn_lab.validation import validate

_REPORT_LOCK = ".report.lock"  # in the folder of a sweep

_started: dict[Path, Path | None] = {}  # the folder of a sweep, and report_dir
_created: list[Path] = []  # folders, the deepest first
_logger: dict[str, Any] = {}  # options of the command, for the summary of the sweep


class SweepTracker(Callback):
    """Called by Hydra with every sweeper and launcher; see conf/train.yaml."""

    def __init__(self) -> None:
        self._previous: JobReturn | None = None  # the previous job in this process

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Record the folder of the sweep that starts in this process, its own if it has no name."""
        with exiting_in_callback():
            _created.extend(claim_timed_dir(config, "hydra.sweep.dir"))
        report_dir = OmegaConf.select(config, "report_dir")
        output = None if report_dir is None else local_path(str(report_dir)).absolute()
        _started[Path(config.hydra.sweep.dir).absolute()] = output
        if "logger" in config:
            logger: Any = OmegaConf.to_container(config.logger, resolve=True)
            _logger.update(logger)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Free the memory of the previous job.

        Its trainer, network and data refer to one another, so that they and their open files would
        stay until Python's next garbage collection. Hydra's launcher keeps every job's config for
        the sweeper, which needs its folder only.
        """
        if self._previous is None or self._previous.hydra_cfg is None:
            return
        place = {"output_dir": self._previous.hydra_cfg.hydra.runtime.output_dir}
        self._previous.hydra_cfg = OmegaConf.create({"hydra": {"runtime": place}})
        self._previous.cfg = None
        self._previous = None
        gc.collect()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Keep the job until the next starts: other callbacks may still read its config."""
        self._previous = job_return


@contextmanager
def summarize_on_exit() -> Iterator[None]:
    """Print the summary of the sweep that runs inside, also where its sweeper raises.

    Raises:
        SystemExit: with status 1 if a job failed or is unfinished.
    """
    _started.clear()
    _created.clear()
    _logger.clear()
    try:
        yield
    except Exception:
        for sweep, output in _started.items():
            print_summary(sweep, output)
        raise
    finally:
        with contextlib.suppress(OSError):  # of a sweep that was refused, they are empty
            for folder in _created:
                folder.rmdir()
    not_done = [job for started in _started.items() for job in print_summary(*started)]
    if _logger.get("name") == "wandb":
        from rnn_lab.tracking.config import WandbConfig
        from rnn_lab.tracking.wandb_environment import wandb_is_off

        with contextlib.suppress(ConfigError):  # which every job has reported
            config = validate(WandbConfig, _logger)
            if wandb_is_off(config) is None:
                from rnn_lab.sweeps.wandb_summary import log_sweep_summary

                for sweep, output in _started.items():
                    with _reporting(sweep):
                        log_sweep_summary(sweep, config, output)
    if not_done:
        sys.exit(1)


@contextmanager
def _reporting(sweep: Path) -> Iterator[None]:
    """Let one process at a time report the sweep, so that the last report is of all jobs."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(WriteError):  # a report needs no right to write there
            held.enter_context(locked(sweep / _REPORT_LOCK, "report", wait=True))
        yield


def print_summary(sweep: Path, output: Path | None = None) -> list[JobDir]:
    """Print a table of the sweep; list and return its failed and unfinished jobs.

    The report is written to `output`, by default to the folder of the sweep.
    """
    jobs = [JobDir(path) for path in find_job_dirs(sweep)]
    if not jobs:
        return []
    from rnn_lab.reports.sweep.report import report_sweep

    try:
        with _reporting(sweep):
            report_sweep(sweep, output=output)
    except WriteError as error:
        again = shell_command(command_prefix("report"), quote_override("sweep", str(sweep)))
        print(f"warning: {error}. output=<folder> writes it elsewhere: {again}", file=sys.stderr)
    except UserError as error:  # the failures are listed anyway
        print(f"error: {error}", file=sys.stderr)
    not_done = [job for job in jobs if job.status in ("failed", "unfinished")]
    if not_done:
        print(f"error: {len(not_done)} of {len(jobs)} jobs are not done:", file=sys.stderr)
    for job in not_done:
        reason = f": {job.read('failure').get('error')}" if job.status == "failed" else ""
        print(f"error:   {job.name} {job.status}{reason}", file=sys.stderr)
    return not_done
