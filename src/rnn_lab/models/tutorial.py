"""The tutorial's classifier with the tutorial's argument names: what experiment=tutorial trains."""

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import LSTMConfig


class TutorialClassifier(RecurrentClassifier):
    """Embedding, LSTM layers, and a linear layer on the last state of the last layer.

    `forward` takes tokens [batch, time] and, unlike the tutorial's, lengths [batch]: the last state
    is that of each text's last word, not of the padding after it.

    >>> import torch
    >>> model = TutorialClassifier(100, 16, 32, output_dim=2, n_layers=2, dropout=0.5)
    >>> model(torch.tensor([[5, 7, 0]]), lengths=torch.tensor([2])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        output_dim: int,
        n_layers: int,
        dropout: float,
    ) -> None:
        """Build the network.

        Args:
            vocab_size: number of ids; 0 is padding.
            embedding_dim: size of a word's vector.
            hidden_dim: size of the hidden state.
            output_dim: number of classes, one logit each.
            n_layers: LSTM layers on top of one another.
            dropout: on embeddings, between layers and before the linear layer.
        """
        config = LSTMConfig(
            name="lstm",
            embedding_dim=embedding_dim,
            hidden_size=hidden_dim,
            num_layers=n_layers,
            dropout=dropout,
            word_dropout=0.0,
            pooling="last",
        )
        super().__init__(config, vocab_size, output_dim)
