"""The loggers of a run: metrics.csv always, and the dashboard that was chosen.

A failure of W&B ends no run. A resumed run is still one W&B run with complete curves: an offline
one cannot be resumed (of two folders with one id the later replaces the earlier at the upload), so
its rows of metrics.csv are logged again.
"""

import contextlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.errors import ConfigError, first_line
from rnn_lab.fast_import import gc_disabled
from rnn_lab.io.atomic import find_os_error
from rnn_lab.io.secret_scan import git_remote
from rnn_lab.overrides import shell_command
from rnn_lab.paths import wandb_prefix
from rnn_lab.runs.run_folder import BEST
from rnn_lab.tracking.config import LoggerConfig, WandbConfig
from rnn_lab.tracking.metrics_csv import MetricsCsv, read_metric_rows
from rnn_lab.tracking.wandb_environment import (
    DEFAULT_PROJECT,
    LONGEST_NAME,
    environment_settings,
    in_wandb_sweep,
    requested_mode,
    settings_error,
    shorten_name,
    wandb_is_off,
)
from rnn_lab.validation import flatten

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds that W&B may take to finish a run that a signal stops
_opened: list[Any] = []  # the W&B run that is open; another one is the caller's


def build_loggers(
    config: LoggerConfig,
    folder: Path,
    about: dict[str, Any],
    metrics_rows: int = 0,
    global_step: int | None = None,
) -> list[Logger]:
    """Return the loggers of the run in `folder`; `about` has its name, tags, group and config.

    A resumed run keeps `metrics_rows` of metrics.csv, and starts at `global_step`.

    Raises:
        ConfigError: W&B does not start in the chosen mode.
    """
    loggers: list[Logger] = [MetricsCsv(folder, keep=metrics_rows)]
    if config.name == "tensorboard":
        # Events after the checkpoint are written again: TensorBoard is to hide the first ones.
        loggers.append(TensorBoardLogger(folder, "tensorboard", version="", purge_step=global_step))
    elif isinstance(config, WandbConfig):
        if (off := wandb_is_off(config)) is None:
            loggers.append(_wandb_logger(config, folder, about, metrics_rows))
        elif config.mode == "auto":
            rank_zero_only(print)(f"W&B is off: {off}", flush=True)
    return loggers


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
            _report(first_line(error), error)


def _wandb_logger(
    config: WandbConfig, folder: Path, about: dict[str, Any], metrics_rows: int
) -> FaultTolerantWandbLogger:
    if getattr(rank_zero_only, "rank", 0) != 0:
        return FaultTolerantWandbLogger(save_dir=folder)  # only the first process opens the run
    if "WANDB_DIR" in os.environ and not in_wandb_sweep():  # an agent sets it for its own files
        print(f"WANDB_DIR has no effect: W&B's files are in {folder / 'wandb'}", flush=True)
    run, offline, earlier = open_wandb_run(config, folder, about)
    if earlier and not offline and "stopped" in run.summary:
        run.summary["stopped"] = None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if offline or (earlier and _is_offline_run(earlier[-1])):
        _replay_metrics(run, read_metric_rows(folder / "metrics.csv")[:metrics_rows])
        delete_offline_runs(earlier)
    if offline:
        print(
            f"W&B is offline: look at the run with `{_wandb_command('leet', run)}`, "
            f"upload it with `{_wandb_command('sync', run)}`"
        )
    return FaultTolerantWandbLogger(experiment=run, save_dir=folder)


def open_wandb_run(
    config: WandbConfig, folder: Path, described: dict[str, Any]
) -> tuple[Any, bool, list[Path]]:
    """Open a W&B run in `folder`, with the id of an interrupted one there: online if possible.

    `mode=auto` falls back to offline where there is no account or W&B cannot be reached. Where
    `config` has no project, entity or group, the environment has it, or else `described`. In a W&B
    sweep, its agent has set project, entity, id and, unless `described` has one, the name.

    Returns:
        The run, whether it is offline, and the folders of the earlier ones, the latest last.

    Raises:
        ConfigError: W&B does not start in the chosen mode, or refuses one of its settings; or this
            process has a W&B run of its own.
    """
    with gc_disabled():
        import wandb
        from pydantic import ValidationError

    settings = environment_settings()
    group = config.group or settings.run_group or described["group"]
    name = described["name"]
    described = described | {"name": name and _fitting(name), "group": group and _fitting(group)}
    if in_wandb_sweep():
        for option, value in (("project", config.project), ("entity", config.entity)):
            if value is not None:
                print(f"logger.{option}={value} has no effect: the W&B sweep has its own {option}")
    else:
        described["project"] = config.project or settings.project or DEFAULT_PROJECT
        described["entity"] = config.entity or settings.entity

    def init(*, offline: bool) -> Any:
        remote = git_remote()
        git = {"git_remote_url": remote} if remote else {}
        with gc_disabled():  # the first call in a process imports all of W&B's client
            run = wandb.init(
                dir=folder,
                mode="offline" if offline else "online",
                resume=None if offline else "allow",
                settings=wandb.Settings(init_timeout=20, console="off", silent=True, **git),
                **described,
            )
        _opened.append(run)
        _restore_groups(run, described["config"])
        return run

    finish_wandb()
    if wandb.run is not None:
        raise ConfigError(
            "logger=wandb: this process has a W&B run of its own; finish it, or give logger=none"
        )
    runs = (run for run in (folder / "wandb").glob("*run-*-*") if run.is_dir())
    earlier = sorted(runs, key=_started_and_id)
    if earlier and not in_wandb_sweep():
        described = described | {"id": _started_and_id(earlier[-1]).partition("-")[2]}
    offline = _is_offline(config)
    try:
        return init(offline=offline), offline, earlier
    except ValidationError as error:
        raise settings_error(error) from error
    except (wandb.errors.Error, OSError) as error:
        reason = first_line(error)
        mode, origin = requested_mode(config)
        if offline or mode == "online":
            raise ConfigError(f"{origin}: W&B does not start: {reason}") from error
        print(f"W&B cannot be reached: {reason}", file=sys.stderr)
        return init(offline=True), True, earlier


