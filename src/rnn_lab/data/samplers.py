"""Which texts form a batch: texts of similar length, with little padding."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
from torch.utils.data import Sampler, SequentialSampler

from rnn_lab.errors import DataError

# How many batches of shuffled examples form a pool that is sorted by length. Large pools have
# little padding; with too large pools the same texts share a batch in every epoch.
_LARGEST_POOL, _FEWEST_POOLS = 50, 8


class Replica(NamedTuple):
    """One of the processes that divide each batch among them."""

    rank: int = 0
    world_size: int = 1


_ALONE = Replica()


class BalancedDraw:
    """Draws of as many rows as there are, each class equally often (to one row).

    The rows of a class, sorted by length, are divided into as many equal intervals as rows are
    drawn of the class. Each interval gives one row by chance, in every draw: rows of a rare class
    repeat, some of a frequent class are left out, and all rows of a class are equally likely. Row
    `i` of a draw is never longer than `lengths[i]`: batches can be planned before the rows are
    drawn.
    """

    def __init__(self, lengths: np.ndarray, labels: np.ndarray) -> None:
        """Draw from the rows with these `lengths` and `labels`, integers [rows]."""
        self._ordered = np.lexsort((lengths, labels))  # a class after the other, each by length
        sizes = np.unique(labels, return_counts=True)[1]  # of the classes that have rows
        draws = np.full(len(sizes), len(labels) // len(sizes))  # of each class
        draws[: len(labels) % len(sizes)] += 1
        # In units of 1 / draws of a row, which are whole numbers.
        self._width, self._units = np.repeat(sizes, draws), np.repeat(draws, draws)
        self._first = np.repeat(np.cumsum(sizes) - sizes, draws)
        interval = np.concatenate([np.arange(count) for count in draws])
        self._begin = interval * self._width
        self.lengths = lengths[self._rows_at(self._begin + self._width - 1)]

    def rows(self, rng: np.random.Generator) -> np.ndarray:
        """Return one draw, int64 [rows]."""
        return self._rows_at(rng.integers(self._begin, self._begin + self._width))

    def _rows_at(self, places: np.ndarray) -> np.ndarray:
        return self._ordered[self._first + places // self._units]


class SamplerOptions(TypedDict, total=False):
    """The arguments that every DistributedBatchSampler has."""

    labels: np.ndarray | None
    seed: int
    replica: Replica


class DistributedBatchSampler(Sampler[np.ndarray], ABC):
    """Batches of rows, each divided among the replicas by stride, in an order set by the epoch."""

    def __init__(
        self,
        lengths: np.ndarray,
        *,
        labels: np.ndarray | None = None,
        seed: int = 0,
        replica: Replica = _ALONE,
    ) -> None:
        """Sample the rows 0 .. len(lengths) - 1; with their `labels`, by a BalancedDraw.

        Raises:
            DataError: there are fewer rows than replicas.
        """
        if len(lengths) < replica.world_size:
            raise DataError(f"too few texts for {replica.world_size} devices: {len(lengths)}")
        self._draw = None if labels is None else BalancedDraw(lengths, labels)
        self._lengths = lengths if self._draw is None else self._draw.lengths
        self._replica = replica
        self._seed, self._epoch = seed, 0
        self._start = (0, 0)
        self._excluded: frozenset[tuple[int, int]] = frozenset()
        self._repeats = False

    def repeat_first_epoch(self) -> None:
        """Let every epoch have the batches of the first one, in its order."""
        self._repeats = True

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next."""
        return 0 if self._repeats else self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Select the order of `epoch`; Lightning calls this before every epoch."""
        self._epoch = epoch

    def resume_at(self, epoch: int, batch: int) -> None:
        """Start in `epoch` with its batch number `batch`, after the batches of an earlier run."""
        self._epoch, self._start = epoch, (epoch, batch)

    def exclude_batches(self, batches: frozenset[tuple[int, int]]) -> None:
        """Skip these batches, each given as an epoch and the number of a batch in it.

        The next batch is used twice instead, so that epochs and schedules keep their lengths.
        """
        self._excluded = batches

    def __iter__(self) -> Iterator[np.ndarray]:
        return (batch for _, batch in self.numbered())

    def numbered(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number in the epoch of each batch, and its rows of this replica."""
        rng = np.random.Generator(np.random.PCG64([self._seed, self.epoch]))
        drawn = None if self._draw is None else self._draw.rows(rng)
        epoch, first = self._start
        batches = self._batches(rng)
        numbers: Iterable[int] = range(len(batches))
        if excluded := {number for epoch, number in self._excluded if epoch == self._epoch}:
            numbers = _replace_excluded(len(batches), excluded)
        for number in islice(numbers, first if self._epoch == epoch else 0, None):
            share = batches[number][self._replica.rank :: self._replica.world_size]
            yield number, share if drawn is None else drawn[share]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches of an epoch, the same for all epochs."""

    @abstractmethod
    def _batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return the batches of all replicas together, in the order of an epoch."""


