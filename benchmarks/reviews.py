"""Choose the reviews that every contender reads: a few batches that represent an epoch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnn_lab.data.batches import Batch, BatchDataset
from rnn_lab.data.config import AutoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.samplers import BucketBatchSampler

VOCAB_SIZE = 30_000
MAX_LENGTH = 400
BATCH_SIZE = 64


@dataclass(frozen=True)
class Sample:
    """The same reviews in two kinds of batches."""

    bucketed: list[Batch]  # of similar length, as our sampler makes them
    random: list[Batch]  # shuffled, as in most tutorials

    @property
    def reviews(self) -> int:
        """Number of reviews in all batches."""
        return sum(len(batch.labels) for batch in self.bucketed)

    @property
    def tokens(self) -> int:
        """Number of real tokens in all batches."""
        return sum(int(batch.lengths.sum()) for batch in self.bucketed)


def load_reviews(cache_dir: Path, vocab_size: int = VOCAB_SIZE) -> TextDataModule:
    """Load and encode IMDB if it is on disk ($IMDB_ROOT or data/), else the demo reviews."""
    config = AutoConfig(
        max_vocab_size=vocab_size, max_length=MAX_LENGTH, download=False, cache_dir=str(cache_dir)
    )
    data = TextDataModule(config, allow_fallback=True)
    data.setup()
    return data


def load_sample(
    cache_dir: Path, batches: int, vocab_size: int = VOCAB_SIZE
) -> tuple[TextDataModule, Sample]:
    """Load the reviews and choose batches that represent an epoch of them."""
    data = load_reviews(cache_dir, vocab_size)
    dataset = BatchDataset(data.splits["train"], max_length=MAX_LENGTH, truncation_side="right")
    return data, choose_batches(dataset, batches)


def choose_batches(dataset: BatchDataset, count: int, seed: int = 0) -> Sample:
    """Choose `count` batches of an epoch with the length distribution of the whole epoch.

    The epoch's batches are sorted by their number of tokens and cut into `count` equal parts; the
    middle batch of each part is chosen.
    """
    sampler = BucketBatchSampler(dataset.lengths, BATCH_SIZE, shuffle=True, seed=seed)
    epoch = [rows for rows in sampler if len(rows) == BATCH_SIZE]
    epoch.sort(key=lambda rows: int(dataset.lengths[rows].sum()))
    middles = ((np.arange(count) + 0.5) * len(epoch) / count).astype(int)
    chosen = [epoch[middle] for middle in middles]
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(np.concatenate(chosen))
    return Sample(
        bucketed=[dataset[rows] for rows in chosen],
        random=[dataset[rows] for rows in np.split(shuffled, count)],
    )


def padding_share(batches: list[Batch], padded_to: int | None = None) -> float:
    """Return the share of the positions of `batches` that is padding."""
    positions = sum(len(batch.labels) * (padded_to or batch.tokens.shape[1]) for batch in batches)
    return 1 - sum(int(batch.lengths.sum()) for batch in batches) / positions
