"""Settings of the process that trains: memory, denormal numbers, its end."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path


def tune_malloc() -> None:
    """Let the C library reuse blocks of up to 32 MiB instead of returning each to the system.

    Every step allocates blocks of the same sizes. glibc returns a freed one at once, and the next
    step has it zeroed page by page again: a fifth of the time of an LSTM step on a CPU. Without
    glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3  # mallopt(3), malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**31 - 1)


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    # getrusage starts from what the parent had when it started this process, in a sweep for one.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def flush_denormals() -> None:
    """Let the CPU treat numbers below 1e-38 (1e-308 in float64) as zero.

    Gradients that vanish over the steps become such numbers before they become zero, and most CPUs
    are a hundred times slower at them: training in float32 takes several times as long without
    this. The setting belongs to a thread and to the threads that it starts: call this before torch
    has started any.
    """
    import torch

    torch.set_flush_denormal(True)


def skip_final_gc() -> None:
    """Let this process, which is about to end, skip its last garbage collection.

    It would go through all objects of torch for more than a second, of the few that a stopped run
    may have.
    """
    gc.freeze()


def die_with_parent() -> None:
    """Let the system kill this process when its parent dies, on Linux."""
    if sys.platform != "linux":
        return
    set_parent_death_signal, kill = 1, 9  # prctl(2), signal(7)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, kill)