class PairedBatchSampler(Sampler[tuple[np.ndarray, np.ndarray]]):
    """The batches of a sampler of labelled texts, each with a batch of unlabelled ones.

    An epoch is one of the labelled texts. The unlabelled batches are those of epoch after epoch of
    their own sampler, as long as the training lasts: batch b of epoch e, of n, has number e n + b
    of them. So they need no state to be resumed, and a batch that is excluded is with its
    unlabelled texts.
    """

    def __init__(
        self, labelled: DistributedBatchSampler, unlabelled: DistributedBatchSampler
    ) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled
        self._epoch_batches: tuple[int, list[np.ndarray]] = -1, []  # of the unlabelled texts

    def __len__(self) -> int:
        return len(self._labelled)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        before = self._labelled.epoch * len(self._labelled)
        for number, rows in self._labelled.numbered():
            yield rows, self._unlabelled_batch(before + number)

    def set_epoch(self, epoch: int) -> None:
        """Select the order of `epoch`; Lightning calls this before every epoch."""
        self._labelled.set_epoch(epoch)

    def repeat_first_epoch(self) -> None:
        """Let every epoch have the batches of the first one, in its order."""
        self._labelled.repeat_first_epoch()

    def _unlabelled_batch(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, len(self._unlabelled))
        if epoch != self._epoch_batches[0]:
            self._unlabelled.set_epoch(epoch)
            self._epoch_batches = epoch, list(self._unlabelled)
        return self._epoch_batches[1][place]


class RepeatedBatches(SequentialSampler):
    """The batches of a sampler's first epoch in every epoch, for trainer.overfit_batches.

    Lightning then replaces a sampler of any other class by one of single examples.
    """

    def __init__(self, sampler: DistributedBatchSampler | PairedBatchSampler) -> None:
        sampler.repeat_first_epoch()
        super().__init__(sampler)
        self._sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which a resumed run starts within."""
        self._sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)


def _replace_excluded(count: int, excluded: Collection[int]) -> Iterable[int]:
    """Yield the numbers of `count` batches with a replacement for each excluded one.

    Raises:
        DataError: all batches are excluded.
    """
    if all(number in excluded for number in range(count)):
        raise DataError(f"all {count} batches of an epoch are excluded")
    for number in range(count):
        yield replacement_batch(number, excluded, count)


def replacement_batch(number: int, excluded: Collection[int], count: int) -> int:
    """Return which of the `count` batches of an epoch is used as batch `number`.

    That is the next one which is not excluded; the first batch follows the last.
    """
    while number in excluded:
        number = (number + 1) % count
    return number


def batches_in_pool(batches: int) -> int:
    """Return how many of the batches of an epoch form a pool that is sorted by length."""
    return min(_LARGEST_POOL, max(1, batches // _FEWEST_POOLS))


class BucketBatchSampler(DistributedBatchSampler):
    """Batches of rows of similar length. Every row occurs once per epoch, unless `labels` balance.

    With `shuffle`, each epoch permutes the rows, sorts them by length within pools of up to 50
    batches, cuts the pools into batches and shuffles the batches. The order is a function of
    (`seed`, epoch) alone. Without `shuffle`, the longest rows come first.

    With several replicas, each global batch of `batch_size * replicas` rows is divided by
    stride: no row is repeated or lost, and every rank has the same number of batches, none empty.
    Fewer remaining rows than replicas join the batch before, so that the share of a rank
    grows by one.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool,
        **options: Unpack[SamplerOptions],
    ) -> None:
        """Sample `batch_size` rows for each replica, see DistributedBatchSampler."""
        super().__init__(lengths, **options)
        self._global_batch_size = batch_size * self._replica.world_size
        self._shuffle = shuffle

    def __len__(self) -> int:
        return len(self._bounds()) - 1

    def _batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        order = self._bucketed(rng) if self._shuffle else np.argsort(-self._lengths, kind="stable")
        batches = np.split(order, self._bounds()[1:-1])
        return [batches[i] for i in rng.permutation(len(batches))] if self._shuffle else batches

    def _bucketed(self, rng: np.random.Generator) -> np.ndarray:
        rows = rng.permutation(len(self._lengths))
        rows_in_pool = batches_in_pool(len(self)) * self._global_batch_size
        pool = np.arange(len(rows)) // rows_in_pool  # [rows]
        return rows[np.lexsort((self._lengths[rows], pool))]

    def _bounds(self) -> np.ndarray:
        """Return where global batches begin and end, int64 [batches + 1]."""
        size = len(self._lengths)
        bounds = np.arange(0, size, self._global_batch_size)
        if len(bounds) > 1 and size - bounds[-1] < self._replica.world_size:
            bounds = bounds[:-1]
        return np.append(bounds, size)


