"""How the process treats the memory that a step frees, and numbers close to zero."""

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


def flush_denormals() -> None:
    """Let the processor take numbers below 1e-38 (1e-308 in float64) for zero.

    Gradients that vanish through the steps become such numbers before they become zero, and most
    processors are a hundred times slower at them: training in float32 takes several times as long
    without this. The setting is one of each thread, which hands it on to the threads that it
    starts: call this before torch has any.
    """
    import torch

    torch.set_flush_denormal(True)
