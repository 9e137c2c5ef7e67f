"""Code beyond a plain installation: the user's plugins, and the extras of the package.

A plugin is a Python module that registers cells, poolings, losses, schedules, data sources or
tokenizers when it is imported. Only configuration files, the command line and installed packages
can name one. A checkpoint, an exported file or a run folder never can.
"""

import importlib
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnn_lab.errors import ConfigError, collapse_whitespace, sanitize
from rnn_lab.paths import project_root

GROUP = "rnn_lab.plugins"  # of entry points

# What each extra installs, by the names that are imported.
_EXTRAS = {
    "launchers": ("hydra_plugins.hydra_joblib_launcher", "hydra_plugins.hydra_submitit_launcher"),
    "search": ("optuna",),
    "files": ("pyarrow", "zstandard"),
    "tensorboard": ("tensorboard",),
    "vectors": ("gensim",),
    "onnx": ("onnx", "onnxruntime"),
    "dashboard": ("wandb_workspaces",),
    "ray": ("ray", "pandas", "pyarrow"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
}
_imported_entry_points = False


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules `names` and the entry points of the group `rnn_lab.plugins`.

    Modules are also looked up in the current folder. A module that is imported already is not
    imported again.

    Raises:
        ConfigError: `names` is not a list of module names, or a module cannot be imported.
    """
    global _imported_entry_points
    if not _imported_entry_points:
        for entry_point in entry_points(group=GROUP):
            package = entry_point.dist.name if entry_point.dist else entry_point.value
            _import(entry_point.load, f"plugin {entry_point.name} of the package {package}")
        _imported_entry_points = True
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or not all(_is_module_name(name) for name in names):
        given = f"[{','.join(map(str, names))}]" if is_list else names
        example = names if _is_module_name(names) else "my_module"
        raise ConfigError(f"plugins={given}: give a list of module names: plugins=[{example}]")
    if names and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: no file there takes the place of an installed module
        importlib.invalidate_caches()
    for name in names:
        _import(partial(_import_module, name), f"plugins={name}")


def load_named_plugins(arguments: Sequence[str]) -> None:
    """Import the modules of `plugins=...` on the command line: they register what others name."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from rnn_lab.overrides import TextOption, take_literally  # it imports Hydra

    options = {"plugins": TextOption(is_list=True)}
    for argument in take_literally(arguments, options, lambda: False):
        if argument.lstrip("+").startswith("plugins="):
            override = OverridesParser.create().parse_override(argument)
            if override.is_sweep_override():
                raise ConfigError(
                    f"{argument}: cannot be swept; give a list of module names: plugins=[my_module]"
                )
            names: Any = override.value()
            load_plugins([str(name) for name in (names if isinstance(names, list) else [names])])


def require_extra(extra: str, option: str, *, needs: str | None = None) -> None:
    """Make sure that the packages of an extra are installed.

    Args:
        extra: name in pyproject.toml's optional dependencies.
        option: what the user asked for, to begin the message.
        needs: the one importable name that is needed; None: all of the extra's.

    Raises:
        ConfigError: a package is missing; the message has the command that installs it.
    """
    for name in (needs,) if needs else _EXTRAS[extra]:
        try:
            is_installed = find_spec(name) is not None
        except (ImportError, ValueError):  # a parent package is missing
            is_installed = False
        if not is_installed:
            install = shlex.join(["pip", "install", *extra_requirements(extra)])
            raise ConfigError(
                f"{option}: needs the package {name.rpartition('.')[2]}, which is not installed; "
                f"{install}"
            )


def extra_requirements(extra: str) -> list[str]:
    """Return the packages of an extra with their versions, as pip takes them.

    They can be installed wherever this package came from.
    """
    if (root := project_root()) is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return list(project["optional-dependencies"][extra])
    split = (line.partition(";") for line in requires("rnn-lab") or ())
    return [package.strip() for package, _, marker in split if f"'{extra}'" in marker]


def _is_module_name(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the plugin is there, and what it imports is not
        if name.endswith(".py"):
            raise ConfigError(
                f"plugins={name}: give the name of the module: plugins=[{name.removesuffix('.py')}]"
            ) from None
        raise ConfigError(
            f"plugins={name}: no such module in {Path.cwd()} or among the installed packages"
        ) from None


def _import(load: Callable[[], Any], what: str) -> None:
    try:
        load()
    except ConfigError as error:
        raise error if str(error).startswith(what) else ConfigError(f"{what}: {error}") from error
    except Exception as error:  # a plugin can fail in any way
        reason = sanitize(collapse_whitespace(error)) or "no message"
        raise ConfigError(
            f"{what}: cannot be imported: {type(error).__name__}: {reason}"
        ) from error
