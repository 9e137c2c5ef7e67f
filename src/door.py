"""The way in for train, eval, predict and explain.py: compose a config, call one function.

A mistake that the user can mend is one line on stderr and exit status 1. Anything else is a
fault of ours and keeps its stack trace. HYDRA_FULL_ERROR=1 shows the trace of everything.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.errors import UserError
from src.options import no_such

CONF = Path(__file__).resolve().parent.parent / "conf"

Task = Callable[[dict[str, Any]], None]


def door(config_name: str, *, verbatim: Sequence[str] = ()) -> Callable[[Task], Callable[[], None]]:
    """Make `task` the whole of a program: its argument is conf/`config_name`.yaml, composed.

    `verbatim` names options taken from the command line to the letter, since a review holds
    commas, quotes and `${...}` that Hydra's grammar would read as its own.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def program() -> None:
            user_wants_traces = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
            os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach us instead of being printed
            taken = _take_verbatim(sys.argv, verbatim)

            def run(config: DictConfig) -> None:
                try:
                    options = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
                    assert isinstance(options, dict)
                    task({str(key): value for key, value in options.items()} | taken)
                except (UserError, OmegaConfBaseException) as error:
                    # In a sweep the other jobs go on: the exception is this job's result.
                    if user_wants_traces or HydraConfig.get().mode == RunMode.MULTIRUN:
                        raise
                    _exit_with(_one_line(error))

            main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
            try:
                main(functools.wraps(task)(run))()
            except (UserError, HydraException, OmegaConfBaseException) as error:
                if user_wants_traces:
                    raise
                _exit_with(_one_line(error, config_name))
            except KeyboardInterrupt:
                print("stopped", file=sys.stderr)
                sys.exit(130)

        return program

    return decorate


def _take_verbatim(argv: list[str], names: Sequence[str]) -> dict[str, str]:
    """Remove `name=value` arguments of those names from `argv` and return their values."""
    taken = {}
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if equals and name in names:
            taken[name] = value
            argv.remove(argument)
    return taken


def _one_line(error: Exception, config_name: str | None = None) -> str:
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return no_such(f"{group}={choice}: no such choice", choice, list(error.options))
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown and config_name:
        return _unknown_option(unknown[1], config_name)
    if isinstance(error, UserError):
        return text
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]}: no value given; add {missing[1]}=... to the command"
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _unknown_option(name: str, config_name: str) -> str:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        # The group choices decide which options there are; the dotted overrides do not.
        groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
        choices = [a for a in sys.argv[1:] if a.partition("=")[0] in groups and "," not in a]
        config = hydra.compose(config_name, overrides=choices)
    parent, _, _ = name.rpartition(".")
    siblings = OmegaConf.select(config, parent) if parent else config
    if not isinstance(siblings, DictConfig):
        return f"{name}: no such option"
    return no_such(f"{name}: no such option", name, [str(key) for key in siblings])


def _exit_with(lines: str) -> NoReturn:
    for line in lines.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
