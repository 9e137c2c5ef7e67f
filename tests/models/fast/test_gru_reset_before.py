"""The GRU with the reset gate before the product against its cell, step by step."""

import pytest
import torch
from torch import nn

from rnn_lab.models.cells import GRUCell
from rnn_lab.models.fast.fused_rnn import GRU_RESET_BEFORE, FusedRNN
from rnn_lab.models.functional import dropout, zero_padding
from rnn_lab.models.layers import GRU, run_reference
from tests.models.by_cells import by_cells
from tests.models.test_layers import assert_equal, results, unpacked


def build(*sizes, dtype=torch.float32, **options):
    torch.manual_seed(0)
    return GRU(*sizes, reset_after=False, **options).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_cells_over_several_blocks_of_time(dtype, monkeypatch):
    monkeypatch.setattr("rnn_lab.models.fast.fused_rnn._BLOCK_ELEMENTS", 2**14)
    layer = build(8, 32, bidirectional=True, dtype=dtype)
    inputs = torch.randn(20, 100, 8, dtype=dtype)
    lengths = torch.cat([torch.tensor([1, 100]), torch.randint(1, 101, (18,))])
    expected = results(by_cells, layer, inputs, lengths)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert_equal(results(unpacked, layer, inputs, lengths), expected, tolerance)


@pytest.mark.parametrize("index", [0, 1])
def test_only_some_results_in_the_loss(index):
    layer = build(3, 4)
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 1])
    gradients = []
    for run in (unpacked, by_cells):
        total = run(layer, inputs, lengths)[index].square().sum()
        gradients.append(torch.autograd.grad(total, list(layer.parameters())))
    assert_equal(*gradients, 1e-5)


def test_last_hidden_is_the_final_state_of_each_direction():
    layer = build(3, 4, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 1])
    final = by_cells(layer, inputs, lengths)[1]
    assert_equal([layer.last_hidden(inputs, lengths)], [torch.cat(list(final[-2:]), 1)], 1e-6)


def test_padding_says_nothing_and_gets_no_gradient():
    layer = build(3, 4, num_layers=2, bidirectional=True)
    lengths = torch.tensor([2, 5, 1])
    real = torch.arange(6) < lengths[:, None]
    inputs = torch.randn(3, 6, 3) * real[:, :, None]
    quiet = results(unpacked, layer, inputs, lengths)
    loud = results(unpacked, layer, inputs + 1e6 * ~real[:, :, None], lengths)
    assert_equal(loud, quiet, 0)
    outputs, _, gradient, *_ = loud
    assert outputs[~real].eq(0).all()
    assert gradient[~real].eq(0).all()
    assert gradient[real].ne(0).all()


def test_dropout_is_between_layers_and_only_in_training():
    layer = build(3, 4, num_layers=2, dropout=0.5)
    below, above, plain = build(3, 4), build(4, 4), build(3, 4, num_layers=2)
    state = layer.state_dict()
    plain.load_state_dict(state)
    below.load_state_dict({name: state[name] for name in below.state_dict()})
    above.load_state_dict({name: state[name.replace("l0", "l1")] for name in above.state_dict()})
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 4])

    torch.manual_seed(1)
    outputs, _ = layer(inputs, lengths)
    torch.manual_seed(1)
    middle = by_cells(below, inputs, lengths)[0].transpose(0, 1).contiguous()
    dropped = dropout(middle, 0.5, training=True).transpose(0, 1)
    assert_equal([outputs], [by_cells(above, dropped, lengths)[0]], 1e-5)
    assert torch.equal(layer.eval()(inputs, lengths)[0], plain(inputs, lengths)[0])


def test_backward_twice_and_no_second_derivative():
    layer = build(3, 4)
    inputs = torch.randn(2, 3, 3, requires_grad=True)
    total = layer(inputs, torch.tensor([3, 1]))[0].square().sum()
    first = torch.autograd.grad(total, [inputs, *layer.parameters()], retain_graph=True)
    again = torch.autograd.grad(total, [inputs, *layer.parameters()], create_graph=True)
    assert_equal(again, first, 0)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        again[0].sum().backward()


def test_bfloat16_under_autocast():
    layer = build(32, 32, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(8, 40, 32), torch.randint(1, 41, (8,))
    exact = results(unpacked, layer, inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough = results(unpacked, layer, inputs, lengths)
        assert layer(inputs, lengths)[0].dtype == torch.bfloat16
    assert rough[-1].dtype == torch.float32
    for one, other in zip(rough, exact, strict=True):
        difference = (one.float() - other).norm() / other.norm()
        assert 0 < difference < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_backward_pass_under_autocast_has_the_types_of_the_forward_pass(dtype):
    layer = build(3, 4, dtype=dtype)
    outputs, _ = layer(torch.randn(2, 5, 3, dtype=dtype), torch.tensor([5, 2]))
    total = outputs.square().sum()
    expected = torch.autograd.grad(total, list(layer.parameters()), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(total, list(layer.parameters()))
    assert_equal(found, expected, 0)


def test_float64_stays_exact_under_autocast():
    layer = build(3, 4, dtype=torch.float64)
    inputs, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([5, 2])
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(inputs, lengths)[0]
    assert_equal([found], [by_cells(layer, inputs, lengths)[0]], 1e-10)


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


def test_steps_that_are_not_compiled_give_the_same():
    layer = build(3, 4)
    inputs, lengths = torch.randn(3, 6, 3), torch.tensor([5, 2, 1])
    expected = layer(inputs, lengths)
    layer.use_numba = False
    assert_equal(layer(inputs, lengths), expected, 1e-6)


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


def test_gradcheck():
    torch.manual_seed(0)
    lengths = torch.tensor([4, 1, 3])
    shapes = [(5, 3, 2), (3, 3), (9, 2), (9, 3), (9,), (9,)]
    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(
        lambda x, h, *weights: FusedRNN.apply(
            GRU_RESET_BEFORE, x, lengths, h, None, *weights, True
        )[:2],
        arguments,
    )
