"""The variable-length layers against torch's own on packed sequences, or against their cells."""

import functools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.fast import fused_rnn
from rnn_lab.models.fast.paths import run_packed
from rnn_lab.models.functional import dropout, reversal_index, reverse
from rnn_lab.models.layers import GRU, LSTM, RNN, RecurrentLayer
from tests.models.by_cells import by_cells


def gru_reset_before(*sizes, batch_first=True, **options):
    """torch has no such layer: it is compared with the steps of its cell."""
    return GRU(*sizes, reset_after=False, **options)


TORCH_PAIRS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
PAIRS = TORCH_PAIRS | {"gru_reset_before": (gru_reset_before, gru_reset_before)}
KINDS = pytest.mark.parametrize("kind", sorted(PAIRS))
TORCH_KINDS = pytest.mark.parametrize("kind", sorted(TORCH_PAIRS))


def pair(kind, input_size, hidden_size, num_layers=1, bidirectional=False, dtype=torch.float32):
    """Ours, and the one of the same weights for `reference`."""
    ours_class, theirs_class = PAIRS[kind]
    ours = ours_class(input_size, hidden_size, num_layers, bidirectional=bidirectional).to(dtype)
    theirs = theirs_class(
        input_size, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
    ).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def packed(layer, inputs, lengths, state=None):
    sequences = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, final = layer(sequences, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])[0], final


def reference(layer, inputs, lengths, state=None):
    """The layer's values by torch's own algorithm, or by the steps of its cell."""
    run = packed if isinstance(layer, nn.RNNBase) else by_cells
    return run(layer, inputs, lengths, state)


def unpacked(layer, inputs, lengths, state=None):
    return layer(inputs, lengths, state)


def as_tuple(state):
    return () if state is None else state if isinstance(state, tuple) else (state,)


def random_state(kind, shape, dtype=torch.float32):
    state = tuple(torch.randn(shape, dtype=dtype) for _ in range(2 if kind == "lstm" else 1))
    return state if len(state) > 1 else state[0]


def results(run, layer, inputs, lengths, state=None):
    """Outputs, final state, and every gradient of one fixed function of them all."""
    inputs = inputs.detach().requires_grad_()
    leaves = tuple(part.clone().requires_grad_() for part in as_tuple(state))
    given_state = None if not leaves else leaves if len(leaves) > 1 else leaves[0]
    outputs, final = run(layer, inputs, lengths, given_state)
    values = [outputs, *as_tuple(final)]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(v.shape, generator=generator, dtype=inputs.dtype) for v in values]
    total = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    gradients = torch.autograd.grad(total, [inputs, *leaves, *layer.parameters()])
    return values + list(gradients)


def assert_equal(found, expected, tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * max(1.0, other.abs().max())


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    extra=st.integers(0, 3),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3)),
    bidirectional=st.booleans(),
    with_state=st.booleans(),
    time_major=st.booleans(),
    compiled=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 999),
)
def test_equals_the_reference(
    kind, lengths, extra, sizes, bidirectional, with_state, time_major, compiled, dtype, seed
):
    torch.manual_seed(seed)
    input_size, hidden_size, num_layers = sizes
    ours, theirs = pair(kind, input_size, hidden_size, num_layers, bidirectional, dtype)
    ours.use_numba = compiled
    inputs = torch.randn(len(lengths), max(lengths) + extra, input_size, dtype=dtype)
    if time_major:
        inputs = inputs.transpose(0, 1).contiguous().transpose(0, 1)
    shape = (num_layers * (1 + bidirectional), len(lengths), hidden_size)
    state = random_state(kind, shape, dtype) if with_state else None
    lengths = torch.tensor(lengths)
    expected = results(reference, theirs, inputs, lengths, state)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert_equal(results(unpacked, ours, inputs, lengths, state), expected, tolerance)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference_over_several_blocks_of_time(kind, dtype, monkeypatch):
    monkeypatch.setattr("rnn_lab.models.fast.fused_rnn._BLOCK_ELEMENTS", 2**14)
    torch.manual_seed(0)
    ours, theirs = pair(kind, 8, 32, bidirectional=True, dtype=dtype)
    inputs = torch.randn(20, 100, 8, dtype=dtype)
    lengths = torch.cat([torch.tensor([1, 100]), torch.randint(1, 101, (18,))])
    expected = results(reference, theirs, inputs, lengths)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert_equal(results(unpacked, ours, inputs, lengths), expected, tolerance)