class TokenBatchSampler(DistributedBatchSampler):
    """Batches of rows of similar length of at most `max_tokens_per_batch` tokens, padding included.

    Every row occurs once per epoch, unless `labels` balance. All rows are sorted by length. Each
    group of neighbours gives one row to each pool, by chance, in every epoch; pools are cut into
    batches, and the batches are shuffled. The cuts follow from the longest row of each group, so
    that every epoch has the same number of batches, of the same sizes. The order is a function of
    (`seed`, epoch) alone.

    With several replicas, `max_tokens_per_batch` applies to each of them: batches hold
    as many times the tokens and are divided by stride, as in BucketBatchSampler.
    """

    def __init__(
        self, lengths: np.ndarray, max_tokens_per_batch: int, **options: Unpack[SamplerOptions]
    ) -> None:
        """Sample up to so many tokens for each replica, see DistributedBatchSampler."""
        super().__init__(lengths, **options)
        lengths = self._lengths
        self._max_tokens = max_tokens_per_batch
        batches = max(1, int(lengths.sum()) // (max_tokens_per_batch * self._replica.world_size))
        pools = batches // batches_in_pool(batches)
        self._pools = max(1, min(pools, len(lengths) // self._replica.world_size))
        ordered = np.sort(lengths)
        self._cuts = [
            self._cut(ordered[self._longest_neighbours(pool)]) for pool in range(self._pools)
        ]

    def __len__(self) -> int:
        return sum(len(cuts) + 1 for cuts in self._cuts)

    def _batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        rows = rng.permutation(len(self._lengths))
        rows = rows[np.argsort(self._lengths[rows], kind="stable")]  # random among equals
        neighbours = np.arange(len(rows)) // self._pools
        rows = rows[np.lexsort((rng.random(len(rows)), neighbours))]
        batches = [
            batch
            for pool, cuts in enumerate(self._cuts)
            for batch in np.split(rows[pool :: self._pools], cuts)
        ]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _longest_neighbours(self, pool: int) -> np.ndarray:
        """Return the sorted position of the longest candidate for each row of a pool."""
        neighbours_begin = np.arange(0, len(self._lengths) - pool, self._pools)
        return np.minimum(neighbours_begin + self._pools, len(self._lengths)) - 1

    def _cut(self, lengths: np.ndarray) -> list[int]:
        """Return where the batches of a pool begin, except the first; `lengths` [rows] ascend.

        The longest rows are cut first, because the longest row decides how many fit. Every replica
        needs a row of every batch, so that the shortest rows may join the batch before.
        """
        cuts: list[int] = []
        begin = len(lengths)
        while True:
            fits = self._max_tokens // int(lengths[begin - 1])  # rows of one replica
            begin -= max(fits, 1) * self._replica.world_size
            if begin < self._replica.world_size:
                return cuts[::-1]
            cuts.append(begin)
