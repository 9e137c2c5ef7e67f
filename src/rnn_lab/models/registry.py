"""Names that a user's module can add to: cells, poolings and learning-rate schedules.

This module and `config.py` import no torch: a command checks its options before torch is loaded.
"""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar

from rnn_lab.errors import ConfigError
from rnn_lab.validation import unknown_choice_message

Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry:
    """Entries by name: classes or functions, of this package and of a user's modules."""

    def __init__(self, kind: str, modules: tuple[str, ...], builtin: tuple[str, ...]) -> None:
        """Create a registry of `kind`.

        `modules`, imported when first needed, register the entries of this package. `check`
        accepts the names in `builtin` without importing them.
        """
        self.kind, self._modules, self._builtin = kind, modules, builtin
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that adds a class or function under `name`.

        Raises:
            ConfigError: the name is not a word, or belongs to another entry.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(f"{name!r}: the name of a {self.kind} is one word")

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ConfigError(f"{self.kind} {name}: already registered by {_origin(known)}")
            self._entries[name] = entry
            return entry

        return add

    def check(self, name: str) -> str:
        """Return `name`, or raise a ValueError that suggests one if no entry has it."""
        if name not in self._builtin and name not in self:
            raise ValueError(
                unknown_choice_message(f"no such {self.kind}", name, list(self))
                + f" (a {self.kind} of your own: plugins=[<its module>])"
            )
        return name

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            self.check(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in list(self)

    def __iter__(self) -> Iterator[str]:
        for module in self._modules:
            import_module(module)
        return iter(sorted(self._entries))


def _origin(entry: Any) -> str:
    return f"{entry.__module__}.{entry.__qualname__}"


CELLS = Registry("cell", ("rnn_lab.models.cells", "rnn_lab.models.zoo"), ("rnn", "lstm", "gru"))
POOLINGS = Registry(
    "pooling",
    ("rnn_lab.models.pooling",),
    ("last", "mean", "max", "max_mean", "last_max_mean", "attention"),
)
# Of this package's poolings without weights: what they join, in this order.
POOLED_PARTS: dict[str, tuple[str, ...]] = {
    "last": ("last",),
    "mean": ("mean",),
    "max": ("max",),
    "max_mean": ("max", "mean"),
    "last_max_mean": ("last", "max", "mean"),
}
SCHEDULES = Registry("schedule", ("rnn_lab.models.schedules",), ("one_cycle", "cosine", "constant"))