def _restore_groups(run: Any, config: Mapping[str, Any]) -> None:
    """Log the options of a group that a parameter of a W&B sweep has replaced, by dotted names.

    W&B puts the value of the parameter `model` in place of all options of the model.
    """
    groups = {name: options for name, options in config.items() if isinstance(options, Mapping)}
    kept = {name for name, options in run.config.items() if isinstance(options, Mapping)}
    replaced = {name: options for name, options in groups.items() if name not in kept}
    missing = {key: value for key, value in flatten(replaced).items() if key not in run.config}
    if missing:
        run.config.update(missing)


def _fitting(name: str) -> str:
    """Return `name`, shortened with a message where W&B takes no longer one."""
    shown = shorten_name(name)
    if shown != name:
        print(f"W&B takes names of up to {LONGEST_NAME} characters: {name!r} is shown as {shown!r}")
    return shown


def _is_offline(config: WandbConfig) -> bool:
    """Return whether W&B is to be offline: without an account it would wait at a prompt."""
    import wandb

    asked, origin = requested_mode(config)
    if asked == "offline":
        return True
    has_account = wandb.login(prompt=False, verify=False)
    if asked == "online" and not has_account:
        raise ConfigError(
            f"{origin}: no W&B account on this machine; run "
            f"`{wandb_prefix()} login` first, or choose from: auto, offline, disabled"
        )
    return not has_account


def _wandb_command(name: str, run: Any) -> str:
    return shell_command(f"{wandb_prefix()} {name}", str(Path(run.dir).parent))


def add_checkpoint(artifact: Any, checkpoint: Path) -> None:
    """Add best.ckpt to a W&B artifact, from where it is.

    By default W&B would copy the file twice: to a staging folder in the user's home, from which an
    offline run is never removed, and to its cache after the upload.
    """
    path = str(checkpoint.absolute())  # `wandb sync` may be started in another folder
    artifact.add_file(path, name=BEST, policy="immutable", skip_cache=True)


def delete_offline_runs(earlier: list[Path]) -> None:
    """Remove the folders of offline runs whose curves have been logged again."""
    for run in filter(_is_offline_run, earlier):
        shutil.rmtree(run, ignore_errors=True)


def _started_and_id(run: Path) -> str:
    """Return <time>-<id> of a folder of W&B: offline-run-<time>-<id> or run-<time>-<id>."""
    return run.name.partition("run-")[2]


def _is_offline_run(run: Path) -> bool:
    return run.name.startswith("offline-")


def _replay_metrics(run: Any, rows: list[dict[str, str]]) -> None:
    """Log rows of metrics.csv as Lightning's WandbLogger did."""
    for row in rows:
        metrics = {name: float(cell) for name, cell in row.items() if name != "step"}
        if "epoch" in metrics:
            metrics["epoch"] = int(metrics["epoch"])
        run.log(metrics | {"trainer/global_step": int(row["step"])})


def finish_wandb(exit_code: int = 0, *, stopped: str | None = None) -> None:
    """Finish the W&B run that is open: otherwise the next run would be logged to it.

    One that this package has not opened is its caller's, and is left alone.
    A run that a signal stops has the signal's name as `stopped` in its summary, and is not waited
    for longer than the sender of the signal may wait for this process.
    """
    wandb = sys.modules.get("wandb")
    run = None if wandb is None else wandb.run
    if run is None or all(run is not one for one in _opened):
        return
    _opened.clear()
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
            later = f"upload it later with `{_wandb_command('sync', run)}`"
            print(f"W&B is slow to finish the run; {later}", file=sys.stderr)
    with contextlib.suppress(OSError):
        if os.statvfs(folder).f_bavail == 0:  # which W&B's process does not report
            _report(f"{folder.parent}: no space left")


def _finish(run: Any, exit_code: int) -> None:
    wandb = sys.modules["wandb"]
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        if not _is_from_wandb(error):
            raise
        _report("its process has ended", error)
        with contextlib.suppress(Exception):
            wandb.teardown()  # or it fails at the end of this process, with a stack trace
        wandb.sdk.lib.module.unset_globals()


def _is_from_wandb(error: Exception) -> bool:
    is_theirs = type(error).__module__.partition(".")[0] == "wandb"
    return is_theirs or isinstance(error, ConnectionError) or find_os_error(error) is not None


def _report(reason: str, error: Exception | None = None) -> None:
    print(f"W&B does not have all of the run: {reason}", file=sys.stderr, flush=True)
    if error is not None:
        log.info("W&B does not have all of the run", exc_info=error)
