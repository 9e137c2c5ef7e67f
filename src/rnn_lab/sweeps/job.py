"""One job of a sweep, whatever sweeper gives it and wherever it is launched."""

import contextlib
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError, OutputDirConflictError, UserError, WriteError, user_message
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.sweeps.fingerprint import config_fingerprint
from rnn_lab.sweeps.job_dir import JobDir

log = logging.getLogger(__name__)


def run_training_job(do: Callable[[], None], config: DictConfig, *, traces: bool = False) -> float:
    """Call `do` for the job that `config` composes, unless it is done. Returns its value.

    A sweeper gets the monitored validation figure, and NaN for a job that failed: the error is
    printed and stands in failure.json, and the other jobs go on. Of a single run the error is
    raised. `traces` prints stack traces too, which else stand in train.log alone.

    Raises:
        OutputDirConflictError: the folder holds a finished run, or another half-done one.
        LockHeldError: another process is at the run of this command.
    """
    hydra = HydraConfig.get()
    job = JobDir(Path(hydra.runtime.output_dir))
    is_multirun = hydra.mode == RunMode.MULTIRUN
    monitor = str(OmegaConf.select(config, "trainer.monitor", default=None))
    if not is_first_process():  # the first one of those that train together answers for them
        if job.status != "finished":
            do()
        return job.value(monitor)
    fingerprint = config_fingerprint(config)
    failed_at = job.failed_at
    with job.held(wait=is_multirun) as waited:
        if _is_done(job, fingerprint, monitor, is_multirun=is_multirun):
            return job.value(monitor)
        if is_multirun and waited and job.failed_at != failed_at and job.status == "failed":
            print(f"{job.name}: failed there", flush=True)
            return math.nan
        before = job.read("job")
        try:
            job.begin(
                fingerprint=fingerprint,
                overrides=raw_overrides(hydra),
                trial=OmegaConf.select(config, "trial.number", default=None),
            )
            do()
        except Exception as error:
            if not is_multirun and isinstance(error, OutputDirConflictError):
                job.write("job", before)
                raise
            if job.status != "pruned":  # by whatever means a pruned run is left
                _tell(job, error, traces=traces, is_multirun=is_multirun)
                if not is_multirun:
                    raise
        return job.value(monitor)


def is_first_process() -> bool:
    """Whether this is the first, or the only, one of the processes that train a run together."""
    # As Lightning tells them apart, without the seconds that importing it takes.
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"))
    return next((int(rank) for rank in ranks if rank is not None), 0) == 0


def _is_done(job: JobDir, fingerprint: str, monitor: str, *, is_multirun: bool) -> bool:
    status = job.status
    if status == "finished":
        if not is_multirun:
            raise OutputDirConflictError(
                f"hydra.run.dir={job.path}: holds a finished run; choose another folder"
            )
        if job.read("result").get("config_fingerprint") != fingerprint:
            raise ConfigError(
                f"hydra.sweep.subdir={job.path}: holds the finished run of another config; "
                "each needs a folder of its own, as ${job_dir:} gives it"
            )
    elif status != "pruned" or not is_multirun:
        return False
    print(f"{job.name}: {status} before, {monitor} {job.value(monitor):.4f}", flush=True)
    return True


def _tell(job: JobDir, error: Exception, *, traces: bool, is_multirun: bool) -> None:
    """Say what went wrong: on stderr, in train.log, in failure.json."""
    hydra = HydraConfig.get()
    log_file = job.path / f"{hydra.job.name}.log"
    trace = "".join(traceback.format_exception(error))
    log.info("%s failed:\n%s", job.name, trace)  # the terminal shows warnings and errors alone
    overrides = raw_overrides(hydra)
    begun = job.read("job")
    finished = job.status == "finished"  # what failed came after: a picture, the dashboard
    if not finished:
        failure = {
            "error": error_line(error),
            "type": type(error).__name__,
            "attempts": begun.get("attempts", 0),
            "batch_halvings": begun.get("batch_halvings", 0),
            "overrides": overrides,
            "log": str(log_file),
        }
        with contextlib.suppress(WriteError):  # of what failed is told all the same
            job.write("failure", failure)
    if is_multirun:
        what = "finished, but" if finished else "failed:"
        print(
            f"error: {job.name} {what} {error_line(error)}"
            f"\n       overrides: {' '.join(overrides)}\n       log: {log_file}",
            file=sys.stderr,
            flush=True,
        )
        if traces:
            print(trace, file=sys.stderr, flush=True)


def error_line(error: Exception) -> str:
    """Return what happened in one line, a fault of ours with the kind of the exception."""
    if isinstance(error, UserError | OmegaConfBaseException):
        return "; ".join(user_message(error).splitlines())
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}".rstrip(": ")
