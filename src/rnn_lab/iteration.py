"""Iterate over many items: in batches, over evenly spaced ones, and freeing each after its use."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def batched(
    items: Iterable[T], size: int, weight: Callable[[T], int], most: int
) -> Iterator[list[T]]:
    """Yield lists of `size` items, or of fewer: up to the item with which they weigh `most`."""
    batch: list[T] = []
    weighs = 0
    for item in items:
        batch.append(item)
        weighs += weight(item)
        if len(batch) == size or weighs >= most:
            yield batch
            batch, weighs = [], 0
    if batch:
        yield batch


def pick_evenly(length: int, most: int) -> np.ndarray:
    """Return at most `most` of the rows 0 to length - 1, evenly spaced, with both ends: int64."""
    return np.linspace(0, length - 1, min(most, length)).round().astype(np.int64)


def chain_released(first: list[T], rest: Iterator[T]) -> Iterator[T]:
    """Yield both, without a reference to what was yielded; `first` is empty then."""
    first.reverse()
    while first:
        yield first.pop()
    yield from rest
