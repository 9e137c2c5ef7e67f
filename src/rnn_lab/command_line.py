"""The arguments of a Hydra command: its flags, and its options that hold text."""

import argparse
import contextlib
import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NoReturn

# Private: the one place that knows Hydra's own flags. tests/test_hydra_private.py fails when this
# changes.
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from rnn_lab import __version__
from rnn_lab.composition import (
    check_assignments,
    compose_choices,
    config_groups,
    default_groups,
    group_choices,
    listed_choices,
)
from rnn_lab.errors import ConfigError
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.overrides import TextOption, take_literally, text_options
from rnn_lab.paths import conf_dir, expand_home
from rnn_lab.plain_options import PLAIN, load_yaml
from rnn_lab.plugins import load_named_plugins
from rnn_lab.validation import unknown_choice_message

# The schema of each command's options, imported when an argument needs it.
_SCHEMAS = {
    "train": "rnn_lab.training.config.RunConfig",
    "eval": "rnn_lab.inference.config.EvaluateOptions",
    "predict": "rnn_lab.inference.config.PredictOptions",
    "explain": "rnn_lab.inference.config.ExplainOptions",
    "serve": "rnn_lab.serving.config.ServeOptions",
}
# Hydra's own options that hold text, without `hydra.`; those of hydra/sweeper=optuna have a schema.
_HYDRA_PATHS = ("run.dir", "sweep.dir", "sweep.subdir", "launcher.submitit_folder")
_HYDRA_NAMES = (
    *("job.name", "launcher.name", "launcher.partition", "launcher.account", "launcher.qos"),
    *("launcher.constraint", "launcher.exclude", "launcher.comment", "launcher.gres"),
)
_HYDRA_LISTS = ("searchpath", "launcher.setup", "launcher.srun_args")
# One for all jobs of a sweep. Hydra itself refuses to sweep its options.
_OF_THE_SWEEP = re.compile(r"sweep|report_dir|hydra\..*")
# Flags, and options with a value that is plain text anyway.
_NEEDS_NO_QUOTES = re.compile(rf"-[\w-]*|[+~]*[\w./@]+={PLAIN.pattern}", PLAIN.flags)


def check_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Return Hydra's own flags.

    Raises:
        ConfigError: one is unknown, or two contradict each other.
    """
    parser = _parser()
    flags, unknown = parser.parse_known_args(list(arguments))
    if unknown := [argument for argument in unknown if argument.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    modes = {
        "--run": flags.run,
        "--multirun (-m)": flags.multirun,
        "--cfg": flags.cfg is not None,
        "--info": flags.info is not None,
        "--shell-completion": flags.shell_completion,
    }
    given = [name for name, is_given in modes.items() if is_given]
    if len(given) > 1:
        prints_one = flags.multirun and flags.cfg
        advice = "; leave out -m to print the config of one run" if prints_one else ""
        raise ConfigError(f"{' and '.join(given)}: give only one of them{advice}")
    if flags.resolve and flags.cfg is None and not flags.help:
        raise ConfigError("--resolve: resolves what --cfg prints; give --cfg job --resolve")
    actions = ("install=", "uninstall=", "query=")
    if flags.shell_completion and not any(one.startswith(actions) for one in flags.overrides):
        raise ConfigError("--shell-completion: give install=bash, uninstall=bash or query=bash")
    if flags.experimental_rerun and not Path(flags.experimental_rerun).is_file():
        raise ConfigError(f"--experimental-rerun={flags.experimental_rerun}: there is no such file")
    return flags


def _check_groups_are_kept(
    removed: Sequence[str], config_name: str, folders: Sequence[Path]
) -> None:
    """Raise a ConfigError where a group that the config needs is left out: ~model."""
    groups = default_groups(config_name)
    for override in removed:
        name = override.partition("=")[0].removeprefix("~")
        if groups.get(name) is not None:
            choices = ", ".join(listed_choices(name, folders))
            raise ConfigError(f"~{name}: this group is needed. Choose from: {choices}")


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with flags before options, between which Hydra accepts no flag."""
    flags, after = _parser().parse_known_args(list(arguments))
    if any(argument.startswith("-") for argument in after):
        return list(arguments)  # an unknown flag
    options = [*flags.overrides, *after]
    return [*(argument for argument in arguments if argument not in options), *options]


def take_text_literally(arguments: Sequence[str], config_name: str) -> list[str]:
    """Return the arguments of a command with paths and names as Hydra reads them as that text.

    Raises:
        ConfigError: an argument is not name=value, or is not valid Unicode: no config or
            result.json could hold it.
    """
    of_paths = None if config_name == "train" else "run"
    overrides = check_flags(arguments).overrides
    check_assignments(overrides, of_paths=of_paths)
    if removed := [override for override in overrides if override.startswith("~")]:
        _check_groups_are_kept(removed, config_name, config_dirs(arguments))
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise ConfigError(f"{argument}: has bytes that are not UTF-8; rename the file")
    arguments = [_expand_config_dir(argument) for argument in arguments]
    if all(_NEEDS_NO_QUOTES.fullmatch(argument) for argument in arguments):
        return arguments
    folders = config_dirs(arguments)
    groups = config_groups(folders)
    group_options = _group_options(groups, config_name)

    @functools.cache
    def is_sweep() -> bool:
        if "-m" in arguments or "--multirun" in arguments:
            return True
        choices = take_literally(arguments, group_options, lambda: False)
        if not folders[1:] and not group_choices(choices, groups):
            return False  # the mode is that of the command's own config
        config = compose_choices(choices, config_name, groups, folders[1:])
        return config is not None and config.hydra.mode == RunMode.MULTIRUN

    options = _text_options(arguments, config_name) | group_options
    return take_literally(arguments, options, is_sweep)


