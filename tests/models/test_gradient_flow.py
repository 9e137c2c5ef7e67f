"""dL/dh_t is the whole derivative, counted from each sequence's own end."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import validate_model
from rnn_lab.models.trace import gradient_norms

LENGTHS = [7, 2, 5, 1, 7]
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make_classifier(name: str, **options) -> RecurrentClassifier:
    torch.manual_seed(3)
    config = validate_model({"name": name, "embedding_dim": 3, "hidden_size": 4} | options)
    classifier = RecurrentClassifier(config, vocab_size=9, num_classes=2).double()
    with torch.no_grad():
        classifier.embedding.weight[1:].normal_()  # so large that no gate is linear
    return classifier


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    tokens = torch.randint(2, 9, (5, 7), generator=generator)
    tokens = tokens.where(torch.arange(7) < lengths[:, None], 0)
    return tokens, lengths, torch.tensor([0, 1, 1, 0, 1])


def test_of_a_plain_network_it_is_the_product_of_jacobians():
    """dL/dh_{t-1} = U' diag(1 - h_t^2) dL/dh_t, in NumPy (Pascanu et al. 2013, equation 5)."""
    classifier = make_classifier("rnn")
    tokens, lengths, labels = make_batch()
    rnn = classifier.recurrent
    w, u, b, linear = (
        parameter.detach().numpy()
        for parameter in (
            rnn.weight_ih_l0,
            rnn.weight_hh_l0,
            rnn.bias_ih_l0 + rnn.bias_hh_l0,
            classifier.linear.weight,
        )
    )
    norms = [[] for _ in range(7)]
    for row, length in enumerate(LENGTHS):
        words = classifier.embedding.weight.detach().numpy()[tokens[row, :length].numpy()]
        h = [np.zeros(4)]
        for x in words:
            h.append(np.tanh(w @ x + u @ h[-1] + b))
        logits = linear @ h[-1] + classifier.linear.bias.detach().numpy()
        d_logits = np.exp(logits) / np.exp(logits).sum() - np.eye(2)[labels[row]]
        d_h = linear.T @ d_logits
        for distance in range(length):
            norms[distance].append(np.linalg.norm(d_h))
            d_h = u.T @ ((1 - h[length - distance] ** 2) * d_h)
    (measured,) = gradient_norms(classifier, tokens, lengths, labels)
    assert measured[:2] == (0, False)
    assert measured.sequences.tolist() == [5, 4, 3, 3, 3, 2, 2]
    np.testing.assert_allclose(measured.norms, [np.mean(n) for n in norms], rtol=1e-12)


def loss_after_a_push(classifier, name, words, label, place, push) -> Tensor:
    """The loss of one sequence with `push` added to one h, by torch.nn's layers.

    place: layer, backward, and the step in the order in which the direction reads.
    """
    layers, hidden = classifier.recurrent.num_layers, classifier.recurrent.hidden_size
    x = classifier.embedding(words)  # [length, features]
    for layer in range(layers):
        outputs = []
        for backward in range(classifier.recurrent.directions):
            module = TORCH[name](x.shape[1], hidden).double()
            end = f"_l{layer}" + "_reverse" * backward
            module.load_state_dict(
                {
                    f"{key.removesuffix(end)}_l0": value
                    for key, value in classifier.recurrent.state_dict().items()
                    if key.endswith(end)
                }
            )
            source = x.flip(0) if backward else x
            if (layer, bool(backward)) == place[:2]:
                first, rest = source[: place[2] + 1], source[place[2] + 1 :]
                output, state = module(first)
                h = (state[0] if name == "lstm" else state) + push
                output = torch.cat([output[:-1], h])
                if len(rest):
                    more, _ = module(rest, (h, state[1]) if name == "lstm" else h)
                    output = torch.cat([output, more])
            else:
                output, _ = module(source)
            outputs.append(output.flip(0) if backward else output)
        x = torch.cat(outputs, dim=1)
    if classifier.pooling == "last":
        pooled = torch.cat([x[-1, :hidden], x[0, hidden:]])
    else:
        pooled = x.mean(dim=0)
    return cross_entropy(classifier.linear(pooled), label)


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "mean"}, {"num_layers": 2, "bidirectional": True}],
    ids=["last", "mean", "deep and bidirectional"],
)
def test_it_is_what_a_push_at_that_step_does_to_the_loss(name, options):
    classifier = make_classifier(name, **options)
    tokens, lengths, labels = make_batch()
    for measured in gradient_norms(classifier, tokens, lengths, labels):
        norms = [[] for _ in range(7)]
        for row, length in enumerate(LENGTHS):
            for step in range(length):
                push = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
                place = measured.layer, measured.backward, step
                words = tokens[row, :length]
                loss = loss_after_a_push(classifier, name, words, labels[row], place, push)
                (gradient,) = torch.autograd.grad(loss, push)
                norms[length - 1 - step].append(float(gradient.norm()))
        expected = [np.mean(n) for n in norms]
        np.testing.assert_allclose(measured.norms, expected, rtol=1e-9, atol=1e-15)


def test_directions_come_in_torchs_order():
    classifier = make_classifier("gru", num_layers=2, bidirectional=True)
    measured = gradient_norms(classifier, *make_batch())
    assert [one[:2] for one in measured] == [(0, False), (0, True), (1, False), (1, True)]


def test_small_gradients_are_not_rounded_to_zero():
    """Of float32, 1e-30 is a number and its square is not."""
    classifier = make_classifier("rnn")
    with torch.no_grad():
        classifier.recurrent.weight_hh_l0.mul_(1e-5)
    (exact,) = gradient_norms(classifier, *make_batch())
    (single,) = gradient_norms(classifier.float(), *make_batch())
    assert 1e-40 < exact.norms[6] < 1e-25
    np.testing.assert_allclose(single.norms, exact.norms, rtol=1e-3)


def test_the_classifier_is_left_as_it_was():
    classifier = make_classifier("lstm", dropout=0.5).train()
    for parameter in classifier.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        first = gradient_norms(classifier, *make_batch())
    again = gradient_norms(classifier, *make_batch())
    assert torch.equal(first[0].norms, again[0].norms)
    assert classifier.training
    assert all((parameter.grad == 1).all() for parameter in classifier.parameters())
