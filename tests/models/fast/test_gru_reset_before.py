"""The GRU with the reset gate before the product; test_layers.py compares it with its cell."""

import pytest
import torch
from torch import nn

from rnn_lab.models.cells import GRUCell
from rnn_lab.models.fast.fused_rnn import GRU_RESET_BEFORE, FusedRNN
from rnn_lab.models.functional import zero_padding
from rnn_lab.models.layers import GRU
from rnn_lab.models.reference import run_reference
from tests.models.test_layers import assert_equal


def build(*sizes, dtype=torch.float32, **options):
    torch.manual_seed(0)
    return GRU(*sizes, reset_after=False, **options).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_backward_pass_under_autocast_has_the_types_of_the_forward_pass(dtype):
    layer = build(3, 4, dtype=dtype)
    outputs, _ = layer(torch.randn(2, 5, 3, dtype=dtype), torch.tensor([5, 2]))
    total = outputs.square().sum()
    expected = torch.autograd.grad(total, list(layer.parameters()), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(total, list(layer.parameters()))
    assert_equal(found, expected, 0)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_same_without_gradients(autocast):
    layer = build(3, 4, bidirectional=True)
    inputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = layer(inputs, lengths)
        with torch.no_grad():
            found = layer(inputs, lengths)
    assert_equal(found, expected, 0)


def test_the_way_taken_on_other_devices():
    layer = build(3, 4)
    inputs, lengths = torch.randn(6, 3, 3), torch.tensor([5, 2, 1])
    arguments = inputs, lengths, torch.randn(3, 4), *layer.parameters()
    expected = FusedRNN.apply(GRU_RESET_BEFORE, *arguments[:3], None, *arguments[3:], True)[:2]
    outputs, (last,) = run_reference(
        GRUCell(reset_after=False), *arguments[:2], arguments[2:3], layer.weights(0)
    )
    outputs = zero_padding(outputs, lengths)
    assert_equal([outputs, last], expected, 1e-6)

    def gradients(results):
        return torch.autograd.grad(sum(part.square().sum() for part in results), arguments[3:])

    assert_equal(gradients([outputs, last]), gradients(expected), 1e-5)


def test_every_tensor_is_made_on_the_device_of_the_inputs():
    layer = build(3, 4).to("meta")
    inputs = torch.empty(6, 3, 3, device="meta", requires_grad=True)
    lengths, h = torch.empty(3, device="meta"), torch.empty(3, 4, device="meta")
    outputs, (last,) = run_reference(layer.cell, inputs, lengths, (h,), layer.weights(0))
    (outputs.sum() + last.sum()).backward()
    assert [t.device.type for t in (outputs, last, inputs.grad)] == ["meta"] * 3
    assert outputs.shape == (6, 3, 4)
    assert last.shape == (3, 4)


def test_only_torchs_own_layer_is_left_to_cudnn():
    inputs = torch.empty(1, 1, 3, device="meta")
    assert GRU(3, 4, reset_after=True)._packs(inputs)
    assert not GRU(3, 4, reset_after=False)._packs(inputs)


def test_weights_and_initialization_are_torchs_in_both_forms():
    torch.manual_seed(0)
    theirs = nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    inputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    found = []
    for reset_after in (False, True):
        torch.manual_seed(0)
        ours = GRU(3, 4, num_layers=2, bidirectional=True, reset_after=reset_after)
        for name, weight in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], weight)
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())
        assert f"reset_after={reset_after}" in repr(ours)
        found.append(ours(inputs, lengths)[0])
    assert not torch.allclose(*found, atol=1e-2)
