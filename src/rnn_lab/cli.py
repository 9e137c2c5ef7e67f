"""The way in for train, eval, predict and explain.py: compose a config, call one function.

A mistake that the user can mend is one line on stderr and exit status 1. Anything else is a
fault of ours and keeps its stack trace. HYDRA_FULL_ERROR=1 shows the trace of everything.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import UserError, sanitize, user_message
from rnn_lab.io.atomic import find_os_error, write_error
from rnn_lab.validation import unknown_choice_message

CONF = Path(__file__).resolve().parents[2] / "conf"

Task = Callable[[dict[str, Any]], None]


# For conf: ${coalesce:value,default} is the default where the value is null, and ${job_dir:} the
# name of the folder of the config it stands in. Worker processes import this file before they ask.
OmegaConf.register_new_resolver(
    "coalesce", lambda value, default: default if value is None else value, replace=True
)


def _job_folder(*, _root_: DictConfig) -> str:
    from rnn_lab.sweeps.naming import job_dir_name

    return job_dir_name(_root_)


OmegaConf.register_new_resolver("job_dir", _job_folder, replace=True)


_folders: list[Path] = []  # that Hydra was told to make


class RecordOutputDir(Callback):
    """What conf/*.yaml has Hydra call: where it is about to write, should it be unable to."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder of the run."""
        _folders.append(Path(config.hydra.run.dir).absolute())

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder of the sweep."""
        _folders.append(Path(config.hydra.sweep.dir).absolute())


def hydra_entrypoint(
    config_name: str, *, verbatim: Sequence[str] = (), jobs: bool = False
) -> Callable[[Task], Callable[[], None]]:
    """Make `task` the whole of a program: its argument is conf/`config_name`.yaml, composed.

    `verbatim` names options taken from the command line to the letter, since a review holds
    commas, quotes and `${...}` that Hydra's grammar would read as its own. With `jobs`, each call
    of `task` is a job of rnn_lab.sweeps: known by its folder, done once, and no end of the others
    when it fails; and `reproduce=<result.json>` stands for the options of that run.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def program() -> None:
            user_wants_traces = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
            taken = _take_verbatim(sys.argv, verbatim)

            def run(config: DictConfig) -> float | None:
                def do() -> None:
                    options = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
                    assert isinstance(options, dict)
                    task({str(key): value for key, value in options.items()} | taken)

                try:
                    if jobs:
                        return _do_job(do, config, user_wants_traces)
                    do()
                except (UserError, OmegaConfBaseException) as error:
                    # In a sweep the other jobs go on: the exception is this job's result.
                    if user_wants_traces or HydraConfig.get().mode == RunMode.MULTIRUN:
                        raise
                    _exit_with(user_message(error))
                except Exception as error:
                    refused = find_os_error(error)
                    if (
                        user_wants_traces
                        or HydraConfig.get().mode == RunMode.MULTIRUN
                        or not refused
                    ):
                        raise
                    _exit_with(str(_refused(refused)))
                return None

            main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
            try:
                if jobs:
                    sys.argv[1:] = _with_options_of_result(sys.argv[1:])
                with _raising_errors(), _sweep() if jobs else contextlib.nullcontext():
                    main(functools.wraps(task)(run))()
            except (UserError, HydraException, OmegaConfBaseException) as error:
                if user_wants_traces:
                    raise
                _exit_with(_command_line_error(error, config_name))
            except Exception as error:
                refused = find_os_error(error)
                if user_wants_traces or refused is None:
                    raise
                _exit_with(str(_refused(refused)))
            except KeyboardInterrupt as interrupt:
                if not interrupt.args:  # else the run has said how to go on
                    print("stopped", file=sys.stderr)
                sys.exit(130)

        return program

    return decorate


@contextlib.contextmanager
def _raising_errors() -> Iterator[None]:
    """Let Hydra raise what is raised inside, which it would print."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _take_verbatim(argv: list[str], names: Sequence[str]) -> dict[str, str]:
    """Remove `name=value` arguments of those names from `argv` and return their values."""
    taken = {}
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if equals and name in names:
            taken[name] = value
            argv.remove(argument)
    return taken


def _with_options_of_result(arguments: list[str]) -> list[str]:
    if not any(argument.startswith("reproduce=") for argument in arguments):
        return arguments
    from rnn_lab.training.reproduce import expand

    return expand(arguments)


def _do_job(do: Callable[[], None], config: DictConfig, traces: bool) -> float:
    from rnn_lab.sweeps.job import run_job

    return run_job(do, config, traces=traces)


def _sweep() -> AbstractContextManager[None]:
    from rnn_lab.sweeps.sweep_summary import summarize_on_exit

    return summarize_on_exit()


def _refused(error: OSError) -> UserError:
    """What the system refused, in a line: a file, else anything in the folder of the run."""
    name = error.filename2 or error.filename
    if name is None:
        return write_error(error, _folders[-1] if _folders else Path.cwd())
    return write_error(error, Path(os.fsdecode(name)).absolute(), what="cannot be used")


def _command_line_error(error: Exception, config_name: str) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_choice_message(
            f"{group}={choice}: no such choice", choice, list(error.options)
        )
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    return _unknown_option(unknown[1], config_name) if unknown else user_message(error)


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
    return unknown_choice_message(f"{name}: no such option", name, [str(key) for key in siblings])


def _exit_with(lines: str) -> NoReturn:
    for line in lines.splitlines():
        print(f"error: {sanitize(line, longest=10_000)}", file=sys.stderr)
    sys.exit(1)
