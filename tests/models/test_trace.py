"""The trace of a layer: in whose order, of which shape, and equal to what the fast layers give."""

import pytest
import torch

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import validate_model
from rnn_lab.models.layers import GRU, LSTM, RNN
from rnn_lab.models.trace import logits_with_trace, trace

LAYERS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
GATES = {
    "rnn": ("h",),
    "lstm": ("f", "i", "C_tilde", "C", "o", "h"),
    "gru": ("z", "r", "h_tilde", "h"),
}
every_model = pytest.mark.parametrize("name", sorted(LAYERS))
LENGTHS = [2, 5, 1]


def traced(name, num_layers=2, bidirectional=True):
    torch.manual_seed(0)
    layer = LAYERS[name](3, 4, num_layers, bidirectional=bidirectional).double()
    inputs = torch.randn(3, 6, 3, dtype=torch.float64)
    return layer, inputs, trace(layer, inputs, torch.tensor(LENGTHS))


@every_model
def test_directions_come_in_torchs_order(name):
    _, _, traces = traced(name)
    found = [(direction.layer, direction.backward) for direction in traces]
    assert found == [(0, False), (0, True), (1, False), (1, True)]
    _, _, traces = traced(name, bidirectional=False)
    assert [(direction.layer, direction.backward) for direction in traces] == [(0, 0), (1, 0)]


@every_model
def test_every_gate_in_the_order_of_the_tokens(name):
    _, _, traces = traced(name)
    real = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    for direction in traces:
        assert len(direction.steps) == 6
        assert tuple(direction.steps[0]) == GATES[name]
        for gate in GATES[name]:
            values = direction.values(gate)
            assert values.shape == (3, 6, 4)
            assert values[~real].eq(0).all()
            for row, length in enumerate(LENGTHS):
                read = torch.stack([step[gate][row] for step in direction.steps[:length]])
                assert torch.equal(
                    values[row, :length], read.flip(0) if direction.backward else read
                )


@every_model
def test_equals_the_layer(name):
    layer, inputs, traces = traced(name)
    outputs, final = layer(inputs, torch.tensor(LENGTHS))
    top = torch.cat([direction.values("h") for direction in traces[-2:]], dim=2)
    torch.testing.assert_close(top, outputs, rtol=0, atol=1e-12)
    states = {"h": final[0], "C": final[1]} if name == "lstm" else {"h": final}
    for part, expected in states.items():
        found = torch.stack([direction.steps[-1][part] for direction in traces])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@every_model
def test_gradients_of_the_states_are_whole_and_pass_through_padding(name):
    _, _, traces = traced(name, num_layers=1)
    weights = torch.randn(3, 4, dtype=torch.float64)
    for direction in traces:
        # The final state alone is in the loss, as with pooling=last.
        loss = (direction.steps[-1]["h"] * weights).sum()
        gradients = torch.autograd.grad(loss, [step["h"] for step in direction.steps])
        for row, length in enumerate(LENGTHS):
            for gradient in gradients[length - 1 :]:
                assert torch.equal(gradient[row], weights[row])


@every_model
def test_gradients_of_the_states_are_those_of_moving_them(name):
    layer, inputs, traces = traced(name, num_layers=1, bidirectional=False)
    (steps,) = (direction.steps for direction in traces)
    row, length, eps = 1, 5, 1e-6
    (gradient,) = torch.autograd.grad(steps[-1]["h"][row].sum(), [steps[0]["h"]])
    for unit in range(4):
        ends = []
        for sign in (1, -1):  # the rest of the review, from a state that was moved
            h = steps[0]["h"][row].detach().clone()
            h[unit] += sign * eps
            state = (h, steps[0]["C"][row].detach()) if name == "lstm" else (h,)
            state = tuple(part.view(1, 1, 4) for part in state)
            rest, lengths = inputs[row : row + 1, 1:length], torch.tensor([length - 1])
            outputs, _ = layer(rest, lengths, state if name == "lstm" else state[0])
            ends.append(outputs[0, -1].sum().item())
        slope = (ends[0] - ends[1]) / (2 * eps)
        assert gradient[row, unit].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "reset"), [("rnn", None), ("lstm", None), ("gru", "before"), ("gru", "after")]
)
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "last_max_mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_traced_logits_equal_the_classifiers(name, reset, pooling, bidirectional):
    torch.manual_seed(0)
    options = {"embedding_dim": 3, "hidden_size": 4, "num_layers": 2, "name": name}
    options |= {"bidirectional": bidirectional, "pooling": pooling}
    if reset is not None:
        options["reset_after"] = reset == "after"
    config = validate_model(options)
    classifier = RecurrentClassifier(config, vocab_size=9, num_classes=3).double()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.uniform_(-1, 1)
    tokens, lengths = torch.randint(1, 9, (3, 6)), torch.tensor(LENGTHS)
    logits, traces = logits_with_trace(classifier.train(), tokens, lengths)
    expected = classifier.eval()(tokens, lengths)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    assert len(traces) == 2 * (1 + bidirectional)
    found = torch.autograd.grad(logits.square().sum(), list(classifier.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(classifier.parameters()))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@every_model
def test_bad_inputs_are_named(name):
    with pytest.raises(ValueError, match="lengths must be from 1 to the 5 steps"):
        trace(LAYERS[name](3, 4), torch.zeros(2, 5, 3), torch.tensor([5, 0]))
