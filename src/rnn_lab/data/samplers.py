"""Encoded reviews -> batches of one length, padded as little as can be."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.vocabulary import PAD_ID
from rnn_lab.errors import DataError

# How many batches' worth of shuffled reviews are sorted by length together: many, and there is
# little padding; too many, and the same reviews share a batch in every epoch.
_LARGEST_POOL, _FEWEST_POOLS = 50, 8


class Batch(NamedTuple):
    """Reviews side by side. Every field is int64."""

    tokens: Tensor  # [batch, time], padded on the right with <pad>
    lengths: Tensor  # [batch], each at least 1
    labels: Tensor  # [batch]
    indices: Tensor  # [batch], the position of each review in its split


class BatchDataset(Dataset[Batch]):
    """A split whose item is a whole batch: `dataset[rows]`, straight from the memory map."""

    def __init__(self, split: EncodedSplit, *, max_length: int, truncation_side: str) -> None:
        """Cut every review to `max_length`: its beginning goes on "left", its end on "right"."""
        self.lengths = np.minimum(split.lengths, max_length)
        surplus = split.lengths - self.lengths
        self._starts = split.starts + surplus if truncation_side == "left" else split.starts
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, rows: Sequence[int] | np.ndarray | int) -> Batch:
        rows = np.atleast_1d(rows)  # [batch]
        lengths = self.lengths[rows]  # [batch]
        steps = np.arange(lengths.max())  # [time]
        is_token = steps < lengths[:, None]  # [batch, time]
        positions = (self._starts[rows, None] + steps)[is_token]  # [tokens of the batch]
        tokens = np.full(is_token.shape, PAD_ID, dtype=np.int64)  # [batch, time]
        tokens[is_token] = self._split.ids[positions]
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(lengths),
            torch.from_numpy(self._split.labels[rows].astype(np.int64)),
            torch.from_numpy(rows.astype(np.int64)),
        )


class DistributedBatchSampler(Sampler[np.ndarray], ABC):
    """Batches of rows, each dealt out among replicas by stride; the epoch decides their order."""

    def __init__(self, lengths: np.ndarray, *, seed: int, rank: int, num_replicas: int) -> None:
        """Sample the rows 0 .. len(lengths) - 1.

        Raises:
            DataError: there are fewer rows than replicas.
        """
        if len(lengths) < num_replicas:
            raise DataError(f"{len(lengths)} reviews cannot feed {num_replicas} devices")
        self._lengths = lengths
        self._rank, self._num_replicas = rank, num_replicas
        self._seed, self._epoch = seed, 0
        self._had = (0, 0)
        self._left_out: frozenset[tuple[int, int]] = frozenset()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls this before each."""
        self._epoch = epoch

    def resume_at(self, epoch: int, batch: int) -> None:
        """Begin with `epoch` and its batch number `batch`: a training has had those before."""
        self._epoch, self._had = epoch, (epoch, batch)

    def exclude_batches(self, batches: frozenset[tuple[int, int]]) -> None:
        """Have no part in training for these, each an epoch and the number of a batch in it.

        In place of one comes the next that is not left out, which is seen twice then: epochs and
        schedules keep their lengths.
        """
        self._left_out = batches

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        epoch, had = self._had
        batches = self._batches(rng)
        if left_out := {number for epoch, number in self._left_out if epoch == self._epoch}:
            batches = _without(list(batches), left_out)
        for batch in islice(batches, had if self._epoch == epoch else 0, None):
            yield batch[self._rank :: self._num_replicas]

    @abstractmethod
    def _batches(self, rng: np.random.Generator) -> Iterable[np.ndarray]:
        """The batches of all replicas together, in the order of an epoch."""


def _without(batches: list[np.ndarray], left_out: Collection[int]) -> Iterable[np.ndarray]:
    """`batches` with the next other one in the place of each of `left_out`; after the last, the
    first.

    Raises:
        DataError: no batch is left.
    """
    count = len(batches)
    if all(number in left_out for number in range(count)):
        raise DataError(f"all {count} batches of an epoch are left out")
    for number in range(count):
        yield batches[replacement_batch(number, left_out, count)]


def replacement_batch(number: int, left_out: Collection[int], count: int) -> int:
    """Which of an epoch's `count` batches comes as batch `number`, where some are left out."""
    while number in left_out:
        number = (number + 1) % count
    return number


def batches_in_pool(batches: int) -> int:
    """How many of an epoch's batches have their rows sorted by length together."""
    return min(_LARGEST_POOL, max(1, batches // _FEWEST_POOLS))


class BucketBatchSampler(DistributedBatchSampler):
    """Batches of rows of like length: every row once an epoch, the last small batch too.

    With `shuffle`, the rows are permuted anew each epoch, sorted by length within pools of up to
    50 batches, cut into batches, and the batches shuffled; the order is a function of
    (`seed`, epoch) alone. Without, the longest come first.

    Under several replicas each global batch of `batch_size * num_replicas` rows is dealt out by
    stride: no row is repeated or lost, and every rank has equally many batches, none empty. Fewer
    than `num_replicas` rows left over join the batch before (a rank's share grows by one).
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        """Sample the rows 0 .. len(lengths) - 1.

        Raises:
            DataError: there are fewer rows than replicas.
        """
        super().__init__(lengths, seed=seed, rank=rank, num_replicas=num_replicas)
        self._global_batch_size = batch_size * num_replicas
        self._shuffle = shuffle

    def __len__(self) -> int:
        return len(self._bounds()) - 1

    def _batches(self, rng: np.random.Generator) -> Iterable[np.ndarray]:
        order = self._bucketed(rng) if self._shuffle else np.argsort(-self._lengths, kind="stable")
        batches = np.split(order, self._bounds()[1:-1])
        return [batches[i] for i in rng.permutation(len(batches))] if self._shuffle else batches

    def _bucketed(self, rng: np.random.Generator) -> np.ndarray:
        rows = rng.permutation(len(self._lengths))
        rows_in_pool = batches_in_pool(len(self)) * self._global_batch_size
        pool = np.arange(len(rows)) // rows_in_pool  # [rows]
        return rows[np.lexsort((self._lengths[rows], pool))]

    def _bounds(self) -> np.ndarray:
        """Where global batches begin and end, [batches + 1]."""
        size = len(self._lengths)
        bounds = np.arange(0, size, self._global_batch_size)
        if len(bounds) > 1 and size - bounds[-1] < self._num_replicas:
            bounds = bounds[:-1]
        return np.append(bounds, size)
