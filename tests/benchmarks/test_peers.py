import pytest
import torch
from torch import nn

from benchmarks.contenders import plain_model
from benchmarks.peers import CompiledStepClassifier, PackedLayer, TextbookClassifier
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
    textbook.load_state_dict(dict(ours.named_parameters()))
    tokens = torch.randint(2, 20, (3, 7))

    torch.testing.assert_close(textbook(tokens, LENGTHS), ours(tokens, LENGTHS))


@pytest.mark.parametrize("kind", ["gathered", "compiled"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_correct_peers_on_padded_blocks_compute_the_same_logits(name: str, kind: str) -> None:
    config = plain_model(name, 5)
    ours = RecurrentClassifier(config, vocab_size=20, num_classes=2)
    peer: nn.Module = CompiledStepClassifier(config, vocab_size=20, num_classes=2)
    if kind == "gathered":
        peer = TextbookClassifier(config, vocab_size=20, num_classes=2, reads="gathered")
    peer.load_state_dict(dict(ours.named_parameters()))
    tokens = torch.randint(2, 20, (3, 7))

    with torch.compiler.set_stance("force_eager"):  # the equations, without half a minute of gcc
        torch.testing.assert_close(peer(tokens, LENGTHS), ours(tokens, LENGTHS))


def test_padded_states_are_wrong_and_cannot_be_gathered_in_both_directions() -> None:
    config = plain_model("gru", 5)
    ours = RecurrentClassifier(config, vocab_size=20, num_classes=2)
    peer = TextbookClassifier(config, vocab_size=20, num_classes=2, reads="padded")
    peer.load_state_dict(dict(ours.named_parameters()))
    tokens = torch.randint(2, 20, (3, 7))
    same = torch.isclose(peer(tokens, LENGTHS), ours(tokens, LENGTHS)).all(dim=1)
    assert same.tolist() == [False, True, False]  # only the longest has no padding
    with pytest.raises(ValueError, match="cannot be gathered"):
        TextbookClassifier(plain_model("gru", 5, bidirectional=True), 20, 2, reads="gathered")


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
