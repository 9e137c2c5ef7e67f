"""Where a run's curves go: always metrics.csv, and the dashboard that was asked for."""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import gc_disabled
from rnn_lab.io.secret_scan import git_remote
from rnn_lab.tracking.metrics_csv import MetricsCsv, read_metrics
from rnn_lab.tracking.wandb_logger import FaultTolerantWandbLogger, finish_wandb
from rnn_lab.tracking.wandb_resume import (
    delete_offline_runs,
    earlier_runs,
    is_offline,
    replay_metrics,
    run_id,
)
from rnn_lab.training.config import LoggerConfig, WandbConfig
from rnn_lab.training.resume import ResumePoint


def build_loggers(
    config: LoggerConfig,
    folder: Path,
    *,
    name: str,
    tags: list[str],
    group: str | None,
    options: dict[str, Any],
    resume_point: ResumePoint | None = None,
) -> list[Logger]:
    """Return the loggers of the run called `name` that lives in `folder`.

    `group` is the sweep that the run is part of; `options` are what it was composed from. Where
    the run goes on from `resume_point`, so do its curves.
    """
    rows = resume_point.state["rows"] if resume_point else 0
    loggers: list[Logger] = [MetricsCsv(folder, keep=rows)]
    if config.name == "tensorboard":
        # What was written after the checkpoint is written again: TensorBoard is to hide the first.
        purge = resume_point.global_step if resume_point else None
        loggers.append(TensorBoardLogger(folder, "tensorboard", version="", purge_step=purge))
    elif isinstance(config, WandbConfig) and config.mode != "disabled":
        group = config.group or group
        described = {"name": name, "tags": tags, "group": group, "config": options}
        loggers.append(_open_wandb(config, folder, described, rows))
    return loggers


def wandb_logger(loggers: list[Logger]) -> FaultTolerantWandbLogger | None:
    """Return the W&B logger among `loggers`, if there is one."""
    return next(
        (logger for logger in loggers if isinstance(logger, FaultTolerantWandbLogger)), None
    )


def open_wandb_run(
    config: WandbConfig, folder: Path, described: dict[str, Any]
) -> tuple[Any, bool]:
    """Open a W&B run in `folder`: online with an account, else offline, where `auto` ends too.

    Returns the run and whether it is offline.

    Raises:
        ConfigError: W&B does not start as it was told to.
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


def _open_wandb(
    config: WandbConfig, folder: Path, described: dict[str, Any], rows: int
) -> FaultTolerantWandbLogger:
    """Open the W&B run of the run in `folder`.

    An interrupted run keeps its id. One that was offline has its first `rows` rows of metrics.csv
    logged again.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return FaultTolerantWandbLogger(
            save_dir=folder
        )  # of several processes the first has the run
    earlier = earlier_runs(folder)
    if earlier:
        described |= {"id": run_id(earlier[-1])}
    run, offline = open_wandb_run(config, folder, described)
    if earlier and not offline and "stopped" in run.summary:
        run.summary["stopped"] = None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if offline or (earlier and is_offline(earlier[-1])):
        replay_metrics(run, read_metrics(folder / "metrics.csv")[:rows])
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

    with gc_disabled():  # the first of a process imports the whole of W&B's client
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
    """Whether W&B is to stay offline. Without an account it would stop at a prompt.

    Raises:
        ConfigError: `online` was asked for without an account.
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
