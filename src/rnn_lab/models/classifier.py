"""A recurrent text classifier, from tokens to logits."""

import torch
from torch import Tensor, nn

from rnn_lab.models.cells import build_cell
from rnn_lab.models.config import ModelConfig
from rnn_lab.models.dropout import Dropout
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.pooling import build_pooling, pool


class RecurrentClassifier(nn.Module):
    """Embedding, dropout, recurrent layers of any cell, pooling, dropout, linear layer.

    The logits of a text depend on its own tokens only: not on the padding, nor on the texts beside
    it.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, num_classes: int) -> None:
        """Build the network.

        Args:
            config: the options of the group `model`.
            vocab_size: number of token ids; 0 is padding.
            num_classes: number of logits.
        """
        super().__init__()
        self.word_dropout = config.word_dropout
        self.pooling = config.pooling
        self.bidirectional = config.bidirectional
        features = config.hidden_size * (2 if config.bidirectional else 1)
        self.embedding = Embedding(vocab_size, config.embedding_dim)
        self.recurrent = RecurrentLayer(
            build_cell(config),
            config.embedding_dim,
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(features, num_classes)
        # torch draws embeddings with a standard deviation of 1, ten times the weights that read
        # them: gates saturate, and rare words keep their random vectors.
        with torch.no_grad():
            self.embedding.weight.normal_(0, 0.1)
            self.embedding.weight[0] = 0
        self.pooling_module = build_pooling(config.pooling, features)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [batch, num_classes].

        Args:
            tokens: int64 [batch, time], padded on the right.
            lengths: integers [batch], each from 1 to time.

        Raises:
            ValueError: a length is out of range.
        """
        if self.training and self.word_dropout > 0:
            # Whole words are hidden (Dai and Le 2015): as padding, whose vector stays zero.
            hidden = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = tokens.masked_fill(hidden, 0)
        return self.forward_embedded(self.embed(tokens), lengths)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the vectors [batch, time, embedding_dim] of tokens int64 [batch, time]."""
        # Embedded in the order [time, batch], in which recurrent layers read memory.
        return self.embedding(tokens.t()).transpose(0, 1)

    def forward_embedded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of vectors [batch, time, embedding_dim], as `forward` of tokens."""
        embedded = self.dropout(embedded)
        if self.pooling == "last":
            pooled = self.recurrent.last_hidden(embedded, lengths)  # [batch, features]
        else:
            outputs, _ = self.recurrent(embedded, lengths, need_final_state=False)
            pooled = self.pool(outputs, lengths)  # [batch, features]
        return self.linear(self.dropout(pooled))  # [batch, num_classes]

    def pool(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector [batch, features] per text of outputs [batch, time, features]."""
        return pool(outputs, lengths, self.pooling, self.bidirectional, self.pooling_module)
