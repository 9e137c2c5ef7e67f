"""Import torch and Lightning in two thirds of the time, without garbage collections.

The imports create about 670,000 objects that live as long as the process. Python's garbage
collector scans them again and again during the imports, and once more at exit.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator


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
    modules = len(sys.modules)
    with gc_disabled():
        yield
        if (
            len(sys.modules) > modules
        ):  # else nothing was imported, and only garbage would be frozen
            gc.freeze()
