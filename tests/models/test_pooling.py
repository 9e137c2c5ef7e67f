"""Pooling against loops over single reviews, and against the states that torch itself returns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.pooling import pool as pooled
from rnn_lab.models.registry import POOLINGS as REGISTERED

POOLINGS = ["last", "mean", "max", "max_mean", "last_max_mean"]


COMPILED = pytest.mark.parametrize("use_numba", [False, True])


def pool(outputs, lengths, name, bidirectional=False, module=None, use_numba=True):
    return pooled(name, module, outputs, lengths, bidirectional, use_numba=use_numba)


def padded(lengths: list[int], features: int, extra: int = 0, seed: int = 0) -> torch.Tensor:
    """Random outputs [batch, time, features], zero past each length."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(
        len(lengths), max(lengths) + extra, features, generator=generator, dtype=torch.float64
    )
    for review, length in enumerate(lengths):
        outputs[review, length:] = 0
    return outputs


@COMPILED
def test_by_hand(use_numba):
    def pool(outputs, lengths, name, bidirectional=False):
        return pooled(name, None, outputs, lengths, bidirectional, use_numba=use_numba)

    outputs = torch.tensor([[[-1.0, 4.0], [-3.0, 2.0], [0.0, 0.0]]])
    lengths = torch.tensor([2])
    assert pool(outputs, lengths, "last").tolist() == [[-3.0, 2.0]]
    assert pool(outputs, lengths, "last", bidirectional=True).tolist() == [[-3.0, 4.0]]
    assert pool(outputs, lengths, "mean").tolist() == [[-2.0, 3.0]]
    # The padding is larger than every real value of the first feature, and must not win.
    assert pool(outputs, lengths, "max").tolist() == [[-1.0, 4.0]]
    assert pool(outputs, lengths, "max_mean").tolist() == [[-1.0, 4.0, -2.0, 3.0]]
    # h_T, maximum, mean: the order of Howard and Ruder's equation.
    joined = pool(outputs, lengths, "last_max_mean", bidirectional=True).tolist()
    assert joined == [[-3.0, 4.0, -1.0, 4.0, -2.0, 3.0]]


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    extra=st.integers(0, 5),
    time_major=st.booleans(),
    seed=st.integers(0, 999),
    use_numba=st.booleans(),
)
def test_equals_pooling_each_review_alone(lengths, extra, time_major, seed, use_numba):
    outputs = padded(lengths, 4, extra, seed)
    if time_major:  # as the recurrent layers lay it out
        outputs = outputs.transpose(0, 1).contiguous().transpose(0, 1)
    reviews = [outputs[b, :length] for b, length in enumerate(lengths)]
    expected = {
        "last": torch.stack([review[-1] for review in reviews]),
        "mean": torch.stack([review.mean(0) for review in reviews]),
        "max": torch.stack([review.amax(0) for review in reviews]),
    }
    expected["max_mean"] = torch.cat([expected["max"], expected["mean"]], dim=1)
    expected["last_max_mean"] = torch.cat([expected["last"], expected["max_mean"]], dim=1)
    for pooling, value in expected.items():
        assert value.shape[1] == 4 * REGISTERED[pooling].factor
        found = pool(outputs, torch.tensor(lengths), pooling, use_numba=use_numba)
        torch.testing.assert_close(found, value)


def test_attention_is_a_softmax_over_each_review_alone():
    """Yang et al. 2016, equations 5 to 7, review by review."""
    torch.manual_seed(0)
    attention = REGISTERED["attention"].build_module(4).double()
    lengths = [3, 1, 5]
    outputs = padded(lengths, 4, extra=2).requires_grad_()
    found = pool(outputs, torch.tensor(lengths), "attention", module=attention)
    for pooled_review, review, length in zip(found, outputs, lengths, strict=True):
        h = review[:length]
        u = torch.tanh(h @ attention.project.weight.T + attention.project.bias)
        a = torch.exp(u @ attention.query.weight[0])
        torch.testing.assert_close(pooled_review, ((a / a.sum())[:, None] * h).sum(0))
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert gradient[1, 1:].eq(0).all() and gradient[0, :3].ne(0).all()


