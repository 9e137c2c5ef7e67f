"""Where a run's curves go: always metrics.csv, and the dashboard that was asked for."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from src.errors import ConfigError
from src.training.config import LoggerConfig, WandbConfig


def build_loggers(
    config: LoggerConfig, folder: Path, *, name: str, tags: list[str], options: dict[str, Any]
) -> list[Logger]:
    """Return the loggers of the run called `name` that lives in `folder`."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)]
    if config.name == "tensorboard":
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    elif isinstance(config, WandbConfig) and config.mode != "disabled":
        loggers.append(_wandb_logger(config, folder, name, tags, options))
    return loggers


def wandb_logger(loggers: list[Logger]) -> WandbLogger | None:
    """Return the W&B logger among `loggers`, if there is one."""
    return next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)


def finish_wandb(*, failed: bool) -> None:
    """Close the process's W&B run: another one in this process would go on in it."""
    import wandb

    if wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def _wandb_logger(
    config: WandbConfig, folder: Path, name: str, tags: list[str], options: dict[str, Any]
) -> WandbLogger:
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")  # what matters of it is said by us
    finish_wandb(failed=False)
    offline = _is_offline(config)
    logger = WandbLogger(
        name=name,
        save_dir=folder,
        project=config.project,
        entity=config.entity,
        group=config.group,
        tags=tags,
        config=options,
        offline=offline,
        settings=wandb.Settings(init_timeout=30, console="off"),
    )
    if getattr(rank_zero_only, "rank", 0) != 0:
        return logger  # of several processes, the first alone has the W&B run
    try:
        run = logger.experiment
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        raise ConfigError(
            f"logger=wandb: W&B cannot be reached ({str(error).splitlines()[0]}); "
            "take logger.mode=offline or logger=csv"
        ) from error
    if offline:
        place = Path(run.dir).parent
        print(
            f"W&B runs offline: look at it with `wandb leet {place}`, "
            f"upload it with `wandb sync {place}`"
        )
    return logger


def _is_offline(config: WandbConfig) -> bool:
    """Without an account W&B would stop at a prompt: `auto` then stays offline.

    Raises:
        ConfigError: `online` was asked for without an account.
    """
    import wandb

    if config.mode == "offline" or (config.mode == "auto" and "WANDB_MODE" in os.environ):
        return os.environ.get("WANDB_MODE") != "online"
    has_account = bool(wandb.api.api_key)
    if config.mode == "online" and not has_account:
        raise ConfigError(
            "logger.mode=online: no W&B account on this machine; run `wandb login` first, "
            "or choose from: auto, offline, disabled"
        )
    return not has_account
