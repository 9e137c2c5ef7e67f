"""What all launchers that start processes share."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_lab.errors import ConfigError
from rnn_lab.process import num_cores
from rnn_lab.sweeps.job import JobDir


def resolve_n_jobs(n_jobs: Any, option: str) -> int:
    """Return the number of jobs that `n_jobs` means: -1 is one per core.

    Raises:
        ConfigError: it is not -1 or a number from 1 up.
    """
    if n_jobs == -1:
        return num_cores()
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise ConfigError(f"{option}={n_jobs}: impossible value. Choose from: -1, 1 and up")
    return n_jobs


def compose_job(launcher: Any, overrides: Sequence[str]) -> tuple[DictConfig, JobDir]:
    """Return the config of a job and its folder, which may not exist yet."""
    loader = launcher.hydra_context.config_loader
    config = loader.load_sweep_config(launcher.config, list(overrides))
    sweep, job = (OmegaConf.select(config, f"hydra.sweep.{key}") for key in ("dir", "subdir"))
    return config, JobDir(Path(sweep).absolute() / str(job))


def is_done(launcher: Any, overrides: Sequence[str]) -> bool:
    """Return whether the job is finished or pruned."""
    return compose_job(launcher, overrides)[1].status in ("finished", "pruned")


def run_inline(launcher: Any, overrides: Sequence[str], number: int) -> JobReturn:
    """Run a job in this process, as Hydra's basic launcher does."""
    config, _ = compose_job(launcher, overrides)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return run_job(
        hydra_context=launcher.hydra_context,
        task_function=launcher.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def dead_job_result(
    launcher: Any, overrides: Sequence[str], *, why: str, log: Path | None
) -> JobReturn:
    """Report a job whose process died, and return NaN for it: the sweep continues."""
    config, folder = compose_job(launcher, overrides)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.path)
    lines = [
        f"error: {folder.name}: its process died: {why}",
        f"       overrides: {' '.join(filter_overrides(overrides))}",
        *([f"       log: {log}"] if log else []),
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
    options = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    end = JobReturn(
        overrides=list(overrides), cfg=options, hydra_cfg=config, status=JobStatus.COMPLETED
    )
    end.return_value = math.nan
    return end
