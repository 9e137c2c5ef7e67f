"""A recurrent text classifier, from tokens to logits."""

import torch
from torch import Tensor, nn

from rnn_lab.models.config import ModelConfig
from rnn_lab.models.dropout import Dropout
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.layers import GRU, LSTM, RNN
from rnn_lab.models.pooling import pool

LAYERS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class RecurrentClassifier(nn.Module):
    """Embedding, dropout, recurrent layers, pooling, dropout, linear layer.

    The logits of a review depend on its own tokens alone: not on the padding, nor on the reviews
    beside it.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.word_dropout = config.word_dropout
        self.pooling = config.pooling
        self.bidirectional = config.bidirectional
        features = config.hidden_size * (2 if config.bidirectional else 1)
        self.embedding = Embedding(vocab_size, config.embedding_dim)
        gates = {"reset": config.reset or "after"} if config.name == "gru" else {}
        self.recurrent = LAYERS[config.name](
            config.embedding_dim,
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            **gates,
        )
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(features, num_classes)
        self._initialize(config)

    def _initialize(self, config: ModelConfig) -> None:
        # torch draws embeddings with a standard deviation of 1, ten times the weights that read
        # them: gates saturate, and rare words keep their random vectors.
        with torch.no_grad():
            self.embedding.weight.normal_(0, 0.1)
            self.embedding.weight[0] = 0
            if config.forget_bias is not None:
                for name, bias in self.recurrent.named_parameters():
                    if name.startswith("bias"):  # torch has two of each: one carries the value
                        forget = bias.view(4, -1)[1]  # input, forget, cell, output
                        forget.fill_(config.forget_bias if name.startswith("bias_ih") else 0.0)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Tokens int64 [batch, time], padded on the right; lengths [batch], from 1 to time.

        Returns:
            logits [batch, num_classes].

        Raises:
            ValueError: a length is out of range.
        """
        if self.training and self.word_dropout > 0:
            # Whole words are hidden (Dai and Le 2015): as padding, whose vector stays zero.
            hidden = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = tokens.masked_fill(hidden, 0)
        return self.forward_embedded(self.embed(tokens), lengths)

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens int64 [batch, time]: [batch, time, embedding_dim]."""
        # Embedded in the order [time, batch], in which recurrent layers read memory.
        return self.embedding(tokens.t()).transpose(0, 1)

    def forward_embedded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """The logits [batch, num_classes] of vectors [batch, time, embedding_dim], as `forward`."""
        embedded = self.dropout(embedded)
        if self.pooling == "last":
            pooled = self.recurrent.last_hidden(embedded, lengths)  # [batch, features]
        else:
            outputs, _ = self.recurrent(embedded, lengths, need_final_state=False)
            pooled = pool(outputs, lengths, self.pooling)  # [batch, features]
        return self.linear(self.dropout(pooled))  # [batch, num_classes]
