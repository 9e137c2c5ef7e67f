"""Import torch and Lightning in two thirds of the time, without garbage collections.

The imports create about 670,000 objects that live as long as the process. Python's garbage
collector scans them again and again during the imports, and once more at exit.
"""

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable the garbage collector within the context."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def fast_imports() -> Iterator[None]:
    """Import within the context without garbage collections, and freeze all objects at the end.

    For the start of a program only: frozen objects, a model among them, are never collected.
    """
    with gc_disabled(), _scipy_signal_postponed():
        modules = len(sys.modules)
        yield
        if len(sys.modules) > modules:  # else only garbage would be frozen
            gc.freeze()


class _Postponed(ModuleType):
    """Stand for scipy.signal until one of its names is used."""

    hamming = None  # torchmetrics looks whether it is there

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # asked of every module by inspect
            raise AttributeError(name)
        if sys.modules.get("scipy.signal") is self:
            del sys.modules["scipy.signal"]
        return getattr(importlib.import_module("scipy.signal"), name)


@contextlib.contextmanager
def _scipy_signal_postponed() -> Iterator[None]:
    """Spare a sixth of the time: torchmetrics imports scipy.signal to patch a name in it."""
    if "torchmetrics" in sys.modules or "scipy.signal" in sys.modules:
        yield
        return
    postponed = sys.modules["scipy.signal"] = _Postponed("scipy.signal")
    try:
        yield
    finally:
        if sys.modules.get("scipy.signal") is postponed:
            del sys.modules["scipy.signal"]
