"""W&B beside a run: where its process, its files or its line fail, the run goes on without."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger

from src.files import system_error

log = logging.getLogger(__name__)


class SteadyWandbLogger(WandbLogger):
    """Lightning's WandbLogger; where W&B fails it says so once, and the training goes on."""

    lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log to W&B while it is there."""
        if not self.lost:
            with self.or_without():
                super().log_metrics(metrics, step)

    @contextmanager
    def or_without(self) -> Iterator[None]:
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
    return theirs or isinstance(error, ConnectionError) or system_error(error) is not None


def _tell(reason: str) -> None:
    print(f"W&B has not all of the run: {reason}", file=sys.stderr, flush=True)


def finish_wandb(*, failed: bool) -> None:
    """Close this process's W&B run: the next one would go on in it."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    folder = Path(wandb.run.dir)
    try:
        wandb.finish(exit_code=int(failed))
    except Exception as error:
        if not _is_of_wandb(error):
            raise
        _tell("its process has ended")
        log.info("W&B has not all of the run", exc_info=error)
        with contextlib.suppress(Exception):
            wandb.teardown()  # which it would try at the end of this process, with a trace
        wandb.sdk.lib.module.unset_globals()
        return
    with contextlib.suppress(OSError):
        if os.statvfs(folder).f_bavail == 0:  # its process tells nobody what it could not write
            _tell(f"{folder.parent}: no space left")
