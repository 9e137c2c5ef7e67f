"""Batches of equally many tokens: short reviews many at once, long ones few."""

from collections.abc import Iterable

import numpy as np

from rnn_lab.data.samplers import DistributedBatchSampler, batches_in_pool


class TokenBatchSampler(DistributedBatchSampler):
    """Batches of rows of similar length of at most `max_tokens_per_batch` tokens, padding included.

    Every row comes once an epoch. All rows are sorted by length, and out of each few neighbours
    one goes to each pool, by chance, anew each epoch; pools are cut into batches, and the batches
    shuffled. The cuts follow from the longest of each few neighbours, so that every epoch has
    equally many batches, of the same sizes. The order is a function of (`seed`, epoch) alone.

    With several replicas `max_tokens_per_batch` counts for one of them: batches hold `num_replicas`
    times as many tokens and are dealt out by stride, as BucketBatchSampler's are.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        max_tokens_per_batch: int,
        *,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        """Sample the rows 0 .. len(lengths) - 1.

        Raises:
            DataError: there are fewer rows than replicas.
        """
        super().__init__(lengths, seed=seed, rank=rank, num_replicas=num_replicas)
        self._batch_tokens = max_tokens_per_batch
        batches = max(1, int(lengths.sum()) // (max_tokens_per_batch * num_replicas))
        pools = batches // batches_in_pool(batches)
        self._pools = max(1, min(pools, len(lengths) // num_replicas))
        ordered = np.sort(lengths)
        self._cuts = [
            self._cut(ordered[self._longest_neighbours(pool)]) for pool in range(self._pools)
        ]

    def __len__(self) -> int:
        return sum(len(cuts) + 1 for cuts in self._cuts)

    def _batches(self, rng: np.random.Generator) -> Iterable[np.ndarray]:
        rows = rng.permutation(len(self._lengths))
        rows = rows[np.argsort(self._lengths[rows], kind="stable")]  # equals in random order
        neighbours = np.arange(len(rows)) // self._pools
        rows = rows[np.lexsort((rng.random(len(rows)), neighbours))]
        batches = [
            batch
            for pool, cuts in enumerate(self._cuts)
            for batch in np.split(rows[pool :: self._pools], cuts)
        ]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _longest_neighbours(self, pool: int) -> np.ndarray:
        """For each row of a pool, where the longest that may stand there is among all sorted."""
        neighbours_begin = np.arange(0, len(self._lengths) - pool, self._pools)
        return np.minimum(neighbours_begin + self._pools, len(self._lengths)) - 1

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
