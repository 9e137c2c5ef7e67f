"""How the process treats the memory that a training step frees."""

import contextlib
import ctypes
import sys


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of returning each to the system.

    Every step allocates the same large blocks. glibc unmaps a freed one at once, so that the next
    step has it zeroed page by page again: a quarter of the time of an LSTM step on a CPU. They are
    kept in one arena, since what forward frees backward allocates, from a thread of its own: call
    this before a library starts a thread, which would get another arena. Elsewhere than on glibc
    it does nothing.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # mallopt(3), malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(arena_max, 1)
