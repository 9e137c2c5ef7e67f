"""This process: its cores, its rank among those that train together, and its memory.

Nothing here imports torch or Lightning, which takes seconds.
"""

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Those of Lightning's rank_zero_only.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")


def num_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its CPU quota."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return int(max(1, min(cores, cpu_quota())))


def cpu_quota(
    memberships: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return how many cores' time Linux's control groups grant this process; inf: no limit.

    Containers (`docker run --cpus`, a Kubernetes limit) see all cores, but may not use them all.
    """
    quota = math.inf
    with contextlib.suppress(OSError):
        for line in memberships.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / controllers
            own = top / path.lstrip("/")
            # A container may not see the folder that is named here, only the top.
            for folder in [own, *own.parents]:
                if folder.is_relative_to(top):
                    quota = min(quota, _quota_in(folder))
    return quota


def _quota_in(folder: Path) -> float:
    """Return the quota of one control group, of version 2 or 1."""
    with contextlib.suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text().split()
        return math.inf if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError):
        limit, period = (
            (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        return math.inf if int(limit) < 0 else int(limit) / int(period)
    return math.inf


def is_fast_at_bf16(cpu: Mapping[str, Any]) -> bool:
    """Return whether `cpu`, as torch.cpu.get_capabilities describes it, gains from bfloat16.

    A CPU with AMX does. Of those with AVX512-BF16 alone only AMD's do: Intel's have half as many
    units for bfloat16 as for float32, and measure slower.
    """
    has_fast_units = cpu.get("avx512_bf16") and "Intel" not in cpu["cpu_name"]
    return bool(cpu.get("amx_tile") or has_fast_units)


def limit_threads() -> None:
    """Let torch compute with no more threads than `num_threads`: it does not know of quotas."""
    import torch

    if (threads := num_threads()) < torch.get_num_threads():
        torch.set_num_threads(threads)


def num_threads() -> int:
    """Return how many threads to compute with: OMP_NUM_THREADS, as torch does, or all cores."""
    cores = num_cores()
    with contextlib.suppress(ValueError):
        return max(1, min(cores, int(os.environ.get("OMP_NUM_THREADS", cores))))
    return cores


def is_rank_zero() -> bool:
    """Return whether this is the first, or the only, process of a run."""
    ranks = (os.environ.get(name) for name in _RANK_VARIABLES)
    return next((int(rank) for rank in ranks if rank is not None), 0) == 0


def is_worker() -> bool:
    """Return whether training.distributed, torchrun or srun started this process beside others."""
    return "LOCAL_RANK" in os.environ or started_by_srun()


def started_by_srun() -> bool:
    """Return whether srun started several tasks, of which this is one."""
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


@contextlib.contextmanager
def tuned_torch() -> Iterator[None]:
    """Tune a torch that is first imported within, where the environment does not choose otherwise.

    Threads sleep while they wait. By default they spin, and take the cores from other programs, or
    from one another where other programs run. This project's own steps wait so seldom that
    sleeping costs them little.

    Large tensors have pages of 2 MiB. By default Linux gives their memory in pages of 4 KiB, each
    at its first use: a seventh of the time of a prediction (benchmarks/README.md).
    """
    chosen = {"THP_MEM_ALLOC_ENABLE": "1"}
    if "GOMP_SPINCOUNT" not in os.environ:
        chosen["OMP_WAIT_POLICY"] = "PASSIVE"
    added = chosen.keys() - os.environ.keys()
    os.environ.update({name: chosen[name] for name in added})
    tune_malloc()
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def tune_malloc() -> None:
    """Let glibc reuse blocks of up to 32 MiB instead of returning each to the system.

    Every step allocates blocks of the same sizes. glibc returns a freed one at once, and the next
    step has it zeroed page by page again: a fifth of the time of an LSTM step on a CPU.
    """
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3  # mallopt(3), malloc.h
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(mmap_threshold, 2**25)
            libc.mallopt(trim_threshold, 2**31 - 1)


def flush_denormals() -> None:
    """Let the CPU treat numbers below 1e-38 (1e-308 in float64) as zero.

    Vanishing gradients become such numbers, and most CPUs are a hundred times slower at them. The
    setting belongs to a thread and the threads that it starts: call this before torch starts any.
    """
    import torch

    torch.set_flush_denormal(True)


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    # getrusage starts from what the parent had when it started this process, in a sweep for one.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def die_with_parent() -> None:
    """Let the system kill this process when its parent dies, on Linux."""
    if sys.platform == "linux":
        set_parent_death_signal, kill = 1, 9  # prctl(2), signal(7)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(set_parent_death_signal, kill)
