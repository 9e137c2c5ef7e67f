"""The arguments of a Hydra command: its flags, its options that hold text, and unknown options."""

import argparse
import contextlib
import functools
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml

# Private: the one place that knows Hydra's own flags. tests/test_hydra_private.py fails when this
# changes.
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.overrides import TextOption, quote_value, take_literally, text_options
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
    if flags.experimental_rerun and not Path(flags.experimental_rerun).is_file():
        raise ConfigError(f"--experimental-rerun={flags.experimental_rerun}: there is no such file")
    return flags


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
        ConfigError: an argument is not valid Unicode: no config or result.json could hold it.
    """
    for argument in arguments:
        if not argument.partition("=")[0].strip("+~ "):
            raise ConfigError(f"'{argument}': has no name; options are given as name=value")
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise ConfigError(f"{argument}: has bytes that are not UTF-8; rename the file")
    arguments = [_expand_config_dir(argument) for argument in arguments]
    if all(_NEEDS_NO_QUOTES.fullmatch(argument) for argument in arguments):
        return arguments
    folders = _config_dirs(arguments)
    groups = _config_groups(folders)
    group_options = _group_options(groups, config_name)

    @functools.cache
    def is_sweep() -> bool:
        if "-m" in arguments or "--multirun" in arguments:
            return True
        choices = take_literally(arguments, group_options, lambda: False)
        if not folders[1:] and not _choices(choices, groups):
            return False  # the mode is that of the command's own config
        config = _compose_choices(choices, config_name, groups, folders[1:])
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


def unknown_option(name: str, config_name: str) -> str:
    """Return a message about an option, or group, that the config on the command line lacks."""
    arguments = sys.argv[1:]
    folders = _config_dirs(arguments)
    groups = _config_groups(folders)
    name, _, package = name.partition("@")
    if package and name in groups:
        return f"{name}@{package}: there is no such package in the config"
    config: Any = _compose_choices(arguments, config_name, groups, folders[1:])
    elsewhere = _options_elsewhere(name, folders, config)
    *_, last = parts = name.replace("/", ".").split(".")
    for depth, part in enumerate(parts):
        if not isinstance(config, DictConfig):
            break
        names = {str(key) for key in config if not str(key).startswith("_")}
        if depth == 0:
            names = (names | {group for group in groups if "/" not in group}) - {"hydra"}
        if part not in config:
            if elsewhere and (part == last or (depth == 0 and part in groups)):
                return f"{name}: {elsewhere}"
            what = f"{name}: no such option"
            if name.startswith("hydra.launcher.") and not names:
                what += " of hydra/launcher=basic; choose another hydra/launcher"
            elif not names:  # of metrics, or of callbacks=none
                what += f"; +{name} adds it"
            return unknown_choice_message(what, part, list(names)) if names else what
        config = OmegaConf.select(config, part)
    return f"{name}: no such option"


def _options_elsewhere(name: str, folders: Sequence[Path], config: DictConfig | None) -> str | None:
    """Return where an option is that a group lacks: in other choices of it, or in another group."""
    group, _, option = name.rpartition(".")
    if group.startswith("hydra"):
        return None
    if found := choices_with(group, option, folders):
        return f"only {', '.join(found)} has this option"
    groups: Any = {} if config is None else OmegaConf.to_container(config, resolve=False)
    others = [
        f"{other}.{option}"
        for other, options in groups.items()
        if other not in ("hydra", group) and isinstance(options, dict) and option in options
    ]
    return f"no such option; there is {', '.join(others)}" if others else None


def choices_with(group: str, option: str, folders: Sequence[Path]) -> list[str]:
    """Return the choices of a group whose file has an option: ["data=demo", "data=long_range"]."""
    files = {path for folder in folders for path in (folder / group).glob("*.yaml") if group}
    return sorted(f"{group}={path.stem}" for path in files if option in _options_in(path))


def _options_in(path: Path) -> set[str]:
    """Return the options in a file of conf, and in the choices of its group that it builds on."""
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # named where the file is chosen
        return set()
    if not isinstance(content, dict):
        return set()
    bases = [base for base in content.pop("defaults", ()) if isinstance(base, str)]
    files = [path.with_name(f"{base}.yaml") for base in bases if base != "_self_"]
    return set(content).union(*(_options_in(file) for file in files if file.is_file()))


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

    def fail(message: str) -> NoReturn:  # Hydra would print its long usage
        raise ConfigError(f"{message}; options are given as name=value, without dashes")

    parser.error = fail  # type: ignore[method-assign]
    return parser


def _config_dirs(arguments: Sequence[str]) -> list[Path]:
    """Return the built-in folder of configuration, and that of `--config-dir`, if any."""
    given = check_flags(arguments).config_dir
    own = Path(given).absolute() if given else None
    return [conf_dir(), *([own] if own is not None and own.is_dir() else [])]


def _config_groups(folders: Sequence[Path]) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_dir()
    }


def _group_options(groups: Collection[str], config_name: str) -> dict[str, TextOption]:
    """Return how the choices of groups are read; `null` is one where it is the default."""
    config = load_yaml((conf_dir() / f"{config_name}.yaml").read_text("utf-8"))
    defaults = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    absent = {group for entry in defaults for group, choice in entry.items() if choice is None}
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


def _compose_choices(
    arguments: Sequence[str], config_name: str, groups: Collection[str], user_dirs: Sequence[Path]
) -> DictConfig | None:
    """Compose the config with the group choices among the arguments, which decide its options.

    A choice may itself be what is wrong: then the config is composed without any.
    """
    path = [f"hydra.searchpath=[{quote_value(f'file://{user_dir}')}]" for user_dir in user_dirs]
    for overrides in ([*path, *_choices(arguments, groups)], []):
        GlobalHydra.instance().clear()
        with (
            contextlib.suppress(HydraException, OmegaConfBaseException, yaml.YAMLError),
            hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"),
        ):
            return hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
    return None


def _choices(arguments: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return the arguments that choose a config of a group, or Hydra's mode."""
    return [
        argument
        for argument in arguments
        if argument.partition("=")[0].lstrip("+") in {*groups, "hydra.mode"} and "," not in argument
    ]
