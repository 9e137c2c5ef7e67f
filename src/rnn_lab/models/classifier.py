"""A recurrent text classifier, from tokens to logits."""

import torch
from torch import Tensor, nn

from rnn_lab.models.config import ModelConfig
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.functional import Dropout, variational_dropout
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.ngrams import NgramLinear
from rnn_lab.models.pooling import pool
from rnn_lab.models.registry import CELLS, POOLINGS
from rnn_lab.models.tasks import DEFAULT_THRESHOLD, TASKS, TaskFunctions


class RecurrentClassifier(nn.Module):
    """Embedding, dropout, recurrent layers of any cell, pooling, dropout, linear layer.

    With `model.ngrams`, the logits of a linear classifier on n-grams are added to these: always, or
    with `model.ngram_weighting=naive_bayes` outside of training, which that classifier precedes.

    The logits of a text depend on its own tokens only: not on the padding, nor on the texts beside
    it.
    """

    temperature: Tensor  # float32 []: probabilities are those of logits / temperature
    thresholds: Tensor | None  # float32 [num_classes]: a label is predicted from there upwards

    def __init__(
        self, config: ModelConfig, vocab_size: int, num_classes: int, task: str = "multiclass"
    ) -> None:
        """Build the network of a config, for `vocab_size` token ids, of which 0 is padding.

        With the task `multilabel`, a text has any number of labels. Their `thresholds` are part of
        the state of the network: 0.5, until validation chooses better ones. So is the `temperature`
        that calibrates its probabilities, see `rnn_lab.models.calibration`: 1, until it is fitted.
        """
        super().__init__()
        self.task: TaskFunctions = TASKS[task]
        thresholds = None
        if self.task.is_multilabel:
            thresholds = torch.full([num_classes], DEFAULT_THRESHOLD)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("thresholds", thresholds)
        self.word_dropout = config.word_dropout
        self.pooling = config.pooling
        self.embedding = Embedding(vocab_size, config.embedding_dim)
        cell = CELLS[config.name](**config.cell_options)
        sizes = config.embedding_dim, config.hidden_size, config.num_layers
        self.variational_dropout = config.variational_dropout
        self.recurrent = RecurrentLayer(
            cell,
            *sizes,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            variational_dropout=config.variational_dropout,
        )
        self.dropout = Dropout(config.dropout)
        features = self.recurrent.directions * config.hidden_size
        pooling = POOLINGS[config.pooling]
        self.linear = nn.Linear(pooling.factor * features, num_classes)
        self.embedding.start_randomly()
        self.pooling_module = pooling.build_module(features)
        self.ngrams: NgramLinear | None = None
        if config.ngrams:
            is_fitted_first = config.ngram_weighting == "naive_bayes"
            self.ngrams = NgramLinear(
                config.ngrams, config.ngram_buckets, num_classes, is_fitted_first=is_fitted_first
            )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [batch, num_classes] of right-padded tokens int64 [batch, time].

        Raises:
            ValueError: one of the lengths [batch] is not from 1 to time.
        """
        embedded = self.embed(self.hide_words(tokens))
        return self.add_ngrams(self.forward_embedded(embedded, lengths), tokens, lengths)

    def add_ngrams(self, logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits [batch, num_classes] of the recurrent layers plus those of n-grams."""
        of_ngrams = self.ngram_logits(tokens, lengths)
        return logits if of_ngrams is None else logits + of_ngrams

    def ngram_logits(self, tokens: Tensor, lengths: Tensor) -> Tensor | None:
        """Return the logits [batch, num_classes] of n-grams, None where there are none.

        In training there are none of n-grams that were fitted first.
        """
        if self.ngrams is None or (self.training and self.ngrams.is_fitted_first):
            return None
        logits: Tensor = self.ngrams(tokens, lengths)
        return logits

    def hide_words(self, tokens: Tensor) -> Tensor:
        """Return tokens int64 [batch, time] with word dropout (Dai and Le 2015) in training.

        Whole words are hidden: as padding, whose vector stays zero.
        """
        if not self.training or self.word_dropout == 0:
            return tokens
        hidden = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
        return tokens.masked_fill(hidden, 0)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the vectors [batch, time, embedding_dim] of tokens int64 [batch, time]."""
        # Embedded in the order [time, batch], in which recurrent layers read memory.
        return self.embedding(tokens.t()).transpose(0, 1)

    def forward_embedded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of vectors [batch, time, embedding_dim] without those of n-grams."""
        if self.variational_dropout:
            embedded = variational_dropout(embedded, self.dropout.p, self.training, time_dim=1)
        else:
            embedded = self.dropout(embedded)
        if POOLINGS[self.pooling].needs_outputs:
            outputs, _ = self.recurrent(embedded, lengths)
            pooled = self.pool(outputs, lengths)  # [batch, factor * features]
        else:  # layers do not have to write the outputs of every step
            pooled = self.recurrent.last_hidden(embedded, lengths)  # [batch, features]
        return self.linear(self.dropout(pooled))  # [batch, num_classes]

    def calibrated(self, logits: Tensor) -> Tensor:
        """Return the logits [batch, num_classes] of calibrated probabilities."""
        return logits / self.temperature

    def probabilities(self, tokens: Tensor, lengths: Tensor, *, bfloat16: bool = False) -> Tensor:
        """Return calibrated probabilities, float32 [batch, num_classes].

        With `bfloat16`, matrix products are in that; the softmax is in float32 anyway.

        Args:
            tokens: int64 [batch, time].
            lengths: int64 [batch].
        """
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bfloat16):
            logits = self(tokens, lengths)
        return self.task.probabilities(self.calibrated(logits.float()))

    def pool(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Return [batch, factor * features] of outputs [batch, time, features]."""
        return pool(
            self.pooling,
            self.pooling_module,
            outputs,
            lengths,
            self.recurrent.bidirectional,
            use_numba=self.recurrent.use_numba,
        )
