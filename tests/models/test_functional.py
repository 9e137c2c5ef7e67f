"""Dropout against its definition, and against torch's where there is nothing random."""

import pytest
import torch
from torch import nn

from rnn_lab.models.functional import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_mean(p):
    torch.manual_seed(0)
    outputs = dropout(torch.ones(400, 64, 128), p, training=True)
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
