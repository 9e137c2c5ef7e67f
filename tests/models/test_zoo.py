"""The cells of the zoo against independent references: NumPy, torch.nn, the papers' equations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rnn_lab.models import zoo
from rnn_lab.models.fast.linear_scan import linear_scan
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.trace import trace
from tests.models.by_cells import by_cells
from tests.models.test_layers import assert_equal, packed, random_state, results, unpacked

MINIMAL = pytest.mark.parametrize("name", ["mingru", "minlstm"])
ZOO = pytest.mark.parametrize("name", ["mingru", "minlstm", "peephole_lstm"])


def double(name, *sizes, **options):
    torch.manual_seed(0)
    layer = RecurrentLayer(name, *sizes, **options).double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.uniform_(-2, 2)  # so large that gates open and shut
    return layer


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def mingru_by_hand(x, weights):
    """Feng et al. 2024, section 3.1, one sequence [time, input] at a time."""
    (w_z, w_h), (b_z, b_h) = (np.split(weight, 2) for weight in weights)
    h, found = np.zeros(len(b_z)), []
    for x_t in x:
        z = sigmoid(w_z @ x_t + b_z)
        h = (1 - z) * h + z * (w_h @ x_t + b_h)
        found.append(h)
    return np.array(found)


def minlstm_by_hand(x, weights):
    """Feng et al. 2024, section 3.2."""
    (w_f, w_i, w_h), (b_f, b_i, b_h) = (np.split(weight, 3) for weight in weights)
    h, found = np.zeros(len(b_f)), []
    for x_t in x:
        f, i = sigmoid(w_f @ x_t + b_f), sigmoid(w_i @ x_t + b_i)
        f, i = f / (f + i), i / (f + i)
        h = f * h + i * (w_h @ x_t + b_h)
        found.append(h)
    return np.array(found)


def peephole_by_hand(x, weights):
    """Gers and Schmidhuber 2000: input and forget gates see C_{t-1}, the output gate sees C_t."""
    w, u, b, c, p = weights
    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o) = np.split(w, 4), np.split(u, 4)
    b_i, b_f, b_c, b_o = np.split(b + c, 4)
    p_i, p_f, p_o = np.split(p, 3)
    h, cell, found = np.zeros(len(b_i)), np.zeros(len(b_i)), []
    for x_t in x:
        i = sigmoid(w_i @ x_t + u_i @ h + p_i * cell + b_i)
        f = sigmoid(w_f @ x_t + u_f @ h + p_f * cell + b_f)
        cell = f * cell + i * np.tanh(w_c @ x_t + u_c @ h + b_c)
        h = sigmoid(w_o @ x_t + u_o @ h + p_o * cell + b_o) * np.tanh(cell)
        found.append(h)
    return np.array(found)


BY_HAND = {
    "mingru": mingru_by_hand,
    "minlstm": minlstm_by_hand,
    "peephole_lstm": peephole_by_hand,
}


@ZOO
def test_equals_the_equations_in_numpy_in_both_directions(name):
    layer = double(name, 3, 4, bidirectional=True)
    inputs, lengths = torch.randn(3, 7, 3, dtype=torch.float64), torch.tensor([7, 1, 4])
    outputs, _ = layer(inputs, lengths)
    for index, backward in enumerate((False, True)):
        weights = [weight.detach().numpy() for weight in layer.weights(index).values()]
        for row, length in enumerate(lengths.tolist()):
            x = inputs[row, :length].numpy()
            x = x[::-1] if backward else x
            expected = BY_HAND[name](x, weights)
            expected = expected[::-1] if backward else expected
            found = outputs[row, :length, 4 * index : 4 * (index + 1)].detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
            assert (outputs[row, length:] == 0).all()


@ZOO
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    extra=st.integers(0, 2),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3)),
    bidirectional=st.booleans(),
    with_state=st.booleans(),
    use_numba=st.booleans(),
)
def test_layer_equals_the_reference_loop_to_the_last_gradient(
    name, lengths, extra, sizes, bidirectional, with_state, use_numba
):
    layer = double(name, *sizes, bidirectional=bidirectional)
    layer.use_numba = use_numba
    input_size, hidden_size, num_layers = sizes
    inputs = torch.randn(len(lengths), max(lengths) + extra, input_size, dtype=torch.float64)
    shape = (num_layers * (1 + bidirectional), len(lengths), hidden_size)
    kind = "lstm" if name == "peephole_lstm" else name
    state = random_state(kind, shape, torch.float64) if with_state else None
    given_all = (inputs, torch.tensor(lengths), state)
    expected = results(by_cells, layer, *given_all)
    assert_equal(results(unpacked, layer, *given_all), expected, 1e-10)
    if not with_state:
        found = layer.last_hidden(*given_all[:2])
        final = by_cells(layer, *given_all)[1]
        final = final[0] if isinstance(final, tuple) else final
        assert_equal([found], [torch.cat(list(final[-(1 + bidirectional) :]), 1)], 1e-10)


@ZOO
def test_gradcheck_of_the_reference_step(name):
    layer = double(name, 3, 4)
    cell, weights = layer.cell, layer.weights(0)
    state = tuple(torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in cell.states)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def step(x, *arguments):
        state, given = arguments[: len(cell.states)], arguments[len(cell.states) :]
        return tuple(cell.step(x, state, dict(zip(weights, given, strict=True))).values())

    assert torch.autograd.gradcheck(step, (x, *state, *weights.values()))


def heinsen_scan(log_coefficients, log_values):
    """parallel_scan_log of Feng et al. 2024, appendix B.1, as printed (one sequence a row)."""
    a_star = F.pad(torch.cumsum(log_coefficients, dim=1), (0, 0, 1, 0))
    log_h0_plus_b_star = torch.logcumsumexp(log_values - a_star, dim=1)
    return torch.exp(a_star + log_h0_plus_b_star)[:, 1:]


@MINIMAL
def test_equals_the_papers_parallel_scan_in_log_space(name):
    """Appendix B: the same recurrence over logarithms, for candidates that are positive."""
    layer = double(name, 3, 4)
    with torch.no_grad():
        layer.bias_ih_l0[-4:] = 12  # a positive candidate for all of the inputs below
    x, h_0 = torch.rand(2, 30, 3, dtype=torch.float64), torch.rand(1, 2, 4, dtype=torch.float64)
    outputs, _ = layer(x, torch.tensor([30, 30]), h_0)
    parts = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).split(4, dim=-1)
    assert parts[-1].min() > 0
    log_h0 = h_0[0, :, None].log()
    if name == "mingru":
        k, log_tilde_h = parts[0], parts[1].log()
        log_z, log_coefficients = -F.softplus(-k), -F.softplus(k)
        log_values = torch.cat([log_h0, log_z + log_tilde_h], dim=1)
    else:
        diff = F.softplus(-parts[0]) - F.softplus(-parts[1])
        log_coefficients, log_i = -F.softplus(diff), -F.softplus(-diff)
        log_values = torch.cat([log_h0, log_i + parts[2].log()], dim=1)
    assert_equal([outputs], [heinsen_scan(log_coefficients, log_values)], 1e-10)


def test_minlstm_gates_are_numbers_where_both_sigmoids_underflow():
    layer = double("minlstm", 3, 4).float()
    with torch.no_grad():
        layer.bias_ih_l0[:8] = -1000.0
    inputs = torch.randn(2, 5, 3, requires_grad=True)
    outputs, _ = layer(inputs, torch.tensor([5, 3]))
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert outputs.isfinite().all() and gradient.isfinite().all()


def test_without_peepholes_it_is_torchs_lstm():
    ours = double("peephole_lstm", 3, 4, num_layers=2, bidirectional=True)
    theirs = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True).double()
    state = ours.state_dict()
    theirs.load_state_dict({name: state[name] for name in theirs.state_dict()})
    peepholes = [name for name in state if name not in theirs.state_dict()]
    assert peepholes == ["peephole_l0", "peephole_l0_reverse", "peephole_l1", "peephole_l1_reverse"]
    inputs, lengths = torch.randn(3, 7, 3, dtype=torch.float64), torch.tensor([7, 1, 4])
    (expected, last), (found, final) = packed(theirs, inputs, lengths), ours(inputs, lengths)
    assert not torch.allclose(found, expected, atol=1e-2)
    with torch.no_grad():
        for name in peepholes:
            ours.get_parameter(name).zero_()
    found, final = ours(inputs, lengths)
    assert_equal([found, *final], [expected, *last], 1e-12)


def test_each_peephole_reaches_its_own_gate():
    layer = double("peephole_lstm", 3, 4)
    inputs, lengths = torch.randn(1, 1, 3, dtype=torch.float64), torch.tensor([1])
    state = random_state("lstm", (1, 1, 4), torch.float64)
    (before,) = trace(layer, inputs, lengths, state)[0].steps
    gates = ("i", "f", "o")
    for number, gate in enumerate(gates):
        rows = slice(4 * number, 4 * (number + 1))
        with torch.no_grad():
            layer.peephole_l0[rows] += 1
        (after,) = trace(layer, inputs, lengths, state)[0].steps
        with torch.no_grad():
            layer.peephole_l0[rows] -= 1
        assert_equal([after["C_tilde"]], [before["C_tilde"]], 0)
        # The output gate sees the new cell state, which the other two gates have changed.
        changed = {gate} | ({"o"} if gate != "o" else set())
        for other in gates:
            same = torch.allclose(after[other], before[other], rtol=0, atol=1e-12)
            assert same is (other not in changed), (gate, other)


@MINIMAL
def test_forget_gates_and_candidates_read_no_state(name):
    """The fast path is one product: gates are the same whatever the state."""
    layer = double(name, 3, 4)
    inputs, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([5, 5])
    one, other = (
        trace(layer, inputs, lengths, torch.randn(1, 2, 4, dtype=torch.float64))[0]
        for _ in range(2)
    )
    for value, about in layer.cell.values.items():
        same = torch.equal(one.values(value), other.values(value))
        assert same is (about.kind != "state")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    extra=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_linear_scan_equals_a_loop(lengths, extra, seed):
    torch.manual_seed(seed)
    shape = (max(lengths) + extra, len(lengths), 3)
    keep = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    add = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    h = torch.randn(shape[1:], dtype=torch.float64, requires_grad=True)
    real = torch.arange(shape[0])[:, None] < torch.tensor(lengths)
    rows, state = [], h
    for t in range(shape[0]):
        state = torch.where(real[t][:, None], keep[t] * state + add[t], state)
        rows.append(state)
    weights = torch.randn(shape, dtype=torch.float64) * real[:, :, None]

    def gradients(outputs, last):
        total = (outputs * weights).sum() + last.sin().sum()
        return [last, *torch.autograd.grad(total, [keep, add, h])]

    expected = gradients(torch.stack(rows), state)
    for use_numba in (False, True):
        found = linear_scan(keep, add, h, torch.tensor(lengths), use_numba=use_numba)
        assert_equal(gradients(*found), expected, 1e-12)


def test_linear_scan_gradcheck_and_second_derivative():
    torch.manual_seed(0)
    arguments = [torch.rand(7, 3, 2), torch.randn(7, 3, 2), torch.randn(3, 2)]
    arguments = [argument.double().requires_grad_() for argument in arguments]
    lengths = torch.tensor([7, 1, 4])

    real = (torch.arange(7)[:, None] < lengths)[:, :, None]

    def scan(use_numba):
        def run(*given):
            outputs, last = linear_scan(*given, lengths, use_numba=use_numba)
            return outputs * real, last

        return run

    for use_numba in (True, False):
        assert torch.autograd.gradcheck(scan(use_numba), arguments)
        assert torch.autograd.gradgradcheck(scan(use_numba), arguments)
        # The gradient of a sum is a constant, but not independent of the arguments.
        (first,) = torch.autograd.grad(
            scan(use_numba)(*arguments)[0].sum(), arguments[:1], create_graph=True
        )
        second = torch.autograd.grad(first.square().sum(), arguments)
        assert all(part.ne(0).any() for part in second)


@MINIMAL
def test_bfloat16_under_autocast(name):
    torch.manual_seed(0)
    layer = RecurrentLayer(name, 32, 32, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(8, 40, 32), torch.randint(1, 41, (8,))
    exact = results(unpacked, layer, inputs, lengths)
    for use_numba in (True, False):
        layer.use_numba = use_numba
        with torch.autocast("cpu", torch.bfloat16):
            rough = results(unpacked, layer, inputs, lengths)
            outputs, final = layer(inputs, lengths)
            assert outputs.dtype == final.dtype == torch.bfloat16
        assert rough[-1].dtype == torch.float32
        for one, other in zip(rough, exact, strict=True):
            assert (one.float() - other).norm() < 0.03 * other.norm()


@MINIMAL
@pytest.mark.parametrize("use_numba", [True, False])
def test_bfloat16_does_not_end_a_long_memory(name, use_numba):
    torch.manual_seed(0)
    layer = RecurrentLayer(name, 32, 32)
    layer.use_numba = use_numba
    inputs, lengths = torch.randn(4, 1000, 32), torch.full([4], 1000)
    with torch.no_grad():
        bias = layer.weights(0)["bias_ih"]
        first = 32 if name == "minlstm" else 0  # the gate of what is new: units that keep 0.999
        bias[first : first + 32] = -7.0
        exact = layer.last_hidden(inputs, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer.last_hidden(inputs, lengths)
    assert (rough.float() - exact).norm() < 0.01 * exact.norm()


def test_every_module_of_the_folder_is_a_cell():
    assert zoo.__all__ == ["mingru", "minlstm", "peephole_lstm"]
