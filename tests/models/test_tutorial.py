"""The tutorial's classifier: its constructor, its equations, and that the experiment trains it."""

import torch
from torch import nn

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import LSTMConfig
from rnn_lab.models.lightning_module import TextClassifier
from tests.test_conf import composed


class TutorialClassifier(RecurrentClassifier):
    """Build what experiment=tutorial trains from the arguments of the tutorial's constructor."""

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        output_dim: int,  # number of classes, one logit each
        n_layers: int,
        dropout: float,  # on embeddings, between layers and before the linear layer
    ) -> None:
        config = LSTMConfig(
            name="lstm",
            embedding_dim=embedding_dim,
            hidden_size=hidden_dim,
            num_layers=n_layers,
            dropout=dropout,
            word_dropout=0.0,
        )
        super().__init__(config, vocab_size, output_dim)


class AsWritten(nn.Module):
    """The classifier as tutorials write it, for one review without padding."""

    def __init__(self, vocab_size, embedding_dim, hidden_dim, output_dim, n_layers, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.recurrent = nn.LSTM(
            embedding_dim, hidden_dim, num_layers=n_layers, dropout=dropout, batch_first=True
        )
        self.linear = nn.Linear(hidden_dim, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text):
        _, (hidden, _) = self.recurrent(self.dropout(self.embedding(text)))
        return self.linear(self.dropout(hidden[-1]))


def test_equals_the_classifier_as_written_on_each_review_alone() -> None:
    torch.manual_seed(0)
    sizes = (50, 7, 6, 3, 2, 0.5)
    ours, theirs = TutorialClassifier(*sizes).eval(), AsWritten(*sizes).eval()
    theirs.load_state_dict(dict(ours.named_parameters()))
    lengths = torch.tensor([5, 1, 9, 3])
    tokens = torch.randint(1, 50, (4, 9)) * (torch.arange(9) < lengths[:, None])
    alone = [theirs(review[:n][None])[0] for review, n in zip(tokens, lengths, strict=True)]
    torch.testing.assert_close(ours(tokens, lengths), torch.stack(alone))
    assert not torch.allclose(theirs(tokens)[1], alone[1])  # the state read after the padding


def test_dropout_rate_is_the_given_probability() -> None:
    tokens, lengths = torch.randint(1, 50, (2, 5)), torch.tensor([5, 5])
    for dropout, changes in ((0.0, False), (0.9, True)):
        model = TutorialClassifier(50, 7, 64, 3, 2, dropout).train()
        assert torch.equal(model(tokens, lengths), model(tokens, lengths)) is not changes


def test_is_what_the_experiment_trains() -> None:
    config = composed("experiment=tutorial")
    trained = TextClassifier(config.model, 400, 2, config.optimizer, config.scheduler).classifier
    model = TutorialClassifier(
        vocab_size=400, embedding_dim=100, hidden_dim=256, output_dim=2, n_layers=2, dropout=0.5
    )
    assert trained.word_dropout == model.word_dropout == 0
    assert trained.dropout.p == trained.recurrent.dropout == model.recurrent.dropout == 0.5
    model.load_state_dict(trained.state_dict())
    tokens, lengths = torch.randint(1, 400, (2, 5)), torch.tensor([5, 2])
    assert torch.equal(model.eval()(tokens, lengths), trained.eval()(tokens, lengths))