@KINDS
def test_only_some_results_in_the_loss(kind):
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 4)
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 1])
    for index in range(2):
        gradients = []
        for run, layer in ((unpacked, ours), (reference, theirs)):
            part = run(layer, inputs, lengths)[index]
            total = sum(value.square().sum() for value in as_tuple(part))
            gradients.append(torch.autograd.grad(total, list(layer.parameters())))
        assert_equal(*gradients, 1e-5)


@pytest.mark.parametrize(
    ("cell", "gates"),
    [
        (fused_rnn.GRU_RESET_AFTER, 3),
        (fused_rnn.GRU_RESET_BEFORE, 3),
        (fused_rnn.RNN, 1),
        (fused_rnn.LSTM, 4),
    ],
    ids=["gru", "gru_reset_before", "rnn", "lstm"],
)
def test_gradcheck(cell, gates):
    torch.manual_seed(0)
    lengths = torch.tensor([4, 1, 3])
    shapes = [(5, 3, 2), (3, 3), (gates * 3, 2), (gates * 3, 3), (gates * 3,), (gates * 3,)]
    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    c = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    states = [c] if cell is fused_rnn.LSTM else []

    def run(x, h, *weights_and_c):
        weights, c = weights_and_c[:4], weights_and_c[4:] or [None]
        results = fused_rnn.FusedRNN.apply(cell, x, lengths, h, *c, *weights, True)
        return results[: 2 + len(states)]

    assert torch.autograd.gradcheck(run, [*arguments, *states])
    assert torch.autograd.gradgradcheck(run, [*arguments, *states], fast_mode=True)


@KINDS
def test_padding_says_nothing_and_gets_no_gradient(kind):
    torch.manual_seed(0)
    layer, _ = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    lengths = torch.tensor([2, 5, 1])
    real = torch.arange(6) < lengths[:, None]
    inputs = torch.randn(3, 6, 3) * real[:, :, None]
    loud = inputs + 1e6 * ~real[:, :, None]
    quiet_results = results(unpacked, layer, inputs, lengths)
    loud_results = results(unpacked, layer, loud, lengths)
    assert_equal(loud_results, quiet_results, 0)
    outputs, gradient = loud_results[0], loud_results[3 if kind == "lstm" else 2]
    assert outputs[~real].eq(0).all()
    assert gradient[~real].eq(0).all()
    assert gradient[real].ne(0).all()


