"""Importing torch and Lightning in two thirds of the time.

They make a million objects that live as long as the process. Python's garbage collector goes
through all of them again and again while they come in, from time to time later, and at the end.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import inside without garbage collections, and spare what came in those of later.

    What is imported is then as it would be at any time; the collector goes on as it was.
    """
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:  # else nothing came in, and garbage would be spared
            gc.freeze()
        if enabled:
            gc.enable()
