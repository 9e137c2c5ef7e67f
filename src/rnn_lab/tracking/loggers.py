"""The loggers of a run: metrics.csv always, and the dashboard that was chosen."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import gc_disabled
from rnn_lab.io.secret_scan import git_remote
from rnn_lab.tracking.config import LoggerConfig, WandbConfig
from rnn_lab.tracking.metrics_csv import MetricsCsv, read_metrics
from rnn_lab.tracking.wandb_logger import FaultTolerantWandbLogger, finish_wandb
from rnn_lab.tracking.wandb_resume import (
    delete_offline_runs,
    earlier_runs,
    is_offline,
    replay_metrics,
    run_id,
)


@dataclass(frozen=True)
class RunDescription:
    """What loggers show of a run, and the point where a resumed one continues."""

    folder: Path
    name: str
    tags: list[str]
    group: str | None  # the sweep that the run is part of
    options: dict[str, Any]
    metrics_rows: int = 0  # of metrics.csv, to keep
    global_step: int | None = None  # of the checkpoint that the run resumes from


def build_loggers(config: LoggerConfig, run: RunDescription) -> list[Logger]:
    """Return the loggers of a run: metrics.csv always, and the dashboard that was chosen."""
    loggers: list[Logger] = [MetricsCsv(run.folder, keep=run.metrics_rows)]
    if config.name == "tensorboard":
        # Events after the checkpoint are written again: TensorBoard is to hide the first ones.
        purge = run.global_step
        loggers.append(TensorBoardLogger(run.folder, "tensorboard", version="", purge_step=purge))
    elif isinstance(config, WandbConfig) and config.mode != "disabled":
        loggers.append(_open_wandb(config, run))
    return loggers


def wandb_logger(loggers: list[Logger]) -> FaultTolerantWandbLogger | None:
    """Return the W&B logger among `loggers`, if there is one."""
    return next(
        (logger for logger in loggers if isinstance(logger, FaultTolerantWandbLogger)), None
    )


def open_wandb_run(
    config: WandbConfig, folder: Path, described: dict[str, Any]
) -> tuple[Any, bool]:
    """Open a W&B run in `folder`: online with an account, else offline.

    `mode=auto` falls back to offline where W&B cannot be reached.

    Returns:
        The run, and whether it is offline.

    Raises:
        ConfigError: W&B does not start in the chosen mode.
    """
    with gc_disabled():
        import wandb

    finish_wandb()
    offline = _is_offline(config)
    try:
        return _init(config, folder, described, offline=offline), offline
    except (wandb.errors.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        if config.mode == "online" or offline:
            raise ConfigError(f"logger.mode={config.mode}: W&B does not start: {reason}") from error
        print(f"W&B cannot be reached: {reason}", file=sys.stderr)
        return _init(config, folder, described, offline=True), True


def _open_wandb(config: WandbConfig, run_of: RunDescription) -> FaultTolerantWandbLogger:
    """Open the W&B run of a run.

    A resumed run keeps its id. One that was offline has the rows of metrics.csv that it keeps
    logged again.
    """
    folder = run_of.folder
    described: dict[str, Any] = {
        "name": run_of.name,
        "tags": run_of.tags,
        "group": config.group or run_of.group,
        "config": run_of.options,
    }
    if getattr(rank_zero_only, "rank", 0) != 0:
        return FaultTolerantWandbLogger(save_dir=folder)  # only the first process opens the run
    earlier = earlier_runs(folder)
    if earlier:
        described |= {"id": run_id(earlier[-1])}
    run, offline = open_wandb_run(config, folder, described)
    if earlier and not offline and "stopped" in run.summary:
        run.summary["stopped"] = None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if offline or (earlier and is_offline(earlier[-1])):
        replay_metrics(run, read_metrics(folder / "metrics.csv")[: run_of.metrics_rows])
        delete_offline_runs(earlier)
    if offline:
        place = Path(run.dir).parent
        print(
            f"W&B is offline: look at the run with `wandb leet {place}`, "
            f"upload it with `wandb sync {place}`"
        )
    return FaultTolerantWandbLogger(experiment=run, save_dir=folder)


def _init(config: WandbConfig, folder: Path, described: dict[str, Any], *, offline: bool) -> Any:
    import wandb

    with gc_disabled():  # the first call in a process imports all of W&B's client
        return wandb.init(
            dir=folder,
            project=config.project,
            entity=config.entity,
            mode="offline" if offline else "online",
            resume=None if offline else "allow",
            settings=wandb.Settings(init_timeout=20, console="off", silent=True, **_git()),
            **described,
        )


def _git() -> dict[str, Any]:
    remote = git_remote()
    return {"git_remote_url": remote} if remote else {}


def _is_offline(config: WandbConfig) -> bool:
    """Return whether W&B is to be offline. Without an account it would wait at a prompt.

    Raises:
        ConfigError: the mode is `online` and there is no account.
    """
    import wandb

    asked = os.environ.get("WANDB_MODE", "") if config.mode == "auto" else config.mode
    if asked == "offline":
        return True
    has_account = wandb.login(prompt=False, verify=False)
    if asked == "online" and not has_account:
        raise ConfigError(
            "logger.mode=online: no W&B account on this machine; run `wandb login` first, "
            "or choose from: auto, offline, disabled"
        )
    return not has_account
