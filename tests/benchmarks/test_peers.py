import pytest
import torch
from torch import nn

from benchmarks.peers import PackedLayer, TextbookClassifier
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig
from rnn_lab.models.layers import RecurrentLayer

LENGTHS = torch.tensor([3, 7, 1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_packed_peer_computes_the_same_logits(name: str, bidirectional: bool) -> None:
    config = ModelConfig.model_validate(
        {
            "name": name,
            "embedding_dim": 4,
            "hidden_size": 5,
            "bidirectional": bidirectional,
            "dropout": 0.0,
            "word_dropout": 0.0,
            "pooling": "last",
        }
    )
    ours = RecurrentClassifier(config, vocab_size=20, num_classes=2)
    textbook = TextbookClassifier(config, vocab_size=20, num_classes=2, reads="packed")
    textbook.load_state_dict(ours.state_dict())
    tokens = torch.randint(2, 20, (3, 7))

    torch.testing.assert_close(textbook(tokens, LENGTHS), ours(tokens, LENGTHS))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_packed_layer_trains_our_parameters(name: str) -> None:
    ours = RecurrentLayer(name, 4, 5, num_layers=2, bidirectional=True)
    packed = PackedLayer(ours)
    inputs = torch.randn(3, 7, 4)

    packed(inputs, LENGTHS)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    with torch.no_grad():
        for parameter in ours.parameters():
            nn.init.normal_(parameter)
    torch.testing.assert_close(packed(inputs, LENGTHS)[0], ours(inputs, LENGTHS)[0])