@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_is_the_final_state_of_each_direction(cell, bidirectional):
    torch.manual_seed(0)
    layer = cell(3, 5, num_layers=2, bidirectional=bidirectional, batch_first=True)
    lengths = torch.tensor([4, 1, 7])
    packed = pack_padded_sequence(
        torch.randn(3, 7, 3), lengths, batch_first=True, enforce_sorted=False
    )
    outputs, state = layer(packed)
    h = state[0] if cell is nn.LSTM else state
    expected = torch.cat([h[-2], h[-1]], dim=1) if bidirectional else h[-1]
    outputs, _ = pad_packed_sequence(outputs, batch_first=True)
    torch.testing.assert_close(pool(outputs, lengths, "last", bidirectional), expected)


@COMPILED
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients(pooling, bidirectional, use_numba):
    lengths = torch.tensor([3, 1, 5])
    outputs = padded([3, 1, 5], 4, extra=1).requires_grad_()
    real = (torch.arange(6) < lengths[:, None])[:, :, None]

    def run(x):
        # Outputs past the end are constants to the recurrent layers; here they are held at zero.
        return pool(x * real, lengths, pooling, bidirectional, use_numba=use_numba)

    assert torch.autograd.gradcheck(run, outputs)
    assert torch.autograd.gradgradcheck(run, outputs)


@COMPILED
@pytest.mark.parametrize("pooling", POOLINGS)
def test_keeps_the_precision_of_its_input(pooling, use_numba):
    """bfloat16 has 8 bits: results and gradients are those of float64, rounded a few times."""
    lengths = torch.tensor([2, 300])
    outputs = padded([2, 300], 24).bfloat16().requires_grad_()
    exact = outputs.detach().double().requires_grad_()
    found = pool(outputs, lengths, pooling, True, use_numba=use_numba)
    expected = pool(exact, lengths, pooling, True, use_numba=use_numba)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=1e-3)
    weights = torch.randn(expected.shape, dtype=torch.float64).bfloat16()
    found.backward(weights)
    expected.backward(weights.double())
    torch.testing.assert_close(outputs.grad.double(), exact.grad, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "max", "last_max_mean"])
def test_half_precision_on_a_cpu(pooling):
    outputs, lengths = padded([2, 30], 8).half(), torch.tensor([2, 30])
    found = pool(outputs, lengths, pooling, False)
    expected = pool(outputs.double(), lengths, pooling, False)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=1e-3)


@COMPILED
def test_the_first_of_equal_maxima_gets_the_gradient(use_numba):
    outputs = torch.tensor([[[1.0], [3.0], [3.0], [5.0]]], requires_grad=True)
    pool(outputs, torch.tensor([3]), "max", use_numba=use_numba).sum().backward()
    assert outputs.grad.flatten().tolist() == [0, 1, 0, 0]


@COMPILED
@pytest.mark.parametrize("pooling", POOLINGS[1:])
def test_a_nan_is_seen(pooling, use_numba):
    outputs = torch.tensor([[[1.0, 1.0], [torch.nan, 2.0], [3.0, 3.0]]])
    found = pool(outputs, torch.tensor([3]), pooling, use_numba=use_numba)
    assert found.isnan().any()


def test_threads_change_no_bit(set_threads):
    lengths = [7, 3, 9, 1] * 16
    outputs = padded(lengths, 40).float()
    found = []
    for threads in (1, 2):
        set_threads(threads)
        leaf = outputs.clone().requires_grad_()
        result = pool(leaf, torch.tensor(lengths), "last_max_mean", True)
        result.pow(2).sum().backward()
        found.append((result, leaf.grad))
    assert all(map(torch.equal, *found))
