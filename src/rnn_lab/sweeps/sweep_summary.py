"""The end of a sweep: what became of every job, and the exit status.

Hydra tells a program neither that it ran many jobs nor what came of them, so the sweep's folder is
noted when Hydra starts it, and read when it is over.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.sweeps.job_dir import JobDir, job_dirs
from rnn_lab.validation import validate

_started: list[Path] = []
_logger: dict[str, Any] = {}  # of the command, for the sweep as a whole


class SweepTracker(Callback):
    """What conf/train.yaml has Hydra call, under every sweeper and launcher."""

    def __init__(self) -> None:
        self._before: JobReturn | None = None  # the job before, in this process

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder of the sweep that begins in this process."""
        _started.append(Path(config.hydra.sweep.dir).absolute())
        logger = OmegaConf.to_container(config.logger, resolve=True) if "logger" in config else {}
        assert isinstance(logger, dict)
        _logger.update({str(key): value for key, value in logger.items()})

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Let go of what the job before has left in memory.

        Its trainer, network and data refer to one another, so that they and their open files would
        stay until Python next looks for such circles. Hydra's launcher holds on to every job's
        config for the sweeper, which goes by the folder alone.
        """
        if self._before is None:
            return
        hydra_config = self._before.hydra_cfg
        if hydra_config is not None:
            place = {"output_dir": hydra_config.hydra.runtime.output_dir}
            self._before.hydra_cfg = OmegaConf.create({"hydra": {"runtime": place}})
        self._before.cfg = None
        self._before = None
        gc.collect()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Remember the job until the next begins: other callbacks may still read its config."""
        self._before = job_return


@contextmanager
def summarize_on_exit() -> Iterator[None]:
    """Tell what became of the sweep that runs inside, also where its sweeper raises.

    Raises:
        SystemExit: with status 1, where a job failed or is unfinished.
    """
    _started.clear()
    _logger.clear()
    try:
        yield
    except Exception:
        for sweep in _started:
            print_summary(sweep)
        raise
    undone = [job for sweep in _started for job in print_summary(sweep)]
    if _logger.get("name") == "wandb" and _logger.get("mode") != "disabled":
        from rnn_lab.sweeps.wandb_summary import summarise_in_wandb
        from rnn_lab.training.config import WandbConfig

        with contextlib.suppress(ConfigError):  # then every job has said so
            config = validate(WandbConfig, _logger)
            for sweep in _started:
                summarise_in_wandb(sweep, config)
    if undone:
        sys.exit(1)


def print_summary(sweep: Path) -> list[JobDir]:
    """Print a table of the sweep and name its failed and unfinished jobs, which are returned."""
    jobs = job_dirs(sweep)
    if not jobs:
        return []
    from rnn_lab.reports.sweep.report import report_sweep

    try:
        report_sweep(sweep)
    except UserError as error:  # the failures are told all the same
        print(f"error: {error}", file=sys.stderr)
    undone = [job for job in jobs if job.status in ("failed", "unfinished")]
    if undone:
        print(f"error: {len(undone)} of {len(jobs)} jobs are not done:", file=sys.stderr)
    for job in undone:
        print(f"error:   {_became(job)}", file=sys.stderr)
    return undone


def _became(job: JobDir) -> str:
    error = f": {job.read('failure').get('error')}" if job.status == "failed" else ""
    return f"{job.name} {job.status}{error}"
