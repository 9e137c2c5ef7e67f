"""Compiled code on as many threads as torch has: each takes a part of the batch."""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from src.models.blas import one_thread_a_product

_FEWEST = 8  # sequences of a part: with less, the threads cost more than they bring


def in_parts(batch: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of the sequences 0 to batch, at once; it frees the GIL."""
    parts = min(torch.get_num_threads(), batch // _FEWEST)
    if parts < 2:
        work(0, batch)
        return
    bounds = [part * batch // parts for part in range(parts + 1)]
    pool = _pool(parts - 1)
    others = [pool.submit(_work, work, *part) for part in itertools.pairwise(bounds[1:])]
    try:
        _work(work, *bounds[:2])
    finally:
        wait(others)
    for other in others:
        other.result()


def _work(work: Callable[[int, int], None], first: int, last: int) -> None:
    with one_thread_a_product():
        work(first, last)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="recurrence")