@pytest.mark.parametrize("name", [*sorted(PAIRS), "mingru", "minlstm", "peephole_lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_nan_in_the_padding_reaches_no_gradient(name, bidirectional, compiled):
    torch.manual_seed(0)
    build = PAIRS[name][0] if name in PAIRS else functools.partial(RecurrentLayer, name)
    layer = build(3, 4, num_layers=2, bidirectional=bidirectional)
    layer.use_numba = compiled
    lengths = torch.tensor([2, 5, 1])
    real = (torch.arange(6) < lengths[:, None])[:, :, None]
    inputs = torch.randn(3, 6, 3) * real
    expected = results(unpacked, layer, inputs, lengths)
    for value in (torch.nan, torch.inf):
        found = results(unpacked, layer, inputs.masked_fill(~real, value), lengths)
        assert_equal(found, expected, 0)


@KINDS
def test_dropout_is_between_layers_and_only_in_training(kind):
    torch.manual_seed(0)
    layer = PAIRS[kind][0](3, 4, num_layers=2, dropout=0.5)
    plain = PAIRS[kind][0](3, 4, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    below, above = PAIRS[kind][1](3, 4, batch_first=True), PAIRS[kind][1](4, 4, batch_first=True)
    state = layer.state_dict()
    below.load_state_dict({name: state[name] for name in below.state_dict()})
    above.load_state_dict({name: state[name.replace("l0", "l1")] for name in above.state_dict()})
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 4])

    torch.manual_seed(1)
    outputs, _ = layer(inputs, lengths)
    torch.manual_seed(1)
    middle = reference(below, inputs, lengths)[0].transpose(0, 1).contiguous()
    dropped = dropout(middle, 0.5, training=True).transpose(0, 1)
    assert_equal([outputs], [reference(above, dropped, lengths)[0]], 1e-5)
    assert torch.equal(layer.eval()(inputs, lengths)[0], plain(inputs, lengths)[0])


@TORCH_KINDS
def test_variational_dropout_between_layers_has_one_mask_for_all_steps(kind):
    """The masks are those of ones: each feature of a text is dropped at every step or at none."""
    torch.manual_seed(0)
    layer = RecurrentLayer(kind, 3, 4, 2, dropout=0.5, variational_dropout=True)
    below, above = PAIRS[kind][1](3, 4, batch_first=True), PAIRS[kind][1](4, 4, batch_first=True)
    state = layer.state_dict()
    below.load_state_dict({name: state[name] for name in below.state_dict()})
    above.load_state_dict({name: state[name.replace("l0", "l1")] for name in above.state_dict()})
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 4])

    torch.manual_seed(1)
    outputs, _ = layer(inputs, lengths)
    torch.manual_seed(1)
    mask = dropout(torch.ones(1, 3, 4), 0.5, training=True).transpose(0, 1)  # [batch, 1, features]
    middle = reference(below, inputs, lengths)[0] * mask
    assert 0 < (mask == 0).sum() < mask.numel()
    assert_equal([outputs], [reference(above, middle, lengths)[0]], 1e-5)


@TORCH_KINDS
def test_state_dict_and_initialization_are_torchs(kind):
    ours_class, theirs_class = PAIRS[kind]
    torch.manual_seed(0)
    ours = ours_class(3, 4, num_layers=2, bidirectional=True, dropout=0.1)
    torch.manual_seed(0)
    theirs = theirs_class(3, 4, num_layers=2, bidirectional=True, dropout=0.1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@KINDS
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_hidden_is_the_final_hidden_state(kind, num_layers, bidirectional):
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 4, num_layers, bidirectional, torch.float64)
    inputs, lengths = torch.randn(4, 7, 3, dtype=torch.float64), torch.tensor([7, 1, 3, 6])

    def of_reference(layer, *arguments):
        hidden = as_tuple(reference(layer, *arguments)[1])[0]
        return torch.cat(list(hidden[-(1 + bidirectional) :]), dim=1), None

    found = results(lambda layer, x, n, _: (layer.last_hidden(x, n), None), ours, inputs, lengths)
    assert_equal(found, results(of_reference, theirs, inputs, lengths), 1e-10)


@TORCH_KINDS
def test_the_way_taken_on_other_devices(kind):
    ours, theirs = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([4, 1, 3])
    state = random_state(kind, (4, 3, 4))
    expected = results(reference, theirs, inputs, lengths, state)

    assert_equal(results(run_packed, ours, inputs, lengths, state), expected, 1e-6)
    # Weights that are assigned, as from a checkpoint, are the ones that run.
    other, theirs = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    ours.load_state_dict(other.state_dict(), assign=True)
    expected = results(reference, theirs, inputs, lengths, state)
    assert_equal(results(run_packed, ours, inputs, lengths, state), expected, 1e-6)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@KINDS
def test_backward_twice(kind):
    torch.manual_seed(0)
    layer, _ = pair(kind, 3, 4)
    inputs = torch.randn(2, 3, 3, requires_grad=True)
    total = layer(inputs, torch.tensor([3, 1]))[0].square().sum()
    first = torch.autograd.grad(total, [inputs, *layer.parameters()], retain_graph=True)
    again = torch.autograd.grad(total, [inputs, *layer.parameters()], create_graph=True)
    assert_equal(again, first, 1e-6)


