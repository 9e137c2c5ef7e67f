"""Names that a user's module can add to: cells, poolings and learning-rate schedules.

This module and `rnn_lab.models.config` import no torch, so that a command can check its options
before torch is loaded. The built-in names are therefore listed here, beside the modules that
register them.
"""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar

from rnn_lab.errors import ConfigError
from rnn_lab.validation import unknown_choice_message

Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry(Generic[Entry]):
    """Entries by name. Modules that register built-in entries are imported when first needed."""

    def __init__(self, kind: str, modules: tuple[str, ...], builtin: tuple[str, ...] = ()) -> None:
        """Create an empty registry.

        Args:
            kind: what an entry is, for error messages.
            modules: modules that register the entries of this package.
            builtin: names that `check` accepts without importing those modules.
        """
        self.kind = kind
        self._modules = modules
        self._builtin = builtin
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> None:
        """Add `entry` under `name`.

        Raises:
            ConfigError: the name is not a word, or belongs to another entry.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(f"{name!r}: the name of a {self.kind} is one word")
        known = self._entries.get(name)
        if known is not None and _origin(known) != _origin(entry):
            raise ConfigError(f"{self.kind} {name}: already registered by {_origin(known)}")
        self._entries[name] = entry

    def check(self, name: str) -> str:
        """Return `name`.

        Raises:
            ValueError: no entry has this name; suggests one.
        """
        if name not in self._builtin and name not in self:
            raise ValueError(
                unknown_choice_message(f"no such {self.kind}", name, list(self))
                + f" (a {self.kind} of your own: plugins=[<its module>])"
            )
        return name

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises:
            ValueError: no entry has this name.
        """
        if name not in self._entries:
            self._load()
            if name not in self._entries:
                self.check(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, in alphabetical order."""
        self._load()
        return iter(sorted(self._entries))

    def _load(self) -> None:
        for module in self._modules:
            import_module(module)


CELLS: Registry[Any] = Registry(
    "cell", ("rnn_lab.models.cells", "rnn_lab.models.zoo"), builtin=("rnn", "lstm", "gru")
)
POOLINGS: Registry[Any] = Registry(
    "pooling", ("rnn_lab.models.pooling",), builtin=("last", "mean", "max")
)
SCHEDULES: Registry[Callable[..., float]] = Registry(
    "schedule", ("rnn_lab.models.schedules",), builtin=("one_cycle", "cosine", "constant")
)


def _origin(entry: Any) -> str:
    return f"{entry.__module__}.{entry.__qualname__}"
