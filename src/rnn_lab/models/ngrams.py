"""The wide path: a linear classifier on the n-grams of a text, beside the recurrent one.

Wide and deep learning (Cheng et al. 2016, section 3.1): the logits of both paths are added. What a
few hundred texts can teach, single words and pairs of words, the wide path learns; the recurrent
path adds what depends on order. N-grams are hashed into a fixed number of weights (Weinberger et
al. 2009).

Both paths are trained together on TF-IDF, or the wide path is fitted first, with naive Bayes
weights (Wang and Manning 2012). The recurrent path is then trained as if it were alone: the wide
path knows the labels of the training texts so well that it would leave nothing to learn.
"""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_lab.models.ngram_constants import FACTOR, FIRST_WORD, PRIME, SCALE

# C of LogisticRegression. On held-out reviews of IMDB, 10 has the lowest cross-entropy alone, and
# 30 to 40 predict better beside a network, whose logits are as large.
_REGULARIZATION = 30.0
_MAX_ITER = 100


class Occurrences(NamedTuple):
    """Every n-gram of a batch of texts."""

    rows: Tensor  # int64 [n], the text
    starts: Tensor  # int64 [n], the step of its first word
    sizes: Tensor  # int64 [n], its number of words
    buckets: Tensor  # int64 [n], its weight


class NgramLinear(nn.Module):
    """Logits from hashed n-grams: features of unit length, times a weight a class.

    A feature is the sublinear frequency of an n-gram in the text, 1 + log(times), by its
    `importance`. Call `count` (TF-IDF) or `fit` (naive Bayes) before training; checkpoints hold the
    result.
    """

    importance: Tensor  # float32 [buckets], 0 for an n-gram of no training text

    def __init__(
        self, ngrams: int, buckets: int, num_classes: int, *, is_fitted_first: bool = False
    ) -> None:
        """Use n-grams of 1 to `ngrams` words, hashed into `buckets` rows of weights.

        With `is_fitted_first`, `fit` gives the weights, and no optimizer trains them.
        """
        super().__init__()
        self.ngrams = ngrams
        self.is_fitted_first = is_fitted_first
        weight = torch.zeros(buckets, num_classes)
        if is_fitted_first:
            self.register_buffer("weight", weight)
        else:
            self.weight = nn.Parameter(weight)
        self.register_buffer("importance", torch.zeros(buckets))

    def count(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the importance of each n-gram to its inverse document frequency.

        As scikit-learn's TfidfVectorizer(sublinear_tf=True): log((1 + texts) / (1 + texts with the
        n-gram)) + 1.

        Args:
            batches: tokens int64 [batch, time] and lengths [batch] of all training texts.
        """
        texts, frequency = 0, torch.zeros(len(self.weight))
        for tokens, lengths in batches:
            _, buckets, _ = self._distinct(self.occurrences(tokens, lengths))
            frequency += torch.bincount(buckets, minlength=len(self.weight))
            texts += len(tokens)
        idf = ((1 + texts) / (1 + frequency)).log() + 1
        self.importance.copy_(torch.where(frequency > 0, idf, 0))

    def fit(
        self,
        batches: Iterable[tuple[Tensor, Tensor, Tensor]],
        class_weights: Tensor | None = None,
    ) -> None:
        """Fit importance and weights to the labels of the training texts.

        The importance of an n-gram is its largest log-count ratio (Wang and Manning 2012, equation
        2): of the share of texts of a class that have it and the share of the other texts that do,
        whichever way it points. The weights are those of a logistic regression on the features.

        Args:
            batches: tokens int64 [batch, time], lengths [batch], and labels, int64 [batch] or 0
                and 1 for any number of labels a text [batch, num_classes], of all training texts.
            class_weights: float [num_classes], of the texts of each class.
        """
        from scipy.sparse import csr_array

        occurring: list[tuple[Tensor, Tensor, Tensor]] = []
        labels, texts = [], 0
        for tokens, lengths, of_batch in batches:
            rows, buckets, times = self._distinct(self.occurrences(tokens, lengths))
            occurring.append((rows + texts, buckets, times))
            labels.append(of_batch)
            texts += len(tokens)
        rows, buckets, times = (torch.cat(parts) for parts in zip(*occurring, strict=True))
        label = torch.cat(labels)
        of_class = label if label.dim() > 1 else F.one_hot(label, self.weight.shape[1])
        self.importance.copy_(self._log_count_ratios(rows, buckets, of_class))
        values = self._values(rows, buckets, times, texts) / SCALE
        # A text of unknown words alone has a row, too.
        features = csr_array(
            (values.numpy(), (rows.numpy(), buckets.numpy())), shape=(texts, len(self.weight))
        )
        weights = None if class_weights is None else class_weights[label].numpy()
        self.weight.copy_(
            _logistic_regression(features, label.numpy(), self.weight.shape[1], weights)
        )

    def _log_count_ratios(self, rows: Tensor, buckets: Tensor, of_class: Tensor) -> Tensor:
        """Return the largest absolute log-count ratio of each bucket, over the classes: [buckets].

        `rows` and `buckets` [n] are distinct pairs; `of_class` [texts, num_classes] is 0 or 1.
        """
        size = len(self.weight)
        everywhere = torch.bincount(buckets, minlength=size)
        occurs = everywhere > 0
        ratios = torch.zeros(size)
        for members in of_class.unbind(1):
            within = torch.bincount(buckets[members[rows] > 0], minlength=size)
            p, q = (torch.where(occurs, 1.0 + n, 0) for n in (within, everywhere - within))
            ratios = torch.maximum(ratios, ((p / p.sum()) / (q / q.sum())).log().abs())
        return torch.where(occurs, ratios, 0)

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
        tokens, time = tokens.long(), tokens.shape[1]  # hashes would overflow in int32
        steps = torch.arange(time, device=tokens.device)
        known = (tokens >= FIRST_WORD) & (steps < lengths.to(tokens.device)[:, None])
        hashes, inside = torch.zeros_like(tokens), torch.ones_like(known)
        parts = []
        for size in range(1, min(self.ngrams, time) + 1):
            last = slice(size - 1, None)
            hashes = (hashes[:, : time - size + 1] * FACTOR + tokens[:, last] + size) % PRIME
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

    def _features(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return text, bucket and value [m] of the features, sorted by text and bucket."""
        rows, buckets, times = self._distinct(self.occurrences(tokens, lengths))
        return rows, buckets, self._values(rows, buckets, times, len(tokens))

    def _values(self, rows: Tensor, buckets: Tensor, times: Tensor, texts: int) -> Tensor:
        """Return the features [m], SCALE long a text, of n-grams that occur `times` [m]."""
        values = self.importance[buckets] * (1 + times.to(self.importance.dtype).log())
        squares = values.new_zeros(texts).index_add_(0, rows, values.square())
        norms = squares.sqrt().clamp(min=torch.finfo(values.dtype).tiny)
        return values / norms[rows] * SCALE


