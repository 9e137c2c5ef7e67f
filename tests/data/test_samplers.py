import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.data import DataLoader

from rnn_lab.data.batches import Batch, BatchDataset
from rnn_lab.data.config import DemoConfig, FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.samplers import (
    BucketBatchSampler,
    DistributedBatchSampler,
    PairedBatchSampler,
    RepeatedBatches,
    Replica,
    TokenBatchSampler,
)
from rnn_lab.errors import DataError

some_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=300).map(np.array)


def make_encoded(lengths: np.ndarray, seed: int = 0) -> EncodedSplit:
    """Labelled texts of these lengths, stored in another order."""
    rng = np.random.default_rng(seed)
    starts = np.empty(len(lengths), dtype=np.int64)
    order = rng.permutation(len(lengths))
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    ids = rng.integers(1, 60_000, lengths.sum()).astype(np.uint16)
    return EncodedSplit(ids, starts, lengths, rng.integers(0, 3, len(lengths)))


def batches_of(sampler: DistributedBatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


@given(some_lengths, st.integers(1, 40), st.sampled_from(["left", "middle", "right"]), st.data())
def test_a_batch_contains_its_texts_side_by_side(lengths, max_length, side, data) -> None:
    split = make_encoded(lengths)
    dataset = BatchDataset(split, max_length=max_length, truncation_side=side)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    batch = dataset[rows]
    assert all(field.dtype == torch.int64 for field in batch)
    assert batch.indices.tolist() == rows
    assert batch.labels.tolist() == [int(split.labels[row]) for row in rows]
    for tokens, length, row in zip(batch.tokens, batch.lengths, rows, strict=True):
        review = split.ids[split.starts[row] :][: lengths[row]].tolist()
        kept = review
        if len(review) > max_length:
            head = {"left": 0, "middle": max_length // 3, "right": max_length}[side]
            kept = review[:head] + review[len(review) - max_length + head :]
        assert tokens.tolist() == kept + [0] * (batch.tokens.shape[1] - len(kept))
        assert length == len(kept)
    assert batch.tokens.shape[1] == batch.lengths.max()


@given(some_lengths, st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_every_text_is_in_one_batch_per_epoch(lengths, batch_size, shuffle, epoch) -> None:
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
                lengths, batch_size, shuffle=shuffle, replica=Replica(rank, num_replicas)
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
            BucketBatchSampler(lengths, 16, shuffle=True, seed=5, replica=Replica(rank, 4)), 1
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


def test_other_texts_share_a_batch_in_every_epoch() -> None:
    lengths = np.arange(400)  # no two alike, so that only the pools mix them
    sampler = BucketBatchSampler(lengths, 16, shuffle=True)
    first, second = ({frozenset(batch) for batch in batches_of(sampler, i)} for i in (0, 1))
    assert first.isdisjoint(second)


def test_the_order_is_the_same_on_every_machine() -> None:
    sampler = BucketBatchSampler(np.array([5, 1, 4, 2, 3, 9, 7]), 2, shuffle=True, seed=7)
    assert batches_of(sampler, epoch=0) == [[1, 4], [0, 5], [3], [2, 6]]
    assert batches_of(sampler, epoch=1) == [[4, 6], [3, 0], [1, 2], [5]]


def test_evaluation_batches_go_from_long_to_short() -> None:
    sampler = BucketBatchSampler(np.array([2, 9, 2, 5, 9]), 2, shuffle=False)
    assert batches_of(sampler) == batches_of(sampler, 4) == [[1, 4], [3, 0], [2]]


def test_batches_contain_texts_of_similar_length() -> None:
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


def test_fewer_texts_than_devices_is_an_error() -> None:
    with pytest.raises(DataError, match="too few texts for 4 devices: 3"):
        BucketBatchSampler(np.ones(3, dtype=int), 2, shuffle=False, replica=Replica(world_size=4))


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


def test_the_next_batch_replaces_an_excluded_one():
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


def paired(texts: int = 40, others: int = 26, **replicas: int) -> PairedBatchSampler:
    """Five labelled batches of eight texts an epoch, and nine unlabelled ones of three."""
    return PairedBatchSampler(
        BucketBatchSampler(np.arange(1, texts + 1), 8, shuffle=True, seed=1, **replicas),
        BucketBatchSampler(np.arange(1, others + 1), 3, shuffle=True, seed=1, **replicas),
    )


def pairs_of(sampler: PairedBatchSampler, epoch: int) -> list[list[list[int]]]:
    sampler.set_epoch(epoch)
    return [[rows.tolist() for rows in pair] for pair in sampler]


def test_unlabelled_batches_go_through_their_texts_whatever_the_epochs_of_the_labelled_ones():
    epochs = [pairs_of(paired(), epoch) for epoch in range(18)]
    labelled = BucketBatchSampler(np.arange(1, 41), 8, shuffle=True, seed=1)
    stream = []
    for epoch, pairs in enumerate(epochs):
        assert [rows for rows, _ in pairs] == batches_of(labelled, epoch)
        stream += [rows for _, rows in pairs]
    passes = [stream[start : start + 9] for start in range(0, 90, 9)]
    for one in passes:
        assert sorted(itertools.chain.from_iterable(one)) == list(range(26))
    assert len({str(one) for one in passes}) == 10  # each in another order
    assert len(paired()) == 5


def test_paired_batches_are_the_same_after_an_interruption():
    whole = [pairs_of(paired(), epoch) for epoch in range(4)]
    sampler = paired()
    sampler._labelled.resume_at(2, 3)
    assert [[rows.tolist() for rows in pair] for pair in sampler] == whole[2][3:]
    assert pairs_of(sampler, 3) == whole[3]


def test_an_excluded_batch_is_excluded_with_its_unlabelled_texts():
    whole, sampler = pairs_of(paired(), 0), paired()
    sampler._labelled.exclude_batches(frozenset({(0, 1)}))
    assert pairs_of(sampler, 0) == [whole[place] for place in (0, 2, 2, 3, 4)]


def test_overfitting_repeats_the_unlabelled_batches_too():
    first, sampler = pairs_of(paired(), 0), RepeatedBatches(paired())
    sampler.set_epoch(3)
    assert [[rows.tolist() for rows in pair] for pair in sampler] == first


def test_replicas_divide_unlabelled_batches():
    ranks = [paired(replica=Replica(rank, 2)) for rank in range(2)]
    seen = [pairs_of(ranks[0], epoch) for epoch in range(5)]
    others = [pairs_of(ranks[1], epoch) for epoch in range(5)]
    rows = [row for epochs in (seen, others) for pairs in epochs for _, one in pairs for row in one]
    assert sorted(rows) == sorted([*range(26)] * 3)  # 15 batches of 6 texts: three passes


@given(some_lengths, st.integers(30, 300))
def test_every_text_is_in_one_batch_of_tokens_per_epoch(lengths, max_tokens_per_batch) -> None:
    sampler = TokenBatchSampler(lengths, max_tokens_per_batch, seed=3)
    epochs = [batches_of(sampler, epoch) for epoch in range(3)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert len(batches) == len(sampler)
        for batch in batches:
            assert 1 <= len(batch) * lengths[batch].max() <= max_tokens_per_batch
    sizes = [sorted(map(len, batches)) for batches in epochs]
    assert sizes[0] == sizes[1] == sizes[2]


@given(st.integers(2, 5), st.integers(30, 300), st.data())
def test_ranks_share_every_batch_of_tokens_without_loss_or_repeat(
    replicas, max_tokens_per_batch, data
) -> None:
    size = data.draw(st.integers(replicas, 300))
    lengths = np.random.default_rng(size).integers(1, 31, size)
    ranks = [
        batches_of(
            TokenBatchSampler(lengths, max_tokens_per_batch, replica=Replica(rank, replicas)), 2
        )
        for rank in range(replicas)
    ]
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert sorted(rows) == list(range(size))
    assert len({len(batches) for batches in ranks}) == 1
    for shares in zip(*ranks, strict=True):
        assert min(map(len, shares)) >= 1
        # A share has one more text if the rest was too small for a batch of its own.
        assert all((len(s) - 1) * lengths[s].max() <= max_tokens_per_batch for s in shares)


def test_batches_of_tokens_are_full_and_differ_between_epochs() -> None:
    lengths = np.random.default_rng(0).integers(20, 401, 20_000)
    sampler = TokenBatchSampler(lengths, 16_384, seed=1)
    first, second = (batches_of(sampler, epoch) for epoch in (0, 1))
    places = [len(batch) * lengths[batch].max() for batch in first]
    assert np.mean(places) > 0.95 * 16_384
    # The 32 batches of a pool span 380 lengths, 12 each: the padding is half of 12, of 210.
    assert lengths.sum() / sum(places) > 0.96
    together = {frozenset(pair) for batch in first for pair in itertools.pairwise(batch)}
    again = {frozenset(pair) for batch in second for pair in itertools.pairwise(batch)}
    # Two neighbours are in the same one of eight pools by chance, and rarely adjacent.
    assert len(together & again) < len(together) / 8
    # The order of batches does not depend on their lengths.
    assert abs(np.corrcoef(np.arange(len(first)), list(map(len, first)))[0, 1]) < 0.2


def test_the_order_of_batches_of_tokens_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 31, 500)
    one, same, other = (TokenBatchSampler(lengths, 200, seed=seed) for seed in (1, 1, 2))
    assert batches_of(one, 4) == batches_of(same, 4)
    assert batches_of(one, 4) != batches_of(one, 5)
    assert batches_of(one, 4) != batches_of(other, 4)


def test_fewer_texts_than_devices_is_an_error_for_batches_of_tokens() -> None:
    with pytest.raises(DataError, match="too few texts for 3 devices: 2"):
        TokenBatchSampler(np.array([4, 5]), 10, replica=Replica(world_size=3))


def test_the_option_max_tokens_per_batch(tmp_path) -> None:
    with pytest.raises(ValidationError, match=r"at least data\.max_length=50"):
        DemoConfig(max_tokens_per_batch=49, max_length=50)
    config = DemoConfig(
        num_train=400, num_test=20, max_tokens_per_batch=1_000, cache_dir=str(tmp_path)
    )
    data = TextDataModule(config)
    data.setup()
    batches = list(data.train_dataloader())
    assert max(batch.tokens.numel() for batch in batches) <= 1_000
    assert sum(len(batch.labels) for batch in batches) == len(data.splits["train"])
    assert len({len(batch.labels) for batch in batches}) >= 3


def uneven(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths and labels of rows whose last class is rare and short."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size, p=[0.8, 0.15, 0.05])
    return rng.integers(1, 31, size) // (1 + (labels == 2)) + 1, labels


def balanced(lengths: np.ndarray, labels: np.ndarray, tokens: bool, **options: int) -> Any:
    if tokens:
        return TokenBatchSampler(lengths, 200, labels=labels, **options)
    return BucketBatchSampler(lengths, 16, shuffle=True, labels=labels, **options)


tokens_or_texts = pytest.mark.parametrize("tokens", [False, True], ids=["texts", "tokens"])


@tokens_or_texts
def test_balanced_epochs_draw_each_class_equally_often(tokens) -> None:
    lengths, labels = uneven(500)
    sampler = balanced(lengths, labels, tokens, seed=3)
    drawn = np.zeros(500)
    for epoch in range(200):
        batches = batches_of(sampler, epoch)
        rows = np.concatenate(batches).astype(int)
        assert np.bincount(labels[rows]).tolist() == [167, 167, 166]
        assert len(batches) == len(sampler)
        if tokens:
            assert max(len(batch) * lengths[batch].max() for batch in batches) <= 200
        drawn += np.bincount(rows, minlength=500)
    for label in range(3):  # of a class, every row is as likely as any other
        often = drawn[labels == label] / 200
        assert abs(often - often.mean()).max() < 5 * np.sqrt(often.mean() / 200)


@tokens_or_texts
def test_balanced_order_is_a_function_of_seed_and_epoch_and_resumes(tokens) -> None:
    lengths, labels = uneven(500)
    whole = batches_of(balanced(lengths, labels, tokens, seed=1), 4)
    assert whole != batches_of(balanced(lengths, labels, tokens, seed=1), 5)
    assert whole != batches_of(balanced(lengths, labels, tokens, seed=2), 4)
    resumed = balanced(lengths, labels, tokens, seed=1)
    resumed.resume_at(4, 7)
    assert batches_of(resumed, 4) == whole[7:]


@tokens_or_texts
@given(replicas=st.integers(2, 5), size=st.integers(5, 300))
def test_ranks_share_the_balanced_batches(tokens, replicas, size) -> None:
    lengths, labels = uneven(size, seed=size)
    ranks = [
        batches_of(balanced(lengths, labels, tokens, replica=Replica(rank, replicas)), 2)
        for rank in range(replicas)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert min(len(batch) for batches in ranks for batch in batches) >= 1
    rows = np.array([row for batches in ranks for batch in batches for row in batch])
    often = np.bincount(labels[rows])
    assert len(rows) == size and np.ptp(often[often > 0]) <= 1


def test_the_option_weighted_sampling(tmp_path) -> None:
    for name, size in (("train", 200), ("val", 20), ("test", 20)):
        rows = [f"text {i},{'rare' if i % 10 == 0 else 'common'}" for i in range(size)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    paths = {f"{name}_path": str(tmp_path / f"{name}.csv") for name in ("train", "val", "test")}
    for option in ({"batch_size": 16}, {"max_length": 20, "max_tokens_per_batch": 40}):
        config = FilesConfig(**paths, **option, weighted_sampling=True, cache_dir=str(tmp_path))
        data = TextDataModule(config)
        data.setup()
        batches = list(data.train_dataloader())
        labels = torch.cat([batch.labels for batch in batches])
        assert labels.bincount().tolist() == [100, 100]
        rows = torch.cat([batch.indices for batch in batches])
        assert sorted(rows[labels == 1].bincount().unique().tolist()) == [0, 5]  # of 20 rare texts
        assert torch.equal(labels, torch.from_numpy(data.splits["train"].labels)[rows])
        validated = torch.cat([batch.indices for batch in data.val_dataloader()])
        assert sorted(validated.tolist()) == list(range(20))
