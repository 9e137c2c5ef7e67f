"""Each sequence reversed within its own length."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rnn_lab.models.reverse import reversal_index, reverse


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=6), extra=st.integers(0, 3))
def test_reverses_each_within_its_length_and_leaves_padding(lengths, extra):
    time = max(lengths) + extra
    sequences = torch.randn(time, len(lengths), 2)
    expected = sequences.clone()
    for row, length in enumerate(lengths):
        expected[:length, row] = sequences[:length, row].flip(0)
    order = reversal_index(torch.tensor(lengths), time)
    assert torch.equal(reverse(sequences, order), expected)
    assert torch.equal(reverse(expected, order), sequences)


def test_gradient():
    lengths = torch.tensor([3, 1, 4])
    sequences = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    order = reversal_index(lengths, 5)
    assert torch.autograd.gradcheck(lambda x: reverse(x, order), [sequences])
    assert torch.autograd.gradgradcheck(lambda x: reverse(x, order), [sequences])
