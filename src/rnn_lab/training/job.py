"""One job of a command: a single run, or one of a sweep, however it was started."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable
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
        _check_further_training(job, config)
        return lock
    other = job.unfinished_fingerprint() not in (None, job_fingerprint(resolve_options(config)))
    if other and config.get("resume") != "never":
        with read_write(config), open_dict(config):
            config.hydra.output_subdir = None  # it will probably be refused
    return lock


def _check_further_training(job: JobDir, config: DictConfig) -> None:
    """Raise an OutputDirConflictError if the run is finished and gets no further epochs."""
    if job.status == "finished":
        options = parse_run_config(resolve_options(config))
        check_finished(f"hydra.run.dir={job.path}", job.path, options)


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
    if hydra.mode == RunMode.MULTIRUN:
        _run_in_sweep(train, job, config, traces=traces)
    else:
        _run_alone(train, job, config)
    return job.value(_monitor(config))


def _run_alone(train: Callable[[], None], job: JobDir, config: DictConfig) -> None:
    if not is_rank_zero():  # the first of the processes that train together keeps the records
        _check_further_training(job, config)
        train()
        return
    with job.locked(wait=False):
        _check_further_training(job, config)
        before = _before_hydra.pop(job.path, None) or job.records()
        try:
            with _started(job, config, before):
                train()
        except Exception as error:
            if job.records() != before:  # else the folder has another run, which has not failed
                _record_failure(job, error)
            raise


def _run_in_sweep(
    train: Callable[[], None], job: JobDir, config: DictConfig, *, traces: bool
) -> None:
    if not is_rank_zero():
        if job.status != "finished":
            train()
        return
    failed_at = job.failed_at
    with job.locked() as waited:
        if _is_done(job, config):
            return
        if waited and job.status == "failed" and job.failed_at != failed_at:
            print(f"{job.name}: failed in that process", flush=True)
            return
        try:
            with _started(job, config, job.records()):
                train()
        except Exception as error:
            if job.status != "pruned":  # a pruned trial may end in an exception
                _record_failure(job, error)
                _print_failure(job, error, traces=traces)


def _started(
    job: JobDir, config: DictConfig, before: Records
) -> contextlib.AbstractContextManager[None]:
    return job.started(
        before,
        fingerprint=job_fingerprint(resolve_options(config)),
        overrides=raw_overrides(HydraConfig.get()),
        trial=OmegaConf.select(config, "trial.number", default=None),
    )


def _monitor(config: DictConfig) -> str:
    return str(OmegaConf.select(config, "trainer.monitor", default=None))


def _is_done(job: JobDir, config: DictConfig) -> bool:
    status = job.status
    if status == "finished":
        if job.read("result").get("config_fingerprint") != job_fingerprint(resolve_options(config)):
            raise ConfigError(
                f"hydra.sweep.subdir={job.path}: contains the finished run of another config; "
                "each config needs its own folder, as ${job_dir:} names it"
            )
    elif status != "pruned":
        return False
    metric, value = job.monitored_metric(_monitor(config)), job.value(_monitor(config))
    print(f"{job.name}: already {status}, {metric} {value:.4f}", flush=True)
    return True


def _record_failure(job: JobDir, error: Exception) -> None:
    """Write what went wrong to train.log and failure.json."""
    hydra = HydraConfig.get()
    trace = "".join(traceback.format_exception(error))
    log.info("%s failed:\n%s", job.name, trace)  # the terminal shows warnings and errors only
    if job.status == "finished":  # the failure came later: a plot, the dashboard
        return
    started = job.read("job")
    failure = {
        "error": error_line(error),
        "type": type(error).__name__,
        "attempts": started.get("attempts", 0),
        "batch_halvings": started.get("batch_halvings", 0),
        "overrides": raw_overrides(hydra),
        "log": str(_log_file(job)),
    }
    with contextlib.suppress(WriteError):  # the caller prints the failure or raises it
        job.write("failure", failure)


def _print_failure(job: JobDir, error: Exception, *, traces: bool) -> None:
    what = "finished, but" if job.status == "finished" else "failed:"
    lines = [
        f"error: {job.name} {what} {error_line(error)}",
        f"       overrides: {shell_words(raw_overrides(HydraConfig.get()))}",
        f"       log: {_log_file(job)}",
    ]
    if traces:
        lines.append("".join(traceback.format_exception(error)))
    print("\n".join(lines), file=sys.stderr, flush=True)


def _log_file(job: JobDir) -> Path:
    return job.path / f"{HydraConfig.get().job.name}.log"
