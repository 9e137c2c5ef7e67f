import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.samplers import Batch, BatchDataset, BucketBatchSampler
from rnn_lab.errors import DataError

some_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=200).map(np.array)


def make_encoded(lengths: np.ndarray, seed: int = 0) -> EncodedSplit:
    """Reviews of these lengths, stored in another order than their own, and labels."""
    rng = np.random.default_rng(seed)
    starts = np.empty(len(lengths), dtype=np.int64)
    order = rng.permutation(len(lengths))
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    ids = rng.integers(1, 60_000, lengths.sum()).astype(np.uint16)
    return EncodedSplit(ids, starts, lengths, rng.integers(0, 3, len(lengths)))


def batches_of(sampler: BucketBatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


@given(some_lengths, st.integers(1, 40), st.sampled_from(["left", "right"]), st.data())
def test_a_batch_is_its_reviews_side_by_side(lengths, max_length, side, data) -> None:
    split = make_encoded(lengths)
    dataset = BatchDataset(split, max_length=max_length, truncation_side=side)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    batch = dataset[rows]
    assert all(field.dtype == torch.int64 for field in batch)
    assert batch.indices.tolist() == rows
    assert batch.labels.tolist() == [int(split.labels[row]) for row in rows]
    for tokens, length, row in zip(batch.tokens, batch.lengths, rows, strict=True):
        review = split.ids[split.starts[row] :][: lengths[row]].tolist()
        kept = review[:max_length] if side == "right" else review[-max_length:]
        assert tokens.tolist() == kept + [0] * (batch.tokens.shape[1] - len(kept))
        assert length == len(kept)
    assert batch.tokens.shape[1] == batch.lengths.max()


@given(some_lengths, st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_every_review_is_in_one_batch_an_epoch(lengths, batch_size, shuffle, epoch) -> None:
    sampler = BucketBatchSampler(lengths, batch_size, shuffle=shuffle, seed=3)
    batches = batches_of(sampler, epoch)
    assert sorted(sum(batches, [])) == list(range(len(lengths)))  # noqa: RUF017
    assert len(batches) == len(sampler) == math.ceil(len(lengths) / batch_size)
    sizes = sorted(map(len, batches), reverse=True)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


@given(st.integers(1, 8), st.integers(1, 20), st.booleans(), st.data())
def test_ranks_share_every_batch_without_loss_or_repeat(
    num_replicas, batch_size, shuffle, data
) -> None:
    size = data.draw(st.integers(num_replicas, 200))
    lengths = np.random.default_rng(size).integers(1, 400, size)
    ranks = [
        batches_of(
            BucketBatchSampler(
                lengths, batch_size, shuffle=shuffle, rank=rank, num_replicas=num_replicas
            ),
            epoch=2,
        )
        for rank in range(num_replicas)
    ]
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert sorted(rows) == list(range(size))
    assert len({len(batches) for batches in ranks}) == 1
    for shares in zip(*ranks, strict=True):
        assert min(map(len, shares)) >= 1
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert max(map(len, shares)) <= batch_size + 1


def test_one_device_makes_the_global_batches_of_several() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 1_000)
    alone = batches_of(BucketBatchSampler(lengths, 64, shuffle=True, seed=5), epoch=1)
    shares = [
        batches_of(
            BucketBatchSampler(lengths, 16, shuffle=True, seed=5, rank=rank, num_replicas=4), 1
        )
        for rank in range(4)
    ]
    together = [set().union(*parts) for parts in zip(*shares, strict=True)]
    assert together == [set(batch) for batch in alone]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 500)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return batches_of(BucketBatchSampler(lengths, 16, shuffle=True, seed=seed), epoch)

    torch.manual_seed(1)
    np.random.seed(1)
    first = order(0, 0)
    torch.manual_seed(2)
    np.random.seed(2)
    assert order(0, 0) == first
    different = [first, order(0, 1), order(0, 2), order(1, 0), order(1, 1)]
    assert len({str(batches) for batches in different}) == 5


def test_other_reviews_share_a_batch_in_every_epoch() -> None:
    lengths = np.arange(400)  # no two alike, so that only the pools mix them
    sampler = BucketBatchSampler(lengths, 16, shuffle=True)
    first, second = ({frozenset(batch) for batch in batches_of(sampler, i)} for i in (0, 1))
    assert first.isdisjoint(second)


def test_the_order_is_the_same_on_every_machine() -> None:
    sampler = BucketBatchSampler(np.array([5, 1, 4, 2, 3, 9, 7]), 2, shuffle=True, seed=7)
    assert batches_of(sampler, epoch=0) == [[1, 4], [0, 5], [3], [2, 6]]
    assert batches_of(sampler, epoch=1) == [[4, 6], [3, 0], [1, 2], [5]]


def test_evaluation_goes_from_long_to_short() -> None:
    sampler = BucketBatchSampler(np.array([2, 9, 2, 5, 9]), 2, shuffle=False)
    assert batches_of(sampler) == batches_of(sampler, 4) == [[1, 4], [3, 0], [2]]


def test_batches_hold_reviews_of_like_length() -> None:
    lengths = np.random.default_rng(0).lognormal(5.2, 0.6, 10_000).clip(1, 400).astype(int)
    padded = sum(
        len(batch) * lengths[batch].max() for batch in BucketBatchSampler(lengths, 64, shuffle=True)
    )
    assert 1 - lengths.sum() / padded < 0.05


def test_padding_of_imdb_is_under_five_per_cent(tokenized_imdb) -> None:
    lengths = np.minimum(np.diff(tokenized_imdb.splits["train"].offsets), 400)
    padded = sum(
        len(batch) * lengths[batch].max() for batch in BucketBatchSampler(lengths, 64, shuffle=True)
    )
    assert 1 - lengths.sum() / padded < 0.05


def test_fewer_reviews_than_devices_is_an_error() -> None:
    with pytest.raises(DataError, match="3 reviews cannot feed 4 devices"):
        BucketBatchSampler(np.ones(3, dtype=int), 2, shuffle=False, num_replicas=4)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loads_through_a_data_loader(num_workers: int) -> None:
    split = make_encoded(np.random.default_rng(0).integers(1, 50, 103))
    dataset = BatchDataset(split, max_length=40, truncation_side="right")
    sampler = BucketBatchSampler(dataset.lengths, 10, shuffle=True)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=num_workers)
    batches = list(loader)
    assert len(batches) == len(loader) == 11
    assert all(isinstance(batch, Batch) for batch in batches)
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(103))
    assert [batch.indices.tolist() for batch in batches] == batches_of(sampler)


def test_in_place_of_a_batch_that_is_left_out_comes_the_next():
    lengths = np.arange(1, 41)
    whole = BucketBatchSampler(lengths, 8, shuffle=True, seed=1)
    sampler = BucketBatchSampler(lengths, 8, shuffle=True, seed=1)
    sampler.exclude_batches(frozenset({(0, 1), (0, 2), (0, 4), (1, 0)}))
    batches = [batch.tolist() for batch in whole]
    places = [0, 3, 3, 3, 0]
    assert [batch.tolist() for batch in sampler] == [batches[place] for place in places]
    assert len(sampler) == 5
    sampler.resume_at(0, 3)
    assert [batch.tolist() for batch in sampler] == [batches[3], batches[0]]
    sampler.exclude_batches(frozenset((0, number) for number in range(5)))
    with pytest.raises(DataError, match="all 5 batches"):
        list(sampler)
