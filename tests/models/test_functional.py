"""Dropout against its definition, and against torch's where there is nothing random."""

import pytest
import torch
from torch import nn

from rnn_lab.models.fast.fused_dropout import draw_chances, fused_dropout, knows_the_generator
from rnn_lab.models.functional import Dropout, dropout, dropout_by_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_mean(p):
    torch.manual_seed(0)
    outputs = dropout(torch.ones(400, 64, 128), p, training=True)  # compiled
    zeros = (outputs == 0).double()
    # Of n elements the share is off by sqrt(p (1 - p) / n), 0.0003 at most; in every one of the
    # four lanes that share a random number, and for every pair of them.
    assert abs(zeros.mean() - p) < 0.002
    lanes = zeros.view(-1, 4)
    assert (lanes.mean(dim=0) - p).abs().max() < 0.002
    assert (torch.corrcoef(lanes.t()) - torch.eye(4)).abs().max() < 0.005
    assert (
        abs(torch.corrcoef(torch.stack([zeros.flatten()[4:], zeros.flatten()[:-4]]))[0, 1]) < 0.005
    )
    assert abs(outputs.double().mean() - 1) < 0.01
    kept = outputs[outputs != 0]
    assert torch.equal(kept, kept[0].expand_as(kept))
    assert abs(kept[0] * (1 - p) - 1) < 1e-4


def test_gradient_goes_through_what_was_kept():
    torch.manual_seed(0)
    inputs = torch.randn(5, 3, 7, dtype=torch.float64, requires_grad=True)
    outputs = dropout(inputs, 0.5, training=True)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert torch.equal(gradient * inputs, outputs)
    assert set(gradient.unique().tolist()) == {0.0, 2.0}


def test_nothing_happens_outside_training_or_without_dropout():
    inputs = torch.randn(4, 5)
    assert torch.equal(Dropout(0.5).eval()(inputs), nn.Dropout(0.5).eval()(inputs))
    before = torch.random.get_rng_state()
    assert torch.equal(Dropout(0.0)(inputs), inputs)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_generators_state_decides_the_mask():
    masks = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(3, 5)))
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 3)])
def test_any_shape(shape):
    assert dropout(torch.ones(shape), 0.5, training=True).shape == shape


def test_everything_is_dropped():
    assert torch.equal(dropout(torch.ones(3, 2), 1.0, training=True), torch.zeros(3, 2))


@pytest.mark.parametrize("drawn", [0, 1, 2, 623, 624, 700])  # from a block of 624 numbers
@pytest.mark.parametrize("count", [1, 6, 2496, 9999])
def test_compiled_code_draws_the_numbers_of_torchs_generator(drawn, count):
    assert knows_the_generator()
    torch.manual_seed(5)
    torch.rand(drawn)
    state = torch.get_rng_state()
    expected = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    assert torch.equal(draw_chances(count), expected.view(torch.int16)[:count])
    assert torch.equal(torch.get_rng_state(), after)


def in_time_major_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize("time_major", [False, True])
def test_the_compiled_form_is_the_product_with_a_mask(dtype, p, time_major, set_threads):
    """The mask of an element is that of its place, in whatever order memory is."""
    torch.manual_seed(0)
    inputs, gradient = torch.randn(2, 40, 30, 20).to(dtype)
    if time_major:
        inputs = in_time_major_memory(inputs)
    inputs.requires_grad_()
    state, dropped = torch.get_rng_state(), round(p * 2**16)
    expected = dropout_by_mask(inputs, dropped, 2**16 / (2**16 - dropped))
    after = torch.get_rng_state()
    (expected_gradient,) = torch.autograd.grad(expected, inputs, gradient)
    for threads in (1, 2):
        set_threads(threads)
        torch.set_rng_state(state)
        found = dropout(inputs, p, training=True)
        assert "_Drop" in type(found.grad_fn).__name__
        torch.testing.assert_close(found, expected)
        (found_gradient,) = torch.autograd.grad(found, inputs, gradient)
        torch.testing.assert_close(found_gradient, expected_gradient)
        assert torch.equal(torch.get_rng_state(), after)


def test_the_compiled_form_can_be_differentiated_twice():
    inputs = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)

    def dropped(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)
        return fused_dropout(in_time_major_memory(x), 2**15, 2.0) ** 2

    assert torch.autograd.gradcheck(dropped, inputs)
    assert torch.autograd.gradgradcheck(dropped, inputs)