def complete_literally(line: str, config_name: str) -> str:
    """Return the line that a shell completes with the options before the last as Hydra reads them.

    Hydra splits the line at spaces, whatever quotes it has. An option that is not whole, or cannot
    be read, is left out: it is not what is completed.
    """
    before, space, last = line.rpartition(" ")
    words = []
    for word in before.split():
        if "=" not in word:
            words += [] if set(word) & {"'", '"'} else [word]
            continue
        with contextlib.suppress(ConfigError, HydraException):
            (literal,) = take_text_literally([word], config_name)
            OverridesParser.create().parse_override(literal)
            words.append(literal)
    return " ".join(words) + space + last


def check_sweep_options(config: DictConfig) -> None:
    """Make sure that the launcher and the sweeper of a sweep have only options that they know.

    Hydra takes any that is added with `+`, and fails in words of its own or ignores it.

    Raises:
        ConfigError: an option is unknown; the message has the choices. Or one that all jobs share,
            such as the name of the sweep, has several values.
    """
    given = raw_overrides(config.hydra)
    for override in OverridesParser.create().parse_overrides(given):
        if override.is_sweep_override() and _OF_THE_SWEEP.fullmatch(override.key_or_group):
            raise ConfigError(f"{override.input_line}: a sweep has only one; give one value")
    for kind in ("launcher", "sweeper"):
        choice = config.hydra.runtime.choices.get(f"hydra/{kind}")
        known = _plugin_options(kind, str(choice))
        for name in map(str, config.hydra[kind]):
            if known is not None and name not in known and not name.startswith("_"):
                what = f"hydra.{kind}.{name}: hydra/{kind}={choice} has no such option"
                raise ConfigError(
                    unknown_choice_message(what, name, list(known)) if known else what
                )


def _plugin_options(kind: str, choice: str) -> set[str] | None:
    """Return the options of a built-in launcher or sweeper, None for one of the user."""
    file = conf_dir() / "hydra" / kind / f"{choice}.yaml"
    if file.is_file():
        known = {str(name) for name in load_yaml(file.read_text("utf-8"))}
        if choice.startswith("submitit_"):
            known |= _submitit_options(choice)
    elif choice == "basic":
        known = {"max_batch_size", "params"} if kind == "sweeper" else set()
    else:
        return None
    return {name for name in known if not name.startswith("_")}


def _submitit_options(launcher: str) -> set[str]:
    try:
        from submitit import AutoExecutor, SlurmExecutor
    except ImportError:  # the launcher names the extra to install
        return set()
    of_slurm = SlurmExecutor._valid_parameters() if launcher == "submitit_slurm" else set()
    return {*AutoExecutor._typed_parameters(), *of_slurm}


def _parser() -> argparse.ArgumentParser:
    parser = get_args_parser()
    vars(parser._option_string_actions["--version"])["version"] = f"rnn-lab {__version__}"

    def fail(message: str) -> NoReturn:  # Hydra would print its long usage
        raise ConfigError(f"{message}; options are given as name=value, without dashes")

    parser.error = fail  # type: ignore[method-assign]
    return parser


def config_dirs(arguments: Sequence[str]) -> list[Path]:
    """Return the built-in folder of configuration, and that of `--config-dir`, if any."""
    given = check_flags(arguments).config_dir
    own = Path(given).absolute() if given else None
    return [conf_dir(), *([own] if own is not None and own.is_dir() else [])]


def _group_options(groups: Collection[str], config_name: str) -> dict[str, TextOption]:
    """Return how the choices of groups are read; `null` is one where it is the default."""
    absent = {group for group, choice in default_groups(config_name).items() if choice is None}
    return {
        group: TextOption(is_list=True, is_group=True, may_be_absent=group in absent)
        for group in groups
    }


def _text_options(arguments: Sequence[str], config_name: str) -> dict[str, TextOption]:
    """Return the options of a command that hold text, Hydra's own among them."""
    options = {f"hydra.{name}": TextOption(expands=True) for name in _HYDRA_PATHS}
    options |= {f"hydra.{name}": TextOption() for name in _HYDRA_NAMES}
    options |= {f"hydra.{name}": TextOption(is_list=True) for name in _HYDRA_LISTS}
    if config_name == "train":
        from rnn_lab.sweeps.search.config import SearchOptions

        options |= text_options(SearchOptions, "hydra.sweeper.")
    if config_name in _SCHEMAS:
        load_named_plugins(arguments)
        module, _, schema = _SCHEMAS[config_name].rpartition(".")
        options |= text_options(getattr(import_module(module), schema))
    return {
        name: replace(option, is_swept=_OF_THE_SWEEP.fullmatch(name) is None)
        for name, option in options.items()
    }


def _expand_config_dir(argument: str) -> str:
    """Expand the `~` of `--config-dir=~/conf`, which shells leave alone."""
    flag, equals, folder = argument.partition("=")
    is_folder = equals and flag in ("--config-dir", "-cd")
    return f"{flag}={expand_home(folder)}" if is_folder else argument
