"""Entries by name, of this package and of a user's modules: cells, poolings, tokenizers, ...

Importing this module does not import torch: a command checks its options before torch is loaded.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar

from rnn_lab.errors import ConfigError
from rnn_lab.validation import unknown_choice_message

Entry = TypeVar("Entry")

# Those of the cells and data sources that are registered: "model.forget_bias". No file of conf has
# a plugin's, unless the user writes one.
REGISTERED_OPTIONS: set[str] = set()


class Registry(Generic[Entry]):
    """Entries of one kind by name."""

    def __init__(
        self, kind: str, modules: tuple[str, ...] = (), builtin: tuple[str, ...] = ()
    ) -> None:
        """Create a registry of `kind`.

        `modules`, imported when first needed, register the entries of this package. `check`
        accepts the names in `builtin` without importing them.
        """
        self.kind, self._modules, self._builtin = kind, modules, builtin
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}  # the class or function that defines each entry

    def check_name(self, name: object) -> None:
        """Make sure that `register_...` is called with a name, and does not decorate by itself.

        Raises:
            ConfigError: the name is not a word.
        """
        if callable(name):
            decorator = f"@register_{self.kind.rpartition(' ')[2]}"  # of "data source": source
            raise ConfigError(f'{decorator}: needs a name: {decorator}("name")')
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
            raise ConfigError(f"{name!r}: the name of a {self.kind} is one word")

    def add(self, name: str, entry: Entry, definition: Callable[..., Any]) -> None:
        """Add `entry`, which the class or function `definition` defines, under `name`.

        Raises:
            ConfigError: the name is not a word, or belongs to another definition.
        """
        self.check_name(name)
        if not definition.__module__.startswith("rnn_lab."):
            list(self)  # the entries of this package come first: their names are taken
        origin = f"{definition.__module__}.{definition.__qualname__}"
        if name in self._entries and self._origins[name] != origin:
            raise ConfigError(
                f"{self.kind} {name} is registered twice, by {self._origins[name]} and {origin}; "
                "rename one"
            )
        self._entries[name], self._origins[name] = entry, origin

    def check_call(
        self, name: str, function: Callable[..., Any], *parameters: str, has_options: bool = False
    ) -> None:
        """Make sure that `function`, to be registered as `name`, can be called as it will be.

        It is called with values for the `parameters` by position, and, if it `has_options`, with
        others by name.

        Raises:
            ConfigError: it takes fewer, or needs more.
        """
        with contextlib.suppress(ValueError):  # a function of C may have no signature
            signature = inspect.signature(function)
            try:
                (signature.bind_partial if has_options else signature.bind)(*parameters)
            except TypeError as error:
                raise ConfigError(
                    f"{self.kind} {name}: {function.__name__}{signature} is called with "
                    f"({', '.join(parameters)}): {error}"
                ) from None

    def check(self, name: str) -> str:
        """Return `name`, or raise a ValueError that suggests one if no entry has it."""
        if name not in self._builtin and name not in self:
            raise ValueError(
                unknown_choice_message(f"no such {self.kind}", str(name), list(self))
                + f" (a {self.kind} of your own: plugins=[<its module>])"
            )
        return name

    def __getitem__(self, name: str) -> Entry:
        if name not in self:
            self.check(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._entries or name in list(self))

    def __iter__(self) -> Iterator[str]:
        for module in self._modules:
            import_module(module)
        return iter(sorted(self._entries))
