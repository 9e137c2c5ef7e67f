import numpy as np
import pytest

from benchmarks.reviews import choose_batches, padding_share
from rnn_lab.data.batches import BatchDataset
from rnn_lab.data.encode import EncodedSplit


@pytest.fixture
def dataset() -> BatchDataset:
    """Return 4,000 reviews of very different lengths."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.3, 0.6, 4_000), 10, 400).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    ids = rng.integers(2, 30_000, lengths.sum()).astype(np.uint16)
    split = EncodedSplit(ids, starts, lengths, rng.integers(0, 2, len(lengths)))
    return BatchDataset(split, max_length=400, truncation_side="right")


def test_the_sample_has_the_mean_length_of_the_epoch(dataset: BatchDataset) -> None:
    sample = choose_batches(dataset, count=4)
    assert sample.reviews == 4 * 64
    assert sample.tokens / sample.reviews == pytest.approx(dataset.lengths.mean(), rel=0.05)


def test_both_kinds_of_batches_have_the_same_reviews(dataset: BatchDataset) -> None:
    sample = choose_batches(dataset, count=4)
    bucketed, random = (
        np.sort(np.concatenate([batch.indices for batch in batches]))
        for batches in (sample.bucketed, sample.random)
    )
    assert (bucketed == random).all()
    assert len(set(bucketed)) == sample.reviews


def test_padding_is_counted_as_positions_without_a_token(dataset: BatchDataset) -> None:
    sample = choose_batches(dataset, count=4)
    for batches in (sample.bucketed, sample.random):
        positions = np.concatenate([batch.tokens.flatten() for batch in batches])
        assert padding_share(batches) == pytest.approx((positions == 0).mean())
    assert padding_share(sample.bucketed) < 0.1 < padding_share(sample.random)
    assert padding_share(sample.bucketed, padded_to=400) == pytest.approx(
        1 - sample.tokens / (sample.reviews * 400)
    )
