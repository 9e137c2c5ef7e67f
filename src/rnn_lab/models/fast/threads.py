"""Compiled code on torch's own threads: each takes a part of the batch."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch

from rnn_lab.models.fast.blas import function_in_torch

_FEWEST = 8  # sequences of a part: with less, the threads cost more than they bring


def parallel_over_batch(batch: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of the sequences 0 to batch, at once; it frees the GIL.

    The threads are those of torch's OpenMP, which wait for work between two of its operations. Any
    others would have to wait until those sleep. Matrix products within them take one thread each.
    Where torch has no GNU OpenMP, it is one call for all.
    """
    parts = min(torch.get_num_threads(), batch // _FEWEST)
    threads = _openmp() if parts > 1 else None
    if threads is None:
        work(0, batch)
        return
    parallel, thread_number, thread_count = threads
    raised: list[BaseException] = []

    @_Region
    def share(_: Any) -> None:
        part, of = thread_number(), thread_count()
        try:
            work(part * batch // of, (part + 1) * batch // of)
        except BaseException as error:
            raised.append(error)

    parallel(share, None, parts, 0)
    if raised:
        raise raised[0]


_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> tuple[Callable[..., Any], ...] | None:
    """GNU OpenMP's parallel region, and within it a thread's number and how many there are."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    parallel, *others = (function_in_torch(name) for name in names)
    if parallel is None:
        return None
    parallel.argtypes = [_Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    return parallel, *others
