"""Compose a config as a command does, and say which option or choice an error is about."""

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from rnn_lab.errors import ConfigError
from rnn_lab.overrides import composition_message, quote_value
from rnn_lab.paths import conf_dir, local_path
from rnn_lab.plain_options import load_yaml
from rnn_lab.plugins import load_named_plugins, load_plugins
from rnn_lab.registry import REGISTERED_OPTIONS
from rnn_lab.reserved_options import reserved_option_error
from rnn_lab.validation import closest_choice, unknown_choice_message

_SWEEP = "several values are a sweep, which needs -m"
# Choices of other parts: rnn_lab.train uses the first one, experiment=smoke the second one.
_UNLISTED = {"data": {"lists", "demo_small"}}
# Groups that take options which no file of conf has: losses, and arguments of what `name` names.
_WITH_OWN_OPTIONS = ("loss", "optimizer", "scheduler")


def composition_error(
    error: Exception, config_name: str, arguments: Sequence[str], folders: Sequence[Path]
) -> str:
    """Return the text to print for an error of composing conf/`config_name`.yaml.

    Args:
        error: of Hydra or OmegaConf.
        config_name: the primary config.
        arguments: those of the command.
        folders: of configuration, the built-in one first.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        if "," in choice:
            return f"{group}={choice}: {_SWEEP}"
        what = f"{group}={choice}: no such choice"
        listed = set(error.options) - _UNLISTED.get(group, set())
        return unknown_choice_message(what, choice, sorted(listed))
    several = re.match(r"(Ambiguous value for argument|Sweep parameters) '(.+)'", str(error))
    if several:
        name = several[2].partition("=")[0]
        if not _has_option(name, config_name, arguments, folders):
            return unknown_option(name, config_name, arguments, folders)
        in_brackets = "; a list is given in brackets" if several[1].startswith("Ambig") else ""
        return f"{several[2]}: {_SWEEP}{in_brackets}"
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, HydraException) and unknown:
        key = str(getattr(error.__cause__, "full_key", ""))  # `{direction: ...}` is within it
        is_within = key.startswith(f"{unknown[1]}.")
        name = key if is_within else unknown[1]
        return unknown_option(name, config_name, arguments, folders)
    return resolution_error(error)


def resolution_error(error: Exception) -> str:
    """Return the text to print for an error of resolving a config, or of the user."""
    missing = re.search(r"Interpolation key '([\w.]+)' not found", str(error))
    if isinstance(error, InterpolationKeyError) and missing:
        group, _, option = missing[1].rpartition(".")
        if found := choices_with(group, option, [conf_dir()]):
            needs = f"{error.full_key} needs {missing[1]}"
            return f"{needs}: only {', '.join(found)} has this option"
    return composition_message(error)


def check_assignments(arguments: Sequence[str], *, of_paths: str | None = None) -> None:
    """Make sure that each argument is name=value, or ~name.

    `of_paths` is the option that the message names for the path of an existing file or folder.

    Raises:
        ConfigError: one is not.
    """
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not name.strip("+~ "):
            raise ConfigError(f"'{argument}': has no name; options are given as name=value")
        if not equals and not name.startswith("~"):
            is_path = of_paths is not None and local_path(argument).exists()
            example = f": {of_paths}={argument}" if is_path else ""
            raise ConfigError(f"{argument}: options are given as name=value{example}")


def _has_option(
    name: str, config_name: str, arguments: Sequence[str], folders: Sequence[Path]
) -> bool:
    """Return whether the config of the arguments has an option; True where that is not known."""
    groups = config_groups(folders)
    config = compose_choices(arguments, config_name, groups, folders[1:])
    if name in groups or config is None or not re.fullmatch(r"[\w.]+", name):
        return True
    options: Any = OmegaConf.to_container(config, resolve=False)
    for part in name.split("."):
        if not isinstance(options, dict) or part not in options:
            return False
        options = options[part]
    return True


def unknown_option(
    name: str, config_name: str, arguments: Sequence[str], folders: Sequence[Path]
) -> str:
    """Return a message about an option, or group, that the config of the arguments lacks."""
    groups = config_groups(folders)
    name, _, package = name.partition("@")
    if package and name in groups:
        return f"{name}@{package}: there is no such package in the config"
    if config_name == "train" and (error := reserved_option_error(name)):
        return error
    config: Any = compose_choices(arguments, config_name, groups, folders[1:])
    try:
        load_plugins((config and config.get("plugins")) or [])  # of a file, as an experiment's
        load_named_plugins(arguments)
    except ConfigError as plugin_error:
        return str(plugin_error)
    own_groups = {group for group in default_groups(config_name) if "/" not in group}
    elsewhere = _options_elsewhere(name, own_groups, folders, config, arguments)
    *_, last = parts = name.replace("/", ".").split(".")
    for depth, part in enumerate(parts):
        if not isinstance(config, DictConfig):
            break
        names = {str(key) for key in config if not str(key).startswith("_")}
        if depth == 0:
            names = (names | own_groups) - {"hydra"}
        if part not in config:
            if elsewhere and (part == last or (depth == 0 and part in own_groups)):
                return f"{name}: {elsewhere}"
            what = f"{name}: no such option"
            if name.startswith("hydra.launcher.") and not names:
                what += " of hydra/launcher=basic; choose another hydra/launcher"
            elif not names:  # of metrics, or of callbacks=none
                what += f"; +{name} adds it"
            if not names:
                return what
            is_close = closest_choice(part, names) is not None
            alike = [] if name != part or is_close else _with_word(part, config)
            if alike:
                return f"{what}; there is {', '.join(alike)}"
            if parts[0] in _WITH_OWN_OPTIONS and depth == 1 and not is_close:
                what += f"; +{name} adds another"
            return unknown_choice_message(what, part, list(names))
        config = OmegaConf.select(config, part)
    return f"{name}: no such option"


def _options_elsewhere(
    name: str,
    groups: Collection[str],
    folders: Sequence[Path],
    config: DictConfig | None,
    arguments: Sequence[str],
) -> str | None:
    """Return where an option is that a group lacks.

    It is in other choices of the group, in the class of a cell or data source, or in another group.
    """
    group, _, option = name.rpartition(".")
    if group.startswith("hydra"):
        return None
    if group in groups and (found := choices_with(group, option, folders)):
        return f"only {', '.join(found)} has this option"
    if group in groups and name in REGISTERED_OPTIONS:
        given = (argument for argument in arguments if argument.partition("=")[0] == name)
        return f"no YAML file has this option; write +{next(given, name)}"
    others = [other for other in _options_of_groups(config) if other.rpartition(".")[2] == option]
    return f"no such option; there is {', '.join(others)}" if others else None


def _with_word(option: str, config: DictConfig | None) -> list[str]:
    """Return up to three options of groups with that word in their name: max_epochs for epochs."""
    found = [name for name in _options_of_groups(config) if option in re.split(r"[._]", name)[1:]]
    return sorted(found, key=lambda name: (len(name.rpartition(".")[2]), name))[:3]


def _options_of_groups(config: DictConfig | None) -> list[str]:
    groups: Any = {} if config is None else OmegaConf.to_container(config, resolve=False)
    return [
        f"{group}.{option}"
        for group, options in groups.items()
        if group != "hydra" and isinstance(options, dict)
        for option in options
    ]


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


def config_groups(folders: Sequence[Path]) -> set[str]:
    """Return the groups in folders of configuration."""
    return {
        path.relative_to(folder).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_dir()
    }


def default_groups(config_name: str) -> dict[str, str | None]:
    """Return the groups of a built-in config, each with its default choice."""
    config = load_yaml((conf_dir() / f"{config_name}.yaml").read_text("utf-8"))
    defaults = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    return {
        group: choice
        for entry in defaults
        for group, choice in entry.items()
        if not group.startswith("override ")
    }


def choices_help(config_name: str, folders: Sequence[Path]) -> str:
    """Return a line for each group of a built-in config, with its choices in the folders."""
    lines = []
    for group in sorted(group for group in default_groups(config_name) if "/" not in group):
        lines.append(f"{group}: {', '.join(listed_choices(group, folders))}\n")
    return "".join(lines)


def listed_choices(group: str, folders: Sequence[Path]) -> list[str]:
    """Return the choices of a group in the folders, without those that help pages leave out."""
    found = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    return sorted(found - _UNLISTED.get(group, set()))


@contextlib.contextmanager
def separate_hydra() -> Iterator[None]:
    """Compose within a program that uses Hydra itself: hide its global state, then restore it."""
    program, version = GlobalHydra.instance(), VersionBase.instance()
    composer, base = program.hydra, version.version_base
    program.clear()
    try:
        yield
    finally:
        program.hydra, version.version_base = composer, base
        GlobalHydra.set_instance(program)  # in place of the copy that Hydra restores


def compose_choices(
    arguments: Sequence[str], config_name: str, groups: Collection[str], user_dirs: Sequence[Path]
) -> DictConfig | None:
    """Compose the config with the group choices among the arguments, which decide its options.

    A choice may itself be what is wrong: then the config is composed without any.
    """
    path = [f"hydra.searchpath=[{quote_value(f'file://{user_dir}')}]" for user_dir in user_dirs]
    for overrides in ([*path, *group_choices(arguments, groups)], []):
        GlobalHydra.instance().clear()
        with (
            contextlib.suppress(HydraException, OmegaConfBaseException, yaml.YAMLError),
            hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"),
        ):
            return hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
    return None


def group_choices(arguments: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return the arguments that choose a config of a group, or Hydra's mode."""
    return [
        argument
        for argument in arguments
        if argument.partition("=")[0].lstrip("+") in {*groups, "hydra.mode"} and "," not in argument
    ]
