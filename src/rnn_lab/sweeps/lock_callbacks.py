"""A run's folder is claimed before Hydra writes into it.

Hydra makes the folder and writes the composed config there before it calls us. What is refused must
not have left its config in another run's folder by then.
"""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_lab.errors import ConfigError, OutputDirConflictError, UserError
from rnn_lab.io.atomic import write_error
from rnn_lab.sweeps.fingerprint import config_fingerprint
from rnn_lab.sweeps.job import is_first_process
from rnn_lab.sweeps.job_dir import JobDir
from rnn_lab.training.config import check_sweep_name


class LockOutputDir(Callback):
    """What conf/train.yaml has Hydra call first. It swallows exceptions, but no SystemExit."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Take the folder of the one run that begins, or end the program with a line."""
        try:
            check_sweep_name(OmegaConf.select(config, "sweep"))
            if is_first_process():  # which answers for those that train with it
                self._lock = _claim(JobDir(Path(config.hydra.run.dir).absolute()), config)
        except UserError as error:
            sys.exit(f"error: {error}")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """End the program with a line where the sweep's folder is not under runs/."""
        try:
            check_sweep_name(OmegaConf.select(config, "sweep"))
        except ConfigError as error:
            sys.exit(f"error: {error}")


def _claim(job: JobDir, config: DictConfig) -> FileLock:
    try:
        job.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, job.path) from error
    lock = job.acquire()
    if job.status == "finished":
        raise OutputDirConflictError(
            f"hydra.run.dir={job.path}: holds a finished run; choose another folder"
        )
    if config.get("resume") != "never" and job.has_other_unfinished_run(config_fingerprint(config)):
        with read_write(config), open_dict(config):
            config.hydra.output_subdir = None  # it will probably be refused
    return lock
