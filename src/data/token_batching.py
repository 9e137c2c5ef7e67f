"""Batches of equally many tokens: short reviews many at once, long ones few."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from src.errors import DataError

_BATCHES_IN_POOL, _FEWEST_POOLS = 50, 8  # as in batching.py: little padding, yet mixed batches


class TokenBatchSampler(Sampler[np.ndarray]):
    """Batches of rows of like length whose places, time x reviews, are at most `batch_tokens`.

    Every row comes once an epoch. All rows are sorted by length, and out of each few neighbours
    one goes to each pool, by chance, anew each epoch; pools are cut into batches, and the batches
    shuffled. The cuts follow from the longest of each few neighbours, so that every epoch has
    equally many batches, of the same sizes. The order is a function of (`seed`, epoch) alone.

    Under several replicas `batch_tokens` is the share of one: batches hold `num_replicas` times
    that and are dealt out by stride, as BucketBatchSampler's are.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_tokens: int,
        *,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        """Sample the rows 0 .. len(lengths) - 1.

        Raises:
            DataError: there are fewer rows than replicas.
        """
        if len(lengths) < num_replicas:
            raise DataError(f"{len(lengths)} reviews cannot feed {num_replicas} devices")
        self._lengths, self._batch_tokens = lengths, batch_tokens
        self._seed, self._epoch = seed, 0
        self._rank, self._num_replicas = rank, num_replicas
        batches = max(1, int(lengths.sum()) // (batch_tokens * num_replicas))
        in_pool = min(_BATCHES_IN_POOL, max(1, batches // _FEWEST_POOLS))
        self._pools = max(1, min(batches // in_pool, len(lengths) // num_replicas))
        ordered = np.sort(lengths)
        self._cuts = [
            self._cut(ordered[self._longest_neighbours(pool)]) for pool in range(self._pools)
        ]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls this before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(len(cuts) + 1 for cuts in self._cuts)

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        rows = rng.permutation(len(self._lengths))
        rows = rows[np.argsort(self._lengths[rows], kind="stable")]  # equals in random order
        neighbours = np.arange(len(rows)) // self._pools
        rows = rows[np.lexsort((rng.random(len(rows)), neighbours))]
        batches = [
            batch
            for pool, cuts in enumerate(self._cuts)
            for batch in np.split(rows[pool :: self._pools], cuts)
        ]
        for turn in rng.permutation(len(batches)):
            yield batches[turn][self._rank :: self._num_replicas]

    def _longest_neighbours(self, pool: int) -> np.ndarray:
        """For each row of a pool, where the longest that may stand there is among all sorted."""
        last = np.arange(pool, len(self._lengths), self._pools) - pool + self._pools - 1
        return np.minimum(last, len(self._lengths) - 1)

    def _cut(self, lengths: np.ndarray) -> list[int]:
        """Where the batches of a pool begin, but for the first; `lengths` [rows] go up.

        The longest come first: how many fit is then known. Every replica has a row of every batch,
        so that the last few, the shortest, may join the batch before.
        """
        cuts: list[int] = []
        begin = len(lengths)
        while True:
            fits = self._batch_tokens // int(lengths[begin - 1])  # reviews of one replica
            begin -= max(fits, 1) * self._num_replicas
            if begin < self._num_replicas:
                return cuts[::-1]
            cuts.append(begin)
