"""W&B beside a run: where its process, its files or its line fail, the run goes on without."""

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
    """Lightning's WandbLogger; where W&B fails it says so once, and the training goes on."""

    lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log to W&B while it is there."""
        if not self.lost:
            with self.tolerate():
                super().log_metrics(metrics, step)

    @contextmanager
    def tolerate(self) -> Iterator[None]:
        """Go on where W&B, its process or its files fail inside."""
        try:
            yield
        except Exception as error:
            if not _is_of_wandb(error):
                raise
            self.lost = True
            _tell(str(error).partition("\n")[0] or type(error).__name__)
            log.info("W&B has not all of the run", exc_info=error)


def _is_of_wandb(error: Exception) -> bool:
    theirs = type(error).__module__.partition(".")[0] == "wandb"
    return theirs or isinstance(error, ConnectionError) or find_os_error(error) is not None


def _tell(reason: str) -> None:
    print(f"W&B has not all of the run: {reason}", file=sys.stderr, flush=True)


def finish_wandb(exit_code: int = 0, *, stopped: str | None = None) -> None:
    """Close this process's W&B run: the next one would go on in it.

    One that a signal ends has its name as `stopped` in the summary, and is not waited for longer
    than the signal's sender may wait for the process.
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
            line = f"W&B is slow to take the run; later: `wandb sync {folder.parent}`"
            print(line, file=sys.stderr)
    with contextlib.suppress(OSError):
        if os.statvfs(folder).f_bavail == 0:  # its process tells nobody what it could not write
            _tell(f"{folder.parent}: no space left")


def _finish(run: Any, exit_code: int) -> None:
    wandb = sys.modules["wandb"]
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        if not _is_of_wandb(error):
            raise
        _tell("its process has ended")
        log.info("W&B has not all of the run", exc_info=error)
        with contextlib.suppress(Exception):
            wandb.teardown()  # which it would try at the end of this process, with a trace
        wandb.sdk.lib.module.unset_globals()
