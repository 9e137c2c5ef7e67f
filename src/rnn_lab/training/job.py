"""One job of a command: a single run, or one of a sweep, however it was started."""

import contextlib
import logging
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_lab.errors import (
    ConfigError,
    WriteError,
    error_line,
    exiting_in_callback,
)
from rnn_lab.io.atomic import check_writable
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.io.timed_dir import claim_timed_dir
from rnn_lab.overrides import shell_words
from rnn_lab.paths import local_path
from rnn_lab.process import is_rank_zero
from rnn_lab.tracking.wandb_environment import in_wandb_sweep
from rnn_lab.training.config import check_sweep_name, parse_run_config
from rnn_lab.training.job_dir import JobDir, Records, job_fingerprint, resolve_options
from rnn_lab.training.more_epochs import check_finished

log = logging.getLogger(__name__)
_before_hydra: dict[Path, Records] = {}  # by the folder of a single run


class LockRunDir(Callback):
    """Lock a run's folder before Hydra writes into it; called by Hydra first, see conf/train.yaml.

    Hydra makes the folder and writes the composed config there before it calls the program. A run
    that is refused must not have replaced the config in another run's folder by then.
    """

    @exiting_in_callback()
    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the folder of a single run, or exit with one line."""
        check_sweep_name(OmegaConf.select(config, "sweep"))
        if is_rank_zero():
            claim_timed_dir(config, "hydra.run.dir")
            job = JobDir(Path(config.hydra.run.dir).absolute())
            self._lock = _lock(job, config)
            _before_hydra[job.path] = job.records()

    @exiting_in_callback()
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Exit with one line where the sweep's folder or its report cannot be written.

        An agent of a W&B sweep gives its one W&B run to every job, so that is refused too.
        """
        if in_wandb_sweep() and OmegaConf.select(config, "logger.name") == "wandb":
            raise ConfigError(
                "WANDB_SWEEP_ID: in a W&B sweep each command trains one run; remove -m, or "
                "unset WANDB_SWEEP_ID"
            )
        check_sweep_name(OmegaConf.select(config, "sweep"))
        if (report_dir := OmegaConf.select(config, "report_dir")) is not None:
            check_writable(local_path(str(report_dir)), "report_dir")


def _lock(job: JobDir, config: DictConfig) -> FileLock:
    lock = job.acquire()
    if job.status == "finished":
        _check_finished(job, resolve_options(config))
        return lock
    other = job.unfinished_fingerprint() not in (None, job_fingerprint(resolve_options(config)))
    if other and config.get("resume") != "never":
        with read_write(config), open_dict(config):
            config.hydra.output_subdir = None  # it will probably be refused
    return lock


def _check_finished(job: JobDir, options: Mapping[str, Any]) -> None:
    check_finished(f"hydra.run.dir={job.path}", job.path, parse_run_config(options))


def run_job(train: Callable[[], None], config: DictConfig, *, traces: bool = False) -> float:
    """Call `train` for the job of `config`, unless the job is done; return the job's value.

    A sweeper gets the monitored validation metric, and NaN for a job that failed: its error is
    printed and written to failure.json, and the other jobs continue. The error of a single run is
    raised. `traces` prints stack traces too, which otherwise are in train.log alone.

    Raises:
        OutputDirConflictError: the folder contains a finished run, or another unfinished one.
        LockHeldError: another process trains the run of this command.
    """
    hydra = HydraConfig.get()
    job = JobDir(Path(hydra.runtime.output_dir))
    is_multirun = hydra.mode == RunMode.MULTIRUN
    monitor = str(OmegaConf.select(config, "trainer.monitor", default=None))
    if not is_rank_zero():  # the first of the processes that train together keeps the records
        if job.status == "finished" and not is_multirun:
            _check_finished(job, resolve_options(config))
        if job.status != "finished" or not is_multirun:
            train()
        return job.value(monitor)
    fingerprint = job_fingerprint(resolve_options(config))
    failed_at = job.failed_at
    with job.locked(wait=is_multirun) as waited:
        if job.status == "finished" and not is_multirun:
            _check_finished(job, resolve_options(config))
        elif is_multirun and _is_done(job, fingerprint, monitor):
            return job.value(monitor)
        if is_multirun and waited and job.failed_at != failed_at and job.status == "failed":
            print(f"{job.name}: failed in that process", flush=True)
            return math.nan
        before = _before_hydra.pop(job.path, None) or job.records()
        trial = OmegaConf.select(config, "trial.number", default=None)
        overrides = raw_overrides(hydra)
        try:
            with job.started(before, fingerprint=fingerprint, overrides=overrides, trial=trial):
                train()
        except Exception as error:
            if not is_multirun and job.records() == before:
                raise  # the folder has another run, which has not failed
            if not is_multirun or job.status != "pruned":  # a pruned trial may end in an exception
                _record_failure(job, error, traces=traces, is_multirun=is_multirun)
                if not is_multirun:
                    raise
        return job.value(monitor)


def _is_done(job: JobDir, fingerprint: str, monitor: str) -> bool:
    status = job.status
    if status == "finished":
        if job.read("result").get("config_fingerprint") != fingerprint:
            raise ConfigError(
                f"hydra.sweep.subdir={job.path}: contains the finished run of another config; "
                "each config needs its own folder, as ${job_dir:} names it"
            )
    elif status != "pruned":
        return False
    metric, value = job.monitored_metric(monitor), job.value(monitor)
    print(f"{job.name}: already {status}, {metric} {value:.4f}", flush=True)
    return True


def _record_failure(job: JobDir, error: Exception, *, traces: bool, is_multirun: bool) -> None:
    """Report what went wrong: on stderr, in train.log, in failure.json."""
    hydra = HydraConfig.get()
    line, log_file = error_line(error), job.path / f"{hydra.job.name}.log"
    trace = "".join(traceback.format_exception(error))
    log.info("%s failed:\n%s", job.name, trace)  # the terminal shows warnings and errors only
    overrides = raw_overrides(hydra)
    finished = job.status == "finished"  # the failure came later: a plot, the dashboard
    if not finished:
        started = job.read("job")
        failure = {
            "error": line,
            "type": type(error).__name__,
            "attempts": started.get("attempts", 0),
            "batch_halvings": started.get("batch_halvings", 0),
            "overrides": overrides,
            "log": str(log_file),
        }
        with contextlib.suppress(WriteError):  # the failure is printed anyway
            job.write("failure", failure)
    if is_multirun:
        what = "finished, but" if finished else "failed:"
        lines = [f"error: {job.name} {what} {line}", f"       overrides: {shell_words(overrides)}"]
        lines += [f"       log: {log_file}", *([trace] if traces else [])]
        print("\n".join(lines), file=sys.stderr, flush=True)
