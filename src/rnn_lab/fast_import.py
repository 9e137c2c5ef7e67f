"""Importing torch and Lightning in two thirds of the time.

They make two thirds of a million objects that live as long as the process. Python's garbage
collector goes through all of them again and again while they come in, and once more at the end.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Hold the garbage collector back inside."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def fast_imports() -> Iterator[None]:
    """Import inside without garbage collections, and spare all there is in those of later.

    For the start of a program: what lives by then, a model among it, is not collected any more.
    """
    modules = len(sys.modules)
    with gc_disabled():
        yield
        if len(sys.modules) > modules:  # else nothing came in, and garbage would be spared
            gc.freeze()
