"""The folder of a test is claimed before Hydra writes into it, as a run's folder is."""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rnn_lab.errors import UserError
from rnn_lab.io.atomic import write_error
from rnn_lab.io.locks import acquire


class LockOutputDir(Callback):
    """What conf/eval.yaml has Hydra call first. It swallows exceptions, but no SystemExit."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Take the folder of the test that begins, or end the program with a line."""
        try:
            self._lock = claim_test(Path(config.hydra.run.dir).absolute())
        except UserError as error:
            sys.exit(f"error: {error}")


def claim_test(folder: Path) -> FileLock:
    """Keep other processes off the `folder` of a test for as long as the lock is kept.

    Raises:
        UserError: another is at it, or a training's result is there, which a test's would replace.
    """
    if (folder / "job.json").exists() or (folder / "checkpoints").exists():
        raise UserError(f"hydra.run.dir={folder}: holds a training run; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder) from error
    return acquire(folder / "eval.lock", f"hydra.run.dir={folder}")
