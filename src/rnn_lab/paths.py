"""Where the package's own files are, and how its commands are typed: in a clone and installed."""

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


def command(name: str) -> str:
    """Return how the user would type the command `name`: "python train.py" or "rnn-lab train"."""
    program = sys.argv[0]  # rnn_lab.commands.main sets it to "rnn-lab train"
    if Path(program).suffix == ".py":
        return f"python {name}.py"
    return f"{program.rpartition(' ')[0] or 'rnn-lab'} {name}"
