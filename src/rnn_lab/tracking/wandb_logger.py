"""A W&B logger that ends no run: where W&B fails, the training continues without it."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from rnn_lab.io.atomic import find_os_error

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds


class FaultTolerantWandbLogger(WandbLogger):
    """Lightning's WandbLogger; a failure of W&B is reported once, and the training continues."""

    failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log to W&B, unless it has failed."""
        if not self.failed:
            with self.tolerate():
                super().log_metrics(metrics, step)

    @contextmanager
    def tolerate(self) -> Iterator[None]:
        """Continue where W&B, its process or its files fail inside."""
        try:
            yield
        except Exception as error:
            if not _is_from_wandb(error):
                raise
            self.failed = True
            _report(str(error).partition("\n")[0] or type(error).__name__)
            log.info("W&B does not have all of the run", exc_info=error)


def _is_from_wandb(error: Exception) -> bool:
    is_theirs = type(error).__module__.partition(".")[0] == "wandb"
    return is_theirs or isinstance(error, ConnectionError) or find_os_error(error) is not None


def _report(reason: str) -> None:
    print(f"W&B does not have all of the run: {reason}", file=sys.stderr, flush=True)


def finish_wandb(exit_code: int = 0, *, stopped: str | None = None) -> None:
    """Finish this process's W&B run: otherwise the next run would be logged to it.

    A run that a signal stops has the signal's name as `stopped` in its summary, and is not waited
    for longer than the sender of the signal may wait for this process.
    """
    wandb = sys.modules.get("wandb")
    run = None if wandb is None else wandb.run
    if run is None:
        return
    folder = Path(run.dir)
    if stopped is None:
        _finish(run, exit_code)
    else:
        with contextlib.suppress(Exception):
            run.summary["stopped"] = stopped
        finish = threading.Thread(target=_finish, args=(run, exit_code), daemon=True)
        finish.start()
        finish.join(_PATIENCE)
        if finish.is_alive():
            line = (
                f"W&B is slow to finish the run; upload it later with `wandb sync {folder.parent}`"
            )
            print(line, file=sys.stderr)
    with contextlib.suppress(OSError):
        if (
            os.statvfs(folder).f_bavail == 0
        ):  # W&B's process does not report what it could not write
            _report(f"{folder.parent}: no space left")


def _finish(run: Any, exit_code: int) -> None:
    wandb = sys.modules["wandb"]
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        if not _is_from_wandb(error):
            raise
        _report("its process has ended")
        log.info("W&B does not have all of the run", exc_info=error)
        with contextlib.suppress(Exception):
            wandb.teardown()  # or it fails at the end of this process, with a stack trace
        wandb.sdk.lib.module.unset_globals()
