"""Lock the output folder of a test before Hydra writes into it."""

from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rnn_lab.errors import UserError, exiting_in_callback
from rnn_lab.io.locks import acquire
from rnn_lab.io.timed_dir import claim_timed_dir
from rnn_lab.runs.run_folder import CHECKPOINT_DIR


class LockTestDir(Callback):
    """Hydra callback of conf/eval.yaml."""

    @exiting_in_callback()
    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the folder of the test that starts, or exit with a one-line error."""
        claim_timed_dir(config, "hydra.run.dir")
        self._lock = lock_test_dir(Path(config.hydra.run.dir).absolute())

    @exiting_in_callback()
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Take a folder of its own for several tests that are named by the time."""
        claim_timed_dir(config, "hydra.sweep.dir")


def lock_test_dir(folder: Path) -> FileLock:
    """Lock the `folder` of a test against other processes until the lock is released.

    Raises:
        UserError: another process holds the lock, or the folder contains a training run, whose
            result a test would overwrite.
    """
    if (folder / "job.json").exists() or (folder / CHECKPOINT_DIR).exists():
        raise UserError(f"output_dir={folder}: contains a training run; choose another folder")
    return acquire(folder / "eval.lock", f"output_dir={folder}")
