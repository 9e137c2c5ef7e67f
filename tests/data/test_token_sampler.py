import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.token_sampler import TokenBatchSampler
from rnn_lab.errors import DataError

some_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=300).map(np.array)


def batches_of(sampler: TokenBatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


@given(some_lengths, st.integers(30, 300))
def test_every_review_once_an_epoch_in_batches_that_fit(lengths, max_tokens_per_batch) -> None:
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
def test_replicas_share_every_batch_without_loss_or_repeat(
    replicas, max_tokens_per_batch, data
) -> None:
    size = data.draw(st.integers(replicas, 300))
    lengths = np.random.default_rng(size).integers(1, 31, size)
    ranks = [
        batches_of(
            TokenBatchSampler(lengths, max_tokens_per_batch, rank=rank, num_replicas=replicas), 2
        )
        for rank in range(replicas)
    ]
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert sorted(rows) == list(range(size))
    assert len({len(batches) for batches in ranks}) == 1
    for shares in zip(*ranks, strict=True):
        assert min(map(len, shares)) >= 1
        # A share holds one review more where too few were left for a batch of their own.
        assert all((len(s) - 1) * lengths[s].max() <= max_tokens_per_batch for s in shares)


def test_batches_are_full_little_padded_and_mixed_anew() -> None:
    lengths = np.random.default_rng(0).integers(20, 401, 20_000)
    sampler = TokenBatchSampler(lengths, 16_384, seed=1)
    first, second = (batches_of(sampler, epoch) for epoch in (0, 1))
    places = [len(batch) * lengths[batch].max() for batch in first]
    assert np.mean(places) > 0.95 * 16_384
    # 32 batches a pool span 380 lengths: 12 each, so that half of that is padding, of 210.
    assert lengths.sum() / sum(places) > 0.96
    together = {frozenset(pair) for batch in first for pair in itertools.pairwise(batch)}
    again = {frozenset(pair) for batch in second for pair in itertools.pairwise(batch)}
    # Two neighbours meet again in one of eight pools by chance, and seldom side by side.
    assert len(together & again) < len(together) / 8
    # Long and short batches in no order.
    assert abs(np.corrcoef(np.arange(len(first)), list(map(len, first)))[0, 1]) < 0.2


def test_seed_and_epoch_decide_the_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 31, 500)
    one, same, other = (TokenBatchSampler(lengths, 200, seed=seed) for seed in (1, 1, 2))
    assert batches_of(one, 4) == batches_of(same, 4)
    assert batches_of(one, 4) != batches_of(one, 5)
    assert batches_of(one, 4) != batches_of(other, 4)


def test_too_few_reviews() -> None:
    with pytest.raises(DataError, match="2 reviews cannot feed 3 devices"):
        TokenBatchSampler(np.array([4, 5]), 10, num_replicas=3)


def test_the_option(tmp_path) -> None:
    with pytest.raises(ValidationError, match=r"at least data\.max_length, 50"):
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
