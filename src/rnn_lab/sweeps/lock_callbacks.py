"""Lock a run's folder before Hydra writes into it.

Hydra makes the folder and writes the composed config there before it calls the program. A run that
is refused must not have replaced the config in another run's folder by then.
"""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_lab.errors import ConfigError, OutputDirConflictError, UserError
from rnn_lab.io.atomic import write_error
from rnn_lab.process import is_rank_zero
from rnn_lab.sweeps.job import JobDir
from rnn_lab.sweeps.naming import job_fingerprint, resolve_options
from rnn_lab.training.config import check_sweep_name


class LockOutputDir(Callback):
    """Called by Hydra first; see conf/train.yaml. Hydra swallows exceptions, but not SystemExit."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the folder of a single run, or exit with one line."""
        try:
            check_sweep_name(OmegaConf.select(config, "sweep"))
            if is_rank_zero():
                self._lock = _lock(JobDir(Path(config.hydra.run.dir).absolute()), config)
        except UserError as error:
            sys.exit(f"error: {error}")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Exit with one line where the sweep's folder is not under runs/."""
        try:
            check_sweep_name(OmegaConf.select(config, "sweep"))
        except ConfigError as error:
            sys.exit(f"error: {error}")


def _lock(job: JobDir, config: DictConfig) -> FileLock:
    try:
        job.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, job.path) from error
    lock = job.acquire()
    if job.status == "finished":
        raise OutputDirConflictError(
            f"hydra.run.dir={job.path}: contains a finished run; choose another folder"
        )
    fingerprint = job_fingerprint(resolve_options(config))
    if config.get("resume") != "never" and job.has_other_unfinished_run(fingerprint):
        with read_write(config), open_dict(config):
            config.hydra.output_subdir = None  # it will probably be refused
    return lock
