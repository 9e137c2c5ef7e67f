"""The settings of a W&B run: an explicit option, else W&B's environment, else our default.

The variables are those that W&B documents, and WANDB_DISABLED of Hugging Face's libraries. The
files of a run are in its folder, so that it can be resumed: WANDB_DIR has no effect.
"""

import os
from typing import Any, Literal

from rnn_lab.errors import ConfigError
from rnn_lab.tracking.config import WandbConfig
from rnn_lab.validation import unknown_choice_message

Mode = Literal["auto", "online", "offline", "disabled"]

DEFAULT_PROJECT = "rnn-lab"
SWEEP_SUMMARY = "sweep-summary"  # the job type of a sweep's own run
LONGEST_NAME = 128  # of a run or group; the server refuses longer ones

_MODES: dict[str, Mode] = {"online": "online", "offline": "offline", "disabled": "disabled"}
# Older names, and a mode in which several processes could log: here only the first one does.
_OTHER_MODES: dict[str, Mode] = {"run": "online", "dryrun": "offline", "shared": "online"}
_TRUE = ("1", "true", "yes", "on")
_VARIABLES = {"run_tags": "WANDB_TAGS", "run_name": "WANDB_NAME", "root_dir": "WANDB_DIR"}


def requested_mode(config: WandbConfig) -> tuple[Mode, str]:
    """Return the mode that is asked for, `auto` for none, and the option or variable as given.

    Raises:
        ConfigError: WANDB_MODE is none of W&B's modes.
    """
    if config.mode != "auto":
        return config.mode, f"logger.mode={config.mode}"
    disabled, asked = (os.environ.get(f"WANDB_{name}", "") for name in ("DISABLED", "MODE"))
    if disabled.lower() in _TRUE:
        return "disabled", f"WANDB_DISABLED={disabled}"
    if not asked:
        return "auto", "logger.mode=auto"
    if (mode := (_MODES | _OTHER_MODES).get(asked)) is None:
        raise ConfigError(
            unknown_choice_message(f"WANDB_MODE={asked}: impossible value", asked, [*_MODES])
        )
    return mode, f"WANDB_MODE={asked}"


def wandb_is_off(config: WandbConfig) -> str | None:
    """Return the option or variable that turns W&B off, as it was given; None: it is on."""
    mode, origin = requested_mode(config)
    return origin if mode == "disabled" else None


def environment_settings() -> Any:
    """Return W&B's own settings: those of its files, replaced by those of the environment.

    Raises:
        ConfigError: one of them is impossible.
    """
    import wandb
    from pydantic import ValidationError

    try:
        return wandb.setup().settings
    except ValidationError as error:
        raise settings_error(error) from error
    except wandb.errors.UsageError as error:  # of the name of a project
        raise ConfigError(f"WANDB_PROJECT: {error}") from error


def settings_error(error: Any) -> ConfigError:
    """Return the error for a setting that W&B's own validation refuses, a pydantic one."""
    lines = []
    for found in error.errors():
        setting = str(found["loc"][0]) if found["loc"] else ""
        name = _VARIABLES.get(setting, f"WANDB_{setting.upper()}")
        lines.append(f"{name}={os.environ.get(name, '')}: W&B refuses it: {found['msg']}")
    return ConfigError("; ".join(lines))


def in_wandb_sweep() -> bool:
    """Return whether an agent of a W&B sweep has started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def environment_tags() -> tuple[str, ...]:
    """Return the tags of WANDB_TAGS."""
    return tuple(tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag)


def shorten_name(name: str) -> str:
    """Return a name that W&B takes: of a longer one, the beginning and the end."""
    half = (LONGEST_NAME - 3) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}...{name[-half:]}"
