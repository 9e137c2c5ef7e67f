"""Where a run's curves go: always metrics.csv, and the dashboard that was asked for."""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from src.errors import ConfigError
from src.training.config import LoggerConfig, WandbConfig


def build_loggers(
    config: LoggerConfig,
    folder: Path,
    *,
    name: str,
    tags: list[str],
    group: str | None,
    options: dict[str, Any],
) -> list[Logger]:
    """Return the loggers of the run called `name` that lives in `folder`.

    `group` is the sweep that the run is part of; `options` are what it was composed from.
    """
    loggers: list[Logger] = [CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)]
    if config.name == "tensorboard":
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    elif isinstance(config, WandbConfig) and config.mode != "disabled":
        group = config.group or group
        described = {"name": name, "tags": tags, "group": group, "config": options}
        loggers.append(_open_wandb(config, folder, described))
    return loggers


def wandb_logger(loggers: list[Logger]) -> WandbLogger | None:
    """Return the W&B logger among `loggers`, if there is one."""
    return next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)


def finish_wandb(*, failed: bool) -> None:
    """Close this process's W&B run: the next one would go on in it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def _open_wandb(config: WandbConfig, folder: Path, described: dict[str, Any]) -> WandbLogger:
    """Open a W&B run: online with an account, else offline, which `auto` also falls back to."""
    import wandb

    if getattr(rank_zero_only, "rank", 0) != 0:
        return WandbLogger(save_dir=folder)  # of several processes, the first alone has the run
    finish_wandb(failed=False)
    offline = _is_offline(config)
    try:
        run = _init(config, folder, described, offline=offline)
    except (wandb.errors.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        if config.mode == "online" or offline:
            raise ConfigError(f"logger.mode={config.mode}: W&B does not start: {reason}") from error
        print(f"W&B cannot be reached: {reason}", file=sys.stderr)
        offline, run = True, _init(config, folder, described, offline=True)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if offline:
        place = Path(run.dir).parent
        print(
            f"W&B is offline: look at the run with `wandb leet {place}`, "
            f"upload it with `wandb sync {place}`"
        )
    return WandbLogger(experiment=run, save_dir=folder)


def _init(config: WandbConfig, folder: Path, described: dict[str, Any], *, offline: bool) -> Any:
    import wandb

    return wandb.init(
        dir=folder,
        project=config.project,
        entity=config.entity,
        mode="offline" if offline else "online",
        settings=wandb.Settings(init_timeout=20, console="off", silent=True),
        **described,
    )


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
