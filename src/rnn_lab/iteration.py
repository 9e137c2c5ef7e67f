"""Iterate over items that are large or without end: in batches, and freeing each after its use."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

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


def chain_released(first: list[T], rest: Iterator[T]) -> Iterator[T]:
    """Yield both, without a reference to what was yielded; `first` is empty then."""
    first.reverse()
    while first:
        yield first.pop()
    yield from rest
