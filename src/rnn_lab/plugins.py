"""Plugins."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_lab.errors import ConfigError

_loaded: set[str] = set()


def load_plugins(names: Sequence[str]) -> None:
    """Import the user's modules."""
    for name in names:
        if name in _loaded:
            continue
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"plugins={name}: cannot be imported: {error}") from error
        _loaded.add(name)
