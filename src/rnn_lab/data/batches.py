"""Encoded texts -> padded batches, and the loader that reads them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnn_lab.data.encode import EncodedSplit, EncodedTexts
from rnn_lab.data.text_encoder import head_length
from rnn_lab.data.vocabulary import PAD_ID


class PaddedTexts(NamedTuple):
    """Padded texts without labels. Every field is int64."""

    tokens: Tensor  # [batch, time], padded on the right with <pad>
    lengths: Tensor  # [batch], each at least 1


class Batch(NamedTuple):
    """Padded texts. Every field is int64."""

    tokens: Tensor  # [batch, time], padded on the right with <pad>
    lengths: Tensor  # [batch], each at least 1
    labels: Tensor  # [batch], or [batch, classes]: 1 for each label of a text
    indices: Tensor  # [batch], the position of each text in its split


class MixedBatch(NamedTuple):
    """The fields of a Batch of labelled texts, and unlabelled texts beside them."""

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    indices: Tensor
    unlabelled: PaddedTexts  # with a batch and a time of their own


Rows = Sequence[int] | np.ndarray | int


class TextDataset(Dataset[PaddedTexts]):
    """Texts whose items are whole batches, `dataset[rows]`, read from the memory map."""

    def __init__(self, texts: EncodedTexts, *, max_length: int, truncation_side: str) -> None:
        """Truncate texts to `max_length`, on the "left", in the "middle" or on the "right"."""
        self.lengths = np.minimum(texts.lengths, max_length)
        self._cut = texts.lengths - self.lengths
        self._head = head_length(max_length, truncation_side)
        self._texts = texts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Rows) -> PaddedTexts:
        rows = np.atleast_1d(rows)  # [batch]
        lengths = self.lengths[rows]  # [batch]
        steps = np.arange(lengths.max())  # [time]
        is_token = steps < lengths[:, None]  # [batch, time]
        skipped = np.where(steps < self._head, 0, self._cut[rows, None])  # [batch, time]
        positions = (self._texts.starts[rows, None] + steps + skipped)[is_token]
        tokens = np.full(is_token.shape, PAD_ID, dtype=np.int64)  # [batch, time]
        tokens[is_token] = self._texts.ids[positions]
        return PaddedTexts(torch.from_numpy(tokens), torch.from_numpy(lengths))


class BatchDataset(Dataset[Batch]):
    """A split whose items are whole batches, `dataset[rows]`."""

    def __init__(self, split: EncodedSplit, *, max_length: int, truncation_side: str) -> None:
        """Truncate texts to `max_length`, on the "left", in the "middle" or on the "right"."""
        self._texts = TextDataset(split, max_length=max_length, truncation_side=truncation_side)
        self._labels = split.labels
        self.lengths = self._texts.lengths

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, rows: Rows) -> Batch:
        rows = np.atleast_1d(rows)  # [batch]
        return Batch(
            *self._texts[rows],
            torch.from_numpy(self._labels[rows].astype(np.int64)),
            torch.from_numpy(rows.astype(np.int64)),
        )


class PairedDataset(Dataset[MixedBatch]):
    """Batches of labelled and unlabelled texts: `dataset[rows, unlabelled_rows]`."""

    def __init__(self, labelled: BatchDataset, unlabelled: TextDataset) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self._labelled)

    def __getitem__(self, rows: tuple[Rows, Rows]) -> MixedBatch:
        return MixedBatch(*self._labelled[rows[0]], self._unlabelled[rows[1]])


class ReproducibleLoader(DataLoader[Any]):
    """Draw one number per epoch from torch's default generator, with and without workers.

    DataLoader without workers draws one per epoch; with workers it draws one when it starts them
    and none later. The dropout masks would then depend on the number of workers, and in a resumed
    run on the time of the interruption.
    """

    def __iter__(self) -> Any:
        if self.num_workers:
            torch.empty((), dtype=torch.int64).random_()
        return super().__iter__()
