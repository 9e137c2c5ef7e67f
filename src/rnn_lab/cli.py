"""Run a task as a Hydra command: compose a config, call one function, print errors as one line.

An error that the user can fix is one line on stderr and exit status 1. Any other error is a fault
of the program and keeps its stack trace. HYDRA_FULL_ERROR=1 shows the trace of every error.
"""

import contextlib
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.reader import ReaderError

from rnn_lab.command_line import (
    check_flags,
    check_sweep_options,
    complete_literally,
    config_dirs,
    flags_first,
    take_text_literally,
)
from rnn_lab.composition import composition_error, resolution_error
from rnn_lab.errors import (
    UserError,
    exit_with,
    exiting_in_callback,
    exiting_on_errors,
    print_error,
    user_message,
)
from rnn_lab.io.atomic import os_error_line
from rnn_lab.io.streams import fault_tolerant_streams
from rnn_lab.overrides import set_folder
from rnn_lab.paths import conf_dir, expand_home
from rnn_lab.plugins import load_plugins
from rnn_lab.process import tuned_torch
from rnn_lab.training.resolvers import register_resolvers

Task = Callable[[dict[str, Any]], None]

register_resolvers()  # worker processes import this file before they resolve anything
_output_dirs: list[Path] = []  # that Hydra creates


class RecordOutputDir(Callback):
    """Hydra callback that remembers the output folder, to name it where it cannot be written.

    It expands a `~` there first.
    """

    def on_run_start(self, config: DictConfig, option: str = "hydra.run.dir", **_: Any) -> None:
        """Record the folder of the run."""
        try:
            folder = str(OmegaConf.select(config, option))
        except OmegaConfBaseException as error:
            exit_with(user_message(error))
        if folder != (expanded := expand_home(folder)):  # of a YAML file
            set_folder(config, option, expanded)
        _output_dirs.append(Path(expanded).absolute())

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Record the folder of the sweep."""
        self.on_run_start(config, "hydra.sweep.dir")
        with exiting_in_callback():
            check_sweep_options(config)


@dataclass(frozen=True)
class HydraCommand:
    """A command that calls `task` with conf/`config_name`.yaml, composed and resolved.

    Args:
        task: what the command does.
        config_name: the primary config.
        raw_args: options whose values are taken from the command line literally. A text contains
            commas, quotes and `${...}`, which Hydra's grammar would interpret.
        sweepable: whether each call of `task` is a job of rnn_lab.training.job. A job has a
            folder of its own, is not repeated once it is finished, and does not end the others when
            it fails. `reproduce=<result.json>` then stands for the options of that run.
        prints_result: whether standard output is what the command is for, so that it fails where
            that cannot be written. Otherwise it continues: its results are in files.
        reports_failures: whether a callback of the config lists the failed jobs of a sweep at its
            end, so that Hydra need not raise the first one's error.
    """

    task: Task
    config_name: str
    raw_args: Sequence[str] = ()
    sweepable: bool = False
    prints_result: bool = False
    reports_failures: bool = False

    def main(self) -> None:
        """Run the job of sys.argv, or those of its sweep."""
        show_traces = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"

        def line_of(error: Exception) -> str | None:
            return None if show_traces else _line_of(error, self.config_name)

        with self._streams(), tuned_torch(), exiting_on_errors(line_of):
            raw_values = _take_raw_args(sys.argv, self.raw_args)
            run_job = functools.partial(self._run_job, raw_values, show_traces)
            decorate = hydra.main(
                version_base="1.3", config_path=str(conf_dir()), config_name=self.config_name
            )
            self._prepare_arguments()
            with self._summary_on_exit(), _raising_errors():
                decorate(functools.wraps(self.task)(run_job))()

    def _prepare_arguments(self) -> None:
        """Rewrite those of sys.argv that Hydra would read otherwise, or not at all."""
        sys.argv[1:] = flags_first(sys.argv[1:])
        if check_flags(sys.argv[1:]).shell_completion and "COMP_LINE" in os.environ:
            os.environ["COMP_LINE"] = complete_literally(os.environ["COMP_LINE"], self.config_name)
        sys.argv[1:] = take_text_literally(sys.argv[1:], self.config_name)
        if self.sweepable and any(argument.startswith("reproduce=") for argument in sys.argv[1:]):
            from rnn_lab.training.reproduce import expand

            sys.argv[1:] = expand(sys.argv[1:])

    def _run_job(
        self, raw_values: dict[str, str], show_traces: bool, config: DictConfig
    ) -> float | None:
        """Run the task with a composed config; return the result of a job of a sweep."""

        def call_task() -> None:
            options: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            self.task({str(key): value for key, value in options.items()} | raw_values)

        with self._streams():  # a job of a sweep may have a process of its own
            try:
                names = OmegaConf.select(config, "plugins")
                load_plugins(list(names) if isinstance(names, ListConfig) else names or [])
                if self.sweepable:
                    from rnn_lab.training.job import run_job

                    return run_job(call_task, config, traces=show_traces)
                call_task()
            except Exception as error:
                # In a sweep the other jobs continue: the exception is this job's result.
                line = _line_of(error)
                is_multirun = HydraConfig.get().mode == RunMode.MULTIRUN
                if show_traces or line is None or (is_multirun and not self.reports_failures):
                    raise
                if is_multirun:
                    print_error(line)
                    return math.nan
                exit_with(line)
        return None

    def _streams(self) -> AbstractContextManager[None]:
        return fault_tolerant_streams(prints_result=self.prints_result)

    def _summary_on_exit(self) -> AbstractContextManager[None]:
        if not self.sweepable:
            return contextlib.nullcontext()
        from rnn_lab.sweeps.sweep_summary import summarize_on_exit

        return summarize_on_exit()


@contextlib.contextmanager
def _raising_errors() -> Iterator[None]:
    """Have Hydra raise the errors within the context, which it would print."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _take_raw_args(argv: list[str], names: Sequence[str]) -> dict[str, str]:
    """Remove the `name=value` arguments of those names from `argv` and return their values."""
    taken = {}
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if equals and name in names:
            taken[name] = value
            argv.remove(argument)
    return taken


def _line_of(error: Exception, config_name: str | None = None) -> str | None:
    """Return what to print for an error that the user can fix; None for a fault of the program.

    With `config_name` it may be an error of composing that config.
    """
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: not valid YAML: {error.problem}"
    if isinstance(error, ReaderError):
        return f"{error.name}: not valid YAML: it has the character #x{error.character:02x}"
    if isinstance(error, UnicodeDecodeError) and config_name and (file := _find_no_text()):
        return f"{file}: not valid YAML: it is not UTF-8"
    if isinstance(error, HydraException | OmegaConfBaseException) and config_name:
        arguments = sys.argv[1:]
        return composition_error(error, config_name, arguments, config_dirs(arguments))
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return resolution_error(error)
    return os_error_line(error, _output_dirs[-1] if _output_dirs else Path.cwd())


def _find_no_text() -> Path | None:
    """Return the first YAML file of the user that is not UTF-8; its error does not name it."""
    for folder in config_dirs(sys.argv[1:]):
        for path in sorted(folder.rglob("*.yaml")):
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return path
    return None