def penalty_gradients(run, layer, inputs, lengths, state):
    """The gradients of a penalty on the inputs' gradient (Gulrajani et al. 2017)."""
    inputs = inputs.detach().requires_grad_()
    outputs, final = run(layer, inputs, lengths, state)
    total = outputs.sum() + sum(part.sum() for part in as_tuple(final))
    (gradient,) = torch.autograd.grad(total, inputs, create_graph=True)
    penalty = 0.1 * outputs.sum() + 10 * (gradient.flatten(1).norm(dim=1) - 1).square().sum()
    return torch.autograd.grad(penalty, [inputs, *as_tuple(state), *layer.parameters()])


@KINDS
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_penalty_is_that_of_the_reference(kind, bidirectional, compiled):
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 4, 2, bidirectional, torch.float64)
    ours.use_numba = compiled
    inputs, lengths = torch.randn(3, 6, 3, dtype=torch.float64), torch.tensor([5, 1, 3])
    state = random_state(kind, (2 * (1 + bidirectional), 3, 4), torch.float64)
    for part in as_tuple(state):
        part.requires_grad_()
    expected = penalty_gradients(reference, theirs, inputs, lengths, state)
    assert_equal(penalty_gradients(unpacked, ours, inputs, lengths, state), expected, 1e-10)


def test_a_gradient_penalty_under_autocast():
    torch.manual_seed(0)
    layer = LSTM(32, 32)
    inputs, lengths = torch.randn(4, 9, 32), torch.tensor([9, 1, 5, 3])
    state = tuple(part.requires_grad_() for part in random_state("lstm", (1, 4, 32)))
    exact = penalty_gradients(unpacked, layer, inputs, lengths, state)
    with torch.autocast("cpu", torch.bfloat16):
        rough = penalty_gradients(unpacked, layer, inputs, lengths, state)
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.05 * other.norm()


@KINDS
def test_second_derivatives_where_arguments_depend_on_each_other(kind):
    torch.manual_seed(0)
    ours, theirs = pair(kind, 4, 4, dtype=torch.float64)
    lengths = torch.tensor([4, 2])
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    def gradients(run, layer):
        h = start.mean(dim=1)[None]
        _, final = run(layer, start, lengths, (h, h) if kind == "lstm" else h)
        (first,) = torch.autograd.grad(as_tuple(final)[0].sum(), start, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), [start, *layer.parameters()])]

    assert_equal(gradients(unpacked, ours), gradients(reference, theirs), 1e-10)