def _logistic_regression(
    features: Any, labels: np.ndarray, num_classes: int, weights: np.ndarray | None
) -> Tensor:
    """Return the weights [buckets, num_classes] of regressions without intercept.

    Args:
        features: scipy matrix [texts, buckets].
        labels: int64 [texts], or 0 and 1 [texts, num_classes].
        num_classes: of the network, of which some may have no text.
        weights: float [texts] of the texts in the loss, None for equal ones.
    """
    from sklearn.linear_model import LogisticRegression

    found = torch.zeros(features.shape[1], num_classes)
    occurring = np.unique(features.indices)  # the others have no weight, and there may be millions
    features = features[:, occurring]
    # One regression over the classes, or, of any number of labels, one a label.
    targets = [labels] if labels.ndim == 1 else list(labels.T)
    for column, target in enumerate(targets):
        classes = np.unique(target)
        if len(classes) < 2:
            continue  # nothing to tell apart
        regression = LogisticRegression(C=_REGULARIZATION, max_iter=_MAX_ITER, fit_intercept=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # L-BFGS that stops at _MAX_ITER is as good here
            regression.fit(features, target, weights)
        coefficients = torch.from_numpy(regression.coef_.T.copy()).float()  # [occurring, classes]
        if labels.ndim > 1:
            found[occurring, column] = coefficients[:, 0]
        elif len(classes) == 2:  # one logit, of the second class, divided between the two
            found[occurring[:, None], classes] = coefficients * torch.tensor([-0.5, 0.5])
        else:
            found[occurring[:, None], classes] = coefficients
    return found / SCALE
