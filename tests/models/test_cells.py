"""The cells against torch's own, and against equations that join state and input."""

import pytest
import torch
from torch import nn

from rnn_lab.models.cells import GRUCell, LSTMCell, RNNCell

BATCH, INPUT, HIDDEN = 3, 4, 5
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def weights(gates):
    rows = gates * HIDDEN
    values = random(rows, INPUT), random(rows, HIDDEN), random(rows), random(rows)
    return dict(zip(NAMES, values, strict=True))


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def torch_cell(cell_class, given):
    cell = cell_class(INPUT, HIDDEN, dtype=torch.float64)
    cell.load_state_dict(given)
    return cell


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_rnn_equals_torchs():
    given, x, h = weights(1), random(BATCH, INPUT), random(BATCH, HIDDEN)
    assert_equal(RNNCell().step(x, (h,), given)["h"], torch_cell(nn.RNNCell, given)(x, h))


def test_lstm_equals_torchs():
    given, x, h, c = weights(4), random(BATCH, INPUT), random(BATCH, HIDDEN), random(BATCH, HIDDEN)
    step = LSTMCell().step(x, (h, c), given)
    assert_equal((step["h"], step["C"]), torch_cell(nn.LSTMCell, given)(x, (h, c)))


def test_gru_with_reset_after_equals_torchs():
    given, x, h = weights(3), random(BATCH, INPUT), random(BATCH, HIDDEN)
    assert_equal(
        GRUCell(reset_after=True).step(x, (h,), given)["h"], torch_cell(nn.GRUCell, given)(x, h)
    )


def joined(given, gates):
    """W' = [U, W] and b' = b + c of each gate, as tutorials have them."""
    weight_ih, weight_hh, bias_ih, bias_hh = given.values()
    rows = torch.cat([weight_hh, weight_ih], dim=1).chunk(gates)
    return rows, (bias_ih + bias_hh).chunk(gates)


def test_rnn_is_the_joined_form():
    given, x, h = weights(1), random(BATCH, INPUT), random(BATCH, HIDDEN)
    (w,), (b,) = joined(given, 1)
    assert_equal(RNNCell().step(x, (h,), given)["h"], torch.tanh(torch.cat([h, x], 1) @ w.T + b))


def test_lstm_is_the_joined_form():
    given, x, h, c = weights(4), random(BATCH, INPUT), random(BATCH, HIDDEN), random(BATCH, HIDDEN)
    (w_i, w_f, w_c, w_o), (b_i, b_f, b_c, b_o) = joined(given, 4)
    hx = torch.cat([h, x], dim=1)
    expected = {
        "f": torch.sigmoid(hx @ w_f.T + b_f),
        "i": torch.sigmoid(hx @ w_i.T + b_i),
        "C_tilde": torch.tanh(hx @ w_c.T + b_c),
        "o": torch.sigmoid(hx @ w_o.T + b_o),
    }
    expected["C"] = expected["f"] * c + expected["i"] * expected["C_tilde"]
    expected["h"] = expected["o"] * torch.tanh(expected["C"])
    assert_equal(LSTMCell().step(x, (h, c), given), expected)


def test_gru_with_reset_before_is_the_joined_form():
    given, x, h = weights(3), random(BATCH, INPUT), random(BATCH, HIDDEN)
    (w_r, w_z, w), (b_r, b_z, b) = joined(given, 3)
    hx = torch.cat([h, x], dim=1)
    r, z = torch.sigmoid(hx @ w_r.T + b_r), torch.sigmoid(hx @ w_z.T + b_z)
    h_tilde = torch.tanh(torch.cat([r * h, x], dim=1) @ w.T + b)
    expected = {"z": z, "r": r, "h_tilde": h_tilde, "h": (1 - z) * h + z * h_tilde}
    assert_equal(GRUCell(reset_after=False).step(x, (h,), given), expected)


def test_gru_gates_by_the_names_of_the_tutorial_in_both_forms():
    given, x, h = weights(3), random(BATCH, INPUT), random(BATCH, HIDDEN)
    for after in (False, True):
        step = GRUCell(after).step(x, (h,), given)
        assert_equal(step["h"], (1 - step["z"]) * h + step["z"] * step["h_tilde"])
    # With the state at zero no reset gate matters but through c: and the rows of z are read as 1-z.
    without_c = given | {"bias_hh": torch.zeros_like(given["bias_hh"])}
    before, after = (GRUCell(form).step(x, (0 * h,), without_c) for form in (False, True))
    assert_equal((before["r"], before["h_tilde"]), (after["r"], after["h_tilde"]))
    assert_equal(before["z"], 1 - after["z"])