@KINDS
def test_bfloat16_under_autocast(kind):
    torch.manual_seed(0)
    layer, _ = pair(kind, 32, 32, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(8, 40, 32), torch.randint(1, 41, (8,))
    exact = results(unpacked, layer, inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough = results(unpacked, layer, inputs, lengths)
        assert layer(inputs, lengths)[0].dtype == torch.bfloat16
    assert rough[-1].dtype == torch.float32
    for one, other in zip(rough, exact, strict=True):
        difference = (one.float() - other).norm() / other.norm()
        assert 0 < difference < 0.02


@KINDS
def test_float64_stays_exact_under_autocast(kind):
    ours, theirs = pair(kind, 3, 4, dtype=torch.float64)
    inputs, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([5, 2])
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(inputs, lengths)[0]
    assert_equal([found], [reference(theirs, inputs, lengths)[0]], 1e-10)


INPUTS, LENGTHS = torch.zeros(2, 5, 3), torch.tensor([5, 2])


@KINDS
@pytest.mark.parametrize(
    ("inputs", "lengths", "message"),
    [
        (INPUTS, torch.tensor([5, 0]), r"lengths must be from 1 to the 5 steps .* got 0 to 5"),
        (INPUTS, torch.tensor([6, 2]), r"lengths must be from 1 to the 5 steps .* got 2 to 6"),
        (INPUTS, torch.tensor([5]), r"lengths must be integers \[2\].* got torch.int64 \[1\]"),
        (INPUTS, torch.tensor([5.0, 2.0]), r"lengths must be integers .* got torch.float32 \[2\]"),
        (INPUTS[0], LENGTHS, r"inputs must be \[batch, time, 3\], got \[5, 3\]"),
        (INPUTS[:, :, :2], LENGTHS, r"inputs must be \[batch, time, 3\], got \[2, 5, 2\]"),
        (INPUTS[:0], LENGTHS[:0], "inputs must hold at least one sequence"),
        (INPUTS.double(), LENGTHS, "inputs must be torch.float32 .* got torch.float64"),
        (pack_padded_sequence(INPUTS, [5, 2], batch_first=True), LENGTHS, "got PackedSequence"),
        (INPUTS, None, r"lengths must be integers \[2\].* got NoneType"),
        (INPUTS, [5, "2"], r"lengths must be integers \[2\].* got list"),
    ],
)
def test_bad_inputs_are_named(kind, inputs, lengths, message):
    with pytest.raises(ValueError, match=message):
        PAIRS[kind][0](3, 4)(inputs, lengths)


@KINDS
def test_bad_initial_states_are_named(kind):
    layer = PAIRS[kind][0](3, 4, bidirectional=True)
    parts = 2 if kind == "lstm" else 1
    for shape in [(1, 2, 4), (2, 3, 4), (2, 2, 5), (2, 4)]:
        state = (torch.zeros(shape),) * parts
        with pytest.raises(
            ValueError, match=r"initial_state must be \[2, 2, 4\].* got \["
        ) as found:
            layer(INPUTS, LENGTHS, state if parts > 1 else state[0])
        assert str(list(shape)) in str(found.value)
    with pytest.raises(ValueError, match="initial_state must be"):
        layer(INPUTS, LENGTHS, (torch.zeros(2, 2, 4),) * (3 - parts))
    with pytest.raises(ValueError, match=r"initial_state must be .* got .*NoneType"):
        layer(INPUTS, LENGTHS, (torch.zeros(2, 2, 4), None)[-parts:])


def test_complex_weights_are_named():
    layer = LSTM(3, 4).to(torch.complex64)
    with pytest.raises(ValueError, match=r"weights must be real numbers, got torch\.complex64"):
        layer(INPUTS.to(torch.complex64), LENGTHS)


@KINDS
def test_lengths_may_be_a_list_or_an_array(kind):
    layer, inputs = PAIRS[kind][0](3, 4), torch.randn(2, 5, 3)
    expected = layer(inputs, LENGTHS)[0]
    for lengths in ([5, 2], LENGTHS.numpy()):
        assert torch.equal(layer(inputs, lengths)[0], expected)


@TORCH_KINDS
def test_arguments_of_torchs_layers_are_named(kind):
    layer = PAIRS[kind][0]
    for name in ("batch_first", "bias", "proj_size", "device", "dtype", "nonlinearity"):
        with pytest.raises(TypeError, match=f"^{layer.__name__} has no argument {name}: .*[a-z]"):
            layer(3, 4, **{name: True})
    with pytest.raises(TypeError, match="has no argument size: choose from bidirectional, dropout"):
        layer(3, 4, size=1)
    with pytest.raises(TypeError, match="positional"):
        layer(3, 4, 1, True)  # torch.nn's `bias`
    with pytest.warns(UserWarning, match="dropout=0.5 has no effect"):
        layer(3, 4, dropout=0.5)


@KINDS
def test_traced_layers_are_refused(kind):
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace.* cannot follow the lengths"):
        torch.jit.trace(PAIRS[kind][0](3, 4), (INPUTS, LENGTHS))


def test_torch_compile_leaves_the_layer_as_it_is():
    """In a new process, which has loaded no compiled code yet."""
    program = """
import torch
from rnn_lab.models import RecurrentLayer

inputs = torch.randn(2, 5, 3)
for name in ("lstm", "mingru"):
    layer = RecurrentLayer(name, 3, 4, bidirectional=True)
    compiled = torch.compile(layer, backend="eager")
    for lengths in torch.tensor([[5, 2], [3, 4]]):
        assert torch.equal(compiled(inputs, lengths)[0], layer(inputs, lengths)[0])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Graph break" not in done.stderr


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


def test_gradient_of_reverse():
    lengths = torch.tensor([3, 1, 4])
    sequences = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    order = reversal_index(lengths, 5)
    assert torch.autograd.gradcheck(lambda x: reverse(x, order), [sequences])
    assert torch.autograd.gradgradcheck(lambda x: reverse(x, order), [sequences])
