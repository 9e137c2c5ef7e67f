"""The variable-length layers against torch's own on packed sequences."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from src.models.recurrent import GRU, LSTM, RNN

PAIRS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}


def packed(layer, inputs, lengths, state):
    sequences = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, final = layer(sequences, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])[0], final


def as_tuple(state):
    return () if state is None else state if isinstance(state, tuple) else (state,)


def results(run, layer, inputs, lengths, state):
    """Outputs, final state and every gradient of one fixed scalar of them all."""
    inputs = inputs.clone().requires_grad_()
    leaves = tuple(part.clone().requires_grad_() for part in as_tuple(state))
    given_state = None if not leaves else leaves if len(leaves) > 1 else leaves[0]
    outputs, final = run(layer, inputs, lengths, given_state)
    values = [outputs, *as_tuple(final)]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(v.shape, generator=generator, dtype=v.dtype) for v in values]
    total = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    gradients = torch.autograd.grad(total, [inputs, *leaves, *layer.parameters()])
    return values + list(gradients)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    extra=st.integers(0, 3),
    input_size=st.integers(1, 5),
    hidden_size=st.integers(1, 6),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 999),
)
def test_equals_packed(
    kind,
    lengths,
    extra,
    input_size,
    hidden_size,
    num_layers,
    bidirectional,
    with_state,
    dtype,
    seed,
):
    torch.manual_seed(seed)
    ours_class, theirs_class = PAIRS[kind]
    ours = ours_class(input_size, hidden_size, num_layers, bidirectional).to(dtype)
    theirs = theirs_class(
        input_size, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
    ).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(len(lengths), max(lengths) + extra, input_size, dtype=dtype)
    state = None
    if with_state:
        shape = (num_layers * (1 + bidirectional), len(lengths), hidden_size)
        parts = tuple(torch.randn(shape, dtype=dtype) for _ in range(1 + (kind == "lstm")))
        state = parts if len(parts) > 1 else parts[0]
    lengths = torch.tensor(lengths)
    expected = results(packed, theirs, inputs, lengths, state)
    found = results(lambda layer, *a: layer(*a), ours, inputs, lengths, state)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= tolerance * max(1.0, other.abs().max())
