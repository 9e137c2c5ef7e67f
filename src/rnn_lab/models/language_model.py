"""A recurrent language model: each direction predicts the word after those that it has read."""

import torch
from torch import Tensor, nn

from rnn_lab.data.vocabulary import UNK_ID
from rnn_lab.errors import ConfigError
from rnn_lab.models.config import ModelConfig
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.functional import Dropout, dropout_of_steps
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.registry import CELLS
from rnn_lab.models.sampled_softmax import (
    PREDICTIONS_MULTIPLE,
    draw_words,
    inclusion_probabilities,
    pad_rows,
    softmax_losses,
)


class RecurrentLanguageModel(nn.Module):
    """Embedding, dropout, recurrent layers, dropout, and for each direction a linear layer.

    The forward direction predicts the next word of a text and the backward one the previous word,
    as two language models that share the vectors of words. These vectors are also the weights of
    the output layer (Press and Wolf 2017; Inan et al. 2017): a linear layer takes the state of a
    direction to their size, and the logit of a word is the product with its vector, and a bias.

    Embedding and recurrent layers are those of a RecurrentClassifier of the same options, under the
    same names (Dai and Le 2015, "Semi-supervised Sequence Learning").
    """

    inclusion_probabilities: Tensor | None  # [vocab_size]

    def __init__(
        self, config: ModelConfig, vocab_size: int, num_sampled: int | None = None
    ) -> None:
        """Build the network of a config, for `vocab_size` token ids, of which 0 is padding.

        In training the softmax is that of about `num_sampled` words; None: of all words.

        Raises:
            ConfigError: a direction would read the words that it is to predict.
        """
        super().__init__()
        if config.bidirectional and config.num_layers > 1:
            raise ConfigError(
                f"model.num_layers={config.num_layers} model.bidirectional=true: the second layer "
                "of a language model would read what it predicts. Give one layer or one direction"
            )
        self.vocab_size = vocab_size
        self.word_dropout = config.word_dropout
        self.variational_dropout = config.variational_dropout
        self.embedding = Embedding(vocab_size, config.embedding_dim)
        cell = CELLS[config.name](**config.cell_options)
        sizes = config.embedding_dim, config.hidden_size, config.num_layers
        self.recurrent = RecurrentLayer(
            cell,
            *sizes,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            variational_dropout=config.variational_dropout,
        )
        self.dropout = Dropout(config.dropout)
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, config.embedding_dim)
            for _ in range(self.recurrent.directions)
        )
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))
        self.embedding.start_randomly()
        chances = None
        if num_sampled is not None:
            chances = inclusion_probabilities(vocab_size, num_sampled).float()
        self.register_buffer("inclusion_probabilities", chances, persistent=False)

    def forward(self, tokens: Tensor, lengths: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the losses in nats of all predictions, float32 [predictions].

        A text of n words has n - 1 predictions of each direction; those of the forward direction
        come first. In training the losses are estimated from a sample of the words.

        Args:
            tokens: right-padded, int64 [batch, time].
            lengths: integers [batch], each from 1 to time.
            chosen: bool [batch, time]: the words that are predicted; None: all.

        Raises:
            ValueError: a length is not from 1 to time.
        """
        tokens = tokens.t()  # [time, batch], in which order recurrent layers read memory
        vectors = self.embedding(tokens)  # [time, batch, embedding_dim]
        outputs, _ = self.recurrent(self._drop(self._hide(vectors)).transpose(0, 1), lengths)
        outputs = self._drop(outputs.transpose(0, 1))  # [time, batch, directions * hidden_size]
        steps = torch.arange(1, len(tokens), device=tokens.device)[:, None]
        pairs = steps < lengths.to(tokens.device)  # [time - 1, batch]: neighbours, both in the text
        states, targets, target_vectors = [], [], []
        directions = outputs.chunk(len(self.projections), dim=2)
        for backward, projection in enumerate(self.projections):
            # Of each pair, the forward direction reads the first word and predicts the second.
            read, predicted = slice(None, -1), slice(1, None)
            if backward:
                read, predicted = predicted, read
            output = directions[backward]
            wanted = pairs if chosen is None else pairs & chosen.t()[predicted]
            rows = wanted.flatten().nonzero()[:, 0]
            chosen_outputs = output[read].flatten(0, 1).index_select(0, rows)
            padded = pad_rows(chosen_outputs, PREDICTIONS_MULTIPLE)  # as the softmax does
            states.append(projection(padded)[: len(rows)])
            targets.append(tokens[predicted].flatten().index_select(0, rows))
            target_vectors.append(vectors[predicted].flatten(0, 1).index_select(0, rows))
        return self._losses(torch.cat(states), torch.cat(targets), torch.cat(target_vectors))

    def _hide(self, vectors: Tensor) -> Tensor:
        """Return the vectors that are read: in training those of some words are zero."""
        if not self.training or self.word_dropout == 0:
            return vectors
        shown = torch.rand(vectors.shape[:2], device=vectors.device) >= self.word_dropout
        return vectors * shown[:, :, None]

    def _drop(self, sequences: Tensor) -> Tensor:
        """Return the sequences [time, batch, features] with dropout."""
        p, variational = self.dropout.p, self.variational_dropout
        return dropout_of_steps(sequences, p, self.training, variational)

    def _losses(self, states: Tensor, targets: Tensor, target_vectors: Tensor) -> Tensor:
        dtype = self.output_bias.dtype
        if self.training and self.inclusion_probabilities is not None:
            words = draw_words(self.inclusion_probabilities)
            table = self.embedding(words)
            offsets = self.output_bias.index_select(0, words)
            offsets = offsets - self.inclusion_probabilities[words].log()
        else:
            words = torch.arange(UNK_ID, self.vocab_size, device=targets.device)
            table, offsets = self.embedding(words), self.output_bias[UNK_ID:]
        states = states.to(dtype)  # sums in float32, under autocast too
        logits = (states * target_vectors).sum(1) + self.output_bias.index_select(0, targets)
        return softmax_losses(states, logits, targets, words, table, offsets, self.vocab_size)
