"""The wide path: a linear classifier on the TF-IDF of a text's n-grams, beside the recurrent one.

Wide and deep learning (Cheng et al. 2016, section 3.1): the logits of both paths are added and
trained together. What a few hundred texts can teach, single words and pairs of words, the wide path
learns; the recurrent path adds what depends on order. N-grams are hashed into a fixed number of
weights (Weinberger et al. 2009).
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST_WORD = 2  # ids below are padding and unknown words, which are part of no n-gram
_PRIME, _FACTOR = 2**31 - 1, 1_540_483_477  # products stay below 2**63
# Adam moves a weight by the learning rate in a step, whatever its feature's size. A feature of
# norm 10 lets the wide path reach the weights of a logistic regression in some hundred steps.
_SCALE = 10.0


class Occurrences(NamedTuple):
    """Every n-gram of a batch of texts."""

    rows: Tensor  # int64 [n], the text
    starts: Tensor  # int64 [n], the step of its first word
    sizes: Tensor  # int64 [n], its number of words
    buckets: Tensor  # int64 [n], its weight


class NgramLinear(nn.Module):
    """Logits from hashed n-grams: sublinear TF-IDF of unit length, times a weight a class.

    `document_frequencies` must be counted before training by `count`; checkpoints hold the result.
    """

    document_frequency: Tensor
    documents: Tensor

    def __init__(self, ngrams: int, buckets: int, num_classes: int) -> None:
        """Use n-grams of 1 to `ngrams` words, hashed into `buckets` rows of weights."""
        super().__init__()
        self.ngrams = ngrams
        self.weight = nn.Parameter(torch.zeros(buckets, num_classes))
        self.register_buffer("document_frequency", torch.zeros(buckets))
        self.register_buffer("documents", torch.zeros(()))

    def count(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Count in how many of the training texts each bucket occurs.

        Args:
            batches: tokens int64 [batch, time] and lengths [batch], each text once.
        """
        self.document_frequency.zero_()
        self.documents.zero_()
        for tokens, lengths in batches:
            _, buckets, _ = self._distinct(self.occurrences(tokens, lengths))
            self.document_frequency += torch.bincount(buckets, minlength=len(self.weight))
            self.documents += len(tokens)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits [batch, num_classes] of tokens int64 [batch, time] and lengths [batch]."""
        rows, buckets, values = self._features(tokens, lengths)
        texts = torch.arange(len(tokens), device=rows.device)
        offsets = torch.searchsorted(rows, texts)  # rows ascend; a text without n-grams has none
        return F.embedding_bag(buckets, self.weight, offsets, mode="sum", per_sample_weights=values)

    def attributions(self, tokens: Tensor) -> Tensor:
        """Return the share of each token of one text in the logits: [time, num_classes].

        The logits are linear in the n-grams, so the shares are exact: each n-gram's contribution is
        divided evenly among its occurrences, and then among their words. They sum to `forward`.

        Args:
            tokens: int64 [time].
        """
        lengths = torch.tensor([len(tokens)], device=tokens.device)
        found = self.occurrences(tokens[None], lengths)
        _, buckets, values = self._features(tokens[None], lengths)
        place = torch.searchsorted(buckets, found.buckets)  # of one text: ascending, distinct
        times = torch.bincount(place, minlength=len(buckets))
        share = (values / times)[place] / found.sizes  # [n]
        contributions = self.weight[found.buckets] * share[:, None]  # [n, num_classes]
        result = self.weight.new_zeros(len(tokens), self.weight.shape[1])
        for word in range(self.ngrams):
            within = found.sizes > word
            result.index_add_(0, found.starts[within] + word, contributions[within])
        return result

    def occurrences(self, tokens: Tensor, lengths: Tensor) -> Occurrences:
        """Return every n-gram of known words of tokens int64 [batch, time], lengths [batch]."""
        time = tokens.shape[1]
        steps = torch.arange(time, device=tokens.device)
        known = (tokens >= FIRST_WORD) & (steps < lengths.to(tokens.device)[:, None])
        hashes, inside = torch.zeros_like(tokens), torch.ones_like(known)
        parts = []
        for size in range(1, min(self.ngrams, time) + 1):
            last = slice(size - 1, None)
            hashes = (hashes[:, : time - size + 1] * _FACTOR + tokens[:, last] + size) % _PRIME
            inside = inside[:, : time - size + 1] & known[:, last]
            rows, starts = inside.nonzero(as_tuple=True)
            sizes = torch.full_like(rows, size)
            parts.append((rows, starts, sizes, hashes[rows, starts] % len(self.weight)))
        return Occurrences(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _distinct(self, found: Occurrences) -> tuple[Tensor, Tensor, Tensor]:
        """Return text, bucket and number of occurrences [m], sorted by text and bucket."""
        keys, times = torch.unique(
            found.rows * len(self.weight) + found.buckets, return_counts=True
        )
        return keys // len(self.weight), keys % len(self.weight), times

    def idf(self, frequency: Tensor) -> Tensor:
        """Return the inverse of document frequencies: 0 for an n-gram of no training text."""
        idf = ((1 + self.documents) / (1 + frequency)).log() + 1
        return torch.where(frequency > 0, idf, 0)

    def _features(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return text, bucket and value [m] of the TF-IDF, sorted by text and bucket.

        As scikit-learn's TfidfVectorizer(sublinear_tf=True), times _SCALE: an n-gram of no
        training text has the value 0.
        """
        rows, buckets, times = self._distinct(self.occurrences(tokens, lengths))
        values = self.idf(self.document_frequency[buckets]) * (1 + times.log())
        squares = values.new_zeros(len(tokens)).index_add_(0, rows, values.square())
        norms = squares.sqrt().clamp(min=torch.finfo(values.dtype).tiny)
        return rows, buckets, values / norms[rows] * _SCALE
