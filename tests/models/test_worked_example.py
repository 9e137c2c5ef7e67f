"""The tutorial's worked example, "the cat sat on the mat", number by number.

Plain Python floats, one unit and one gate at a time, against the cells and the fast layers.
"""

import math

import pytest
import torch

from rnn_lab.models.layers import GRU, LSTM
from rnn_lab.models.trace import trace

WORDS = ["the", "cat", "sat", "on", "mat"]
SENTENCE = ["the", "cat", "sat", "on", "the", "mat"]
VECTORS = {  # of two features a word
    "the": [0.1, -0.2],
    "cat": [0.9, 0.4],
    "sat": [-0.5, 0.8],
    "on": [0.2, 0.3],
    "mat": [0.7, -0.6],
}
UNITS = 2


def weights_of(gate):
    """The joined W [h, x] + b of a gate: for each unit two weights of h, two of x, and b."""
    first = {"f": 0.3, "i": -0.4, "C": 0.8, "o": 0.5, "z": 0.6, "r": -0.7, "h": 0.9}[gate]
    return [
        {"h": [first, -0.5 * first], "x": [0.4 + first, 0.2], "b": 0.1 * first},
        {"h": [0.25, first - 0.3], "x": [-first, 0.7 * first], "b": -0.2},
    ]


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def gate(name, squash, h, x, of_state=None):
    """squash(W [h, x] + b), unit by unit; `of_state` scales the part of h after its product."""
    values = []
    for unit, row in enumerate(weights_of(name)):
        from_h = sum(w * value for w, value in zip(row["h"], h, strict=True))
        from_x = sum(w * value for w, value in zip(row["x"], x, strict=True))
        scale = 1.0 if of_state is None else of_state[unit]
        values.append(squash(scale * from_h + from_x + row["b"]))
    return values


def lstm_by_hand(words):
    h, C = [0.0] * UNITS, [0.0] * UNITS  # noqa: N806
    steps = []
    for word in words:
        x = VECTORS[word]
        f, i, o = (gate(name, sigmoid, h, x) for name in "fio")
        C_tilde = gate("C", math.tanh, h, x)  # noqa: N806
        C = [f[k] * C[k] + i[k] * C_tilde[k] for k in range(UNITS)]  # noqa: N806
        h = [o[k] * math.tanh(C[k]) for k in range(UNITS)]
        steps.append({"f": f, "i": i, "C_tilde": C_tilde, "C": C, "o": o, "h": h})
    return steps


def gru_by_hand(words, reset):
    h = [0.0] * UNITS
    steps = []
    for word in words:
        x = VECTORS[word]
        r, z = gate("r", sigmoid, h, x), gate("z", sigmoid, h, x)
        if reset == "before":
            h_tilde = gate("h", math.tanh, [r[k] * h[k] for k in range(UNITS)], x)
        else:
            h_tilde = gate("h", math.tanh, h, x, of_state=r)
            z = [1 - share for share in z]  # torch's z is the share of the old state
        h = [(1 - z[k]) * h[k] + z[k] * h_tilde[k] for k in range(UNITS)]
        steps.append({"z": z, "r": r, "h_tilde": h_tilde, "h": h})
    return steps


def with_weights(layer, gates):
    """Both directions of `layer` with the weights above, in torch's order of gates."""
    rows = [row for name in gates for row in weights_of(name)]
    layer = layer.double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            part = {"weight_ih": "x", "weight_hh": "h", "bias_ih": "b"}.get(name.partition("_l")[0])
            values = [row[part] if part else 0.0 for row in rows]  # no second bias
            parameter.copy_(torch.tensor(values, dtype=torch.float64))
    return layer


@pytest.mark.parametrize("model", ["lstm", "gru, before", "gru, after"])
def test_every_gate_at_every_word(model):
    if model == "lstm":
        layer = with_weights(LSTM(2, UNITS, bidirectional=True), "ifCo")
        by_hand = lstm_by_hand
    else:
        reset = model.partition(", ")[2]
        gru = GRU(2, UNITS, bidirectional=True, reset_after=reset == "after")
        layer = with_weights(gru, "rzh")

        def by_hand(words):
            return gru_by_hand(words, reset)

    sentences = [SENTENCE, ["the", "cat", "sat"]]
    embedding = torch.tensor([[0.0, 0.0]] + [VECTORS[word] for word in WORDS], dtype=torch.float64)
    tokens = torch.zeros(2, 6, dtype=torch.int64)  # 0 is padding
    for row, sentence in enumerate(sentences):
        tokens[row, : len(sentence)] = torch.tensor([1 + WORDS.index(word) for word in sentence])
    inputs, lengths = embedding[tokens], torch.tensor([6, 3])

    outputs, _ = layer(inputs, lengths)
    for direction in trace(layer, inputs, lengths):
        for row, sentence in enumerate(sentences):
            steps = by_hand(sentence[::-1])[::-1] if direction.backward else by_hand(sentence)
            for word, step in enumerate(steps):
                for name, expected in step.items():
                    found = direction.values(name)[row, word]
                    assert found.tolist() == pytest.approx(expected, abs=1e-12), name
            half = slice(UNITS, None) if direction.backward else slice(0, UNITS)
            expected = [step["h"] for step in steps]
            found = outputs[row, : len(sentence), half]
            torch.testing.assert_close(
                found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
            )
