"""Cells, fast paths and torch's layers: one network three ways, to the last gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnn_lab.models.layers import GRU, LSTM, RNN
from tests.models.by_cells import by_cells
from tests.models.test_layers import (
    assert_equal,
    packed,
    random_state,
    results,
    unpacked,
)

# Ours, and torch's where the equations are torch's.
FORMS = {
    "rnn": (RNN, {}, nn.RNN),
    "lstm": (LSTM, {}, nn.LSTM),
    "gru, reset after": (GRU, {"reset_after": True}, nn.GRU),
    "gru, reset before": (GRU, {"reset_after": False}, None),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None, derandomize=True)  # times four forms: 120 shapes
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    extra=st.integers(0, 2),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3)),
    bidirectional=st.booleans(),
    with_state=st.booleans(),
    seed=st.integers(0, 999),
)
def test_values_and_all_gradients_are_equal(
    form, lengths, extra, sizes, bidirectional, with_state, seed
):
    torch.manual_seed(seed)
    ours_class, options, theirs_class = FORMS[form]
    input_size, hidden_size, num_layers = sizes
    layer = ours_class(*sizes, bidirectional=bidirectional, **options).double()
    inputs = torch.randn(len(lengths), max(lengths) + extra, input_size, dtype=torch.float64)
    shape = (num_layers * (1 + bidirectional), len(lengths), hidden_size)
    state = random_state(form, shape, torch.float64) if with_state else None
    given_all = (inputs, torch.tensor(lengths), state)
    cells = results(by_cells, layer, *given_all)
    # outputs, final state, and the gradients of inputs, initial state and every weight
    states = 2 if form == "lstm" else 1
    weights = 4 * num_layers * (1 + bidirectional)
    assert len(cells) == 1 + states + 1 + states * with_state + weights
    assert_equal(results(unpacked, layer, *given_all), cells, 1e-10)
    if theirs_class is not None:
        theirs = theirs_class(*sizes, batch_first=True, bidirectional=bidirectional).double()
        theirs.load_state_dict(layer.state_dict())
        assert_equal(results(packed, theirs, *given_all), cells, 1e-10)
