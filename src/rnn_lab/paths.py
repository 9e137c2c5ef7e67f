"""Where the package's own files are, and how its commands are typed: in a clone and installed."""

import os
import shlex
import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path | None:
    """Return the clone that this package is imported from; None for an installed wheel."""
    root = _PACKAGE.parents[1]
    return root if (root / "src" / "rnn_lab") == _PACKAGE and (root / "conf").is_dir() else None


def conf_dir() -> Path:
    """Return the folder of the built-in configuration."""
    root = project_root()
    return _PACKAGE / "conf" if root is None else root / "conf"


def shown_conf_dir() -> str:
    """Return how help pages call that folder: `conf` in a clone, else its path."""
    return "conf" if project_root() is not None else str(conf_dir())


def expand_home(path: str) -> str:
    """Return a path with `~` as the home folder; `~name` of nobody is a file of that name."""
    return os.path.expanduser(path)  # noqa: PTH111  Path.expanduser raises for such a name


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user names."""
    return Path(expand_home(os.fspath(path)))


def command(name: str) -> str:
    """Return how the user would type the command `name`: "python train.py" or "rnn-lab train"."""
    program = sys.argv[0]  # rnn_lab.commands.main sets it to "rnn-lab train"
    if Path(program).suffix == ".py":
        return f"python {name}.py"
    return f"{program.rpartition(' ')[0] or 'rnn-lab'} {name}"


def command_prefix(name: str) -> str:
    """Return the start of a shell command that runs the command `name` in this folder.

    It names the interpreter and the script as this process was started: a user may not have either
    on the path.
    """
    root, started = project_root(), Path(sys.argv[0])
    if root is not None and started.suffix == ".py" and (script := root / f"{name}.py").exists():
        typed = started.with_name(script.name)
        is_same = typed.exists() and typed.samefile(script)
        return f"{_python()} {shlex.quote(str(typed if is_same else script))}"
    return f"{_program('rnn-lab', 'rnn_lab')} {name}"


def wandb_prefix() -> str:
    """Return the start of a shell command that runs W&B's program."""
    return _program("wandb", "wandb")


def _program(name: str, module: str) -> str:
    """Return a program of this environment, as a module where the shell finds no or another one."""
    found = shutil.which(name)
    here = Path(sys.executable).parent
    return name if found and Path(found).parent == here else f"{_python()} -m {module}"


def _python() -> str:
    """Return this interpreter as the user typed it, as a word of a shell command."""
    typed = sys.orig_argv[0] if sys.orig_argv else sys.executable
    same = shutil.which(typed)
    is_python = same is not None and Path(same).resolve() == Path(sys.executable).resolve()
    return shlex.quote(typed if is_python else sys.executable)
