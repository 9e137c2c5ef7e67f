"""The compiled steps: their functions, their threads, and the products that they call."""

import importlib
import threading

import numba
import numpy as np
import pytest
import torch
from torch import nn

from rnn_lab.models.fast import fused_rnn, kernels, native
from rnn_lab.models.fast.kernels import as_array
from rnn_lab.models.fast.native import batch_pieces, parallel_for
from rnn_lab.models.layers import GRU, LSTM, RNN
from tests.models.test_layers import as_tuple, assert_equal, packed, results, unpacked

LAYERS = pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (RNN, nn.RNN, {}),
        (LSTM, nn.LSTM, {}),
        (GRU, nn.GRU, {}),
        (GRU, None, {"reset_after": False}),
    ],
    ids=["rnn", "lstm", "gru", "gru, reset before"],
)


@numba.njit
def tanh_and_sigmoid(x, tanh, sigmoid):
    for i in range(len(x)):
        tanh[i] = kernels._tanh(x[i])
        sigmoid[i] = kernels._sigmoid(x[i])


@numba.njit
def to_bfloat16_and_back(x, bits, back):
    for i in range(len(x)):
        kernels._put(bits, i, x[i])
        back[i] = kernels._get(bits, i)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 5e-16)], ids=["float32", "float64"]
)
def test_tanh_and_sigmoid_are_right_to_the_last_digits_of_the_value(dtype, tolerance):
    sizes = np.logspace(-30, 1.9, 100_000)
    x = np.concatenate([-sizes, sizes, np.linspace(-12, 12, 100_001)]).astype(dtype)
    tanh, sigmoid = np.empty_like(x), np.empty_like(x)
    tanh_and_sigmoid(x, tanh, sigmoid)
    wide = x.astype(np.longdouble)
    np.testing.assert_allclose(tanh, np.tanh(wide), rtol=tolerance)
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-wide)), rtol=tolerance, atol=1e-37)
    assert np.abs(tanh).max() == 1
    assert sigmoid.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_and_sigmoid_of_infinities_and_nan(dtype):
    x = np.array([-np.inf, np.inf, np.nan, -0.0], dtype)
    tanh, sigmoid = np.empty_like(x), np.empty_like(x)
    tanh_and_sigmoid(x, tanh, sigmoid)
    np.testing.assert_array_equal(tanh, [-1, 1, np.nan, 0])
    np.testing.assert_allclose(sigmoid, [0, 1, np.nan, 0.5], atol=1e-37)


def test_bfloat16_is_the_nearest_as_torch_has_it():
    bits = np.random.default_rng(0).integers(0, 2**32, 1_000_000, dtype=np.uint32)
    halves = bits & 0xFFFF == 0x8000  # where torch takes the even one
    special = np.array([0x7FC00000, 0xFFFFFFFF, 0x7F800001, 0x7F800000, 0xFF800000], np.uint32)
    x = np.concatenate([bits[~halves], special]).view(np.float32)
    found, back = np.empty(len(x), np.uint16), np.empty_like(x)
    to_bfloat16_and_back(x, found, back)
    np.testing.assert_array_equal(back, torch.from_numpy(x).bfloat16().float().numpy())


def products_of(kind, dtype):
    """The functions that multiply on one kind of processor, if this one has them."""
    gemm, brgemm = native.function_in_torch(native._MKL[dtype]), native.brgemm_address(dtype)
    if (kind != "brgemm" and gemm is None) or (kind != "gemm" and not brgemm):
        pytest.skip(f"no {kind} of {dtype} can be called on this processor with this torch")
    if kind == "brgemm" and dtype == torch.bfloat16 and native._has_amx():
        pytest.skip("with AMX, blocks of steps are multiplied by gemm: brgemm would keep the tiles")
    if kind == "brgemm":
        return native.Products(brgemm, brgemm, 0, 0, 0)
    address = native.gemm_address(dtype)
    release = native._address_in_torch(native._BRGEMM_RELEASE)
    if kind == "gemm":
        return native.Products(0, 0, address, 0, 0)
    return native.Products(brgemm, 0, address, release, 0)


@LAYERS
@pytest.mark.parametrize("kind", ["gemm", "brgemm", "both", None])
def test_bfloat16_is_near_float32_whatever_multiplies(ours, theirs, options, kind, monkeypatch):
    found = kind and products_of(kind, torch.bfloat16)  # None: the steps are in float32

    def chosen(dtype, *sizes):
        return found if dtype == torch.bfloat16 else native.products(dtype, *sizes)

    torch.manual_seed(0)
    layer = ours(32, 48, num_layers=2, bidirectional=True, **options)
    inputs, lengths = torch.randn(13, 40, 32), torch.randint(1, 41, (13,))
    exact = results(unpacked, layer, inputs, lengths)
    monkeypatch.setattr("rnn_lab.models.fast.fused_rnn.products", chosen)
    with torch.autocast("cpu", torch.bfloat16):
        rough = results(unpacked, layer, inputs, lengths)
    assert rough[0].dtype == torch.bfloat16
    for one, other in zip(rough, exact, strict=True):
        assert 0 < (one.float() - other).norm() / other.norm() < 0.02


@numba.njit
def multiply(brgemm, gemm, panel, left, right, out, add):
    kernels.multiply(brgemm, gemm, panel, left, right, out, add)


@numba.njit
def add_gradient(gemms, left, right, out):
    rows = kernels._padded(len(left))
    padded = np.zeros((rows, left.shape[1]), left.dtype)
    padded[: len(left)] = left
    across = np.empty((left.shape[1], rows + 64), left.dtype)
    pairs = np.empty((rows + 64, right.shape[1] + 8), left.dtype)
    across[:], pairs[:] = 0x7FC0, 0x7FC0  # NaN in bfloat16
    kernels._transpose(padded, across)
    kernels._add_gradient(gemms, left, across, right, pairs, out)


@pytest.mark.parametrize(
    ("kind", "dtype", "panel"),
    [
        *(("gemm", dtype, 0) for dtype in (torch.float32, torch.bfloat16)),
        *(("brgemm", dtype, 0) for dtype in (torch.float32, torch.bfloat16)),
        *(("brgemm", torch.float32, panel) for panel in (1, 32, 40)),
    ],
)
def test_a_product_is_that_of_float64(kind, dtype, panel):
    chosen = products_of(kind, dtype)._replace(panel=panel)
    torch.manual_seed(0)
    for m, k, n in ((1, 2, 1), (16, 128, 512), (13, 48, 96), (100, 34, 7)):
        left, right = torch.randn(m, k + 6).to(dtype)[:, 6:], torch.randn(k, n).to(dtype)
        out = torch.randn(m, n)
        expected = out.double() + left.double() @ right.double()
        array = fused_rnn.right_factor(right, chosen.block, panel)
        multiply(*(chosen.block, chosen.gemm, panel, as_array(left), array, as_array(out)), 1)
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gemm", "brgemm"])
@pytest.mark.parametrize("rows", [1, 2, 63, 91, 240, 256])
def test_a_product_of_gradients_is_that_of_float64(rows, kind):
    chosen = products_of(kind, torch.bfloat16)
    torch.manual_seed(0)
    left, right = (torch.randn(rows, n).bfloat16() for n in (96, 32))
    out = torch.randn(96, 32)
    expected = out.double() + left.double().T @ right.double()
    add_gradient(chosen, as_array(left), as_array(right), as_array(out))
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-4)


@LAYERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipys_product_does_as_well(ours, theirs, options, dtype, monkeypatch):
    torch.manual_seed(0)
    layer = ours(5, 6, bidirectional=True, **options).to(dtype)
    inputs, lengths = torch.randn(20, 9, 5, dtype=dtype), torch.randint(1, 10, (20,))
    expected = results(unpacked, layer, inputs, lengths)
    addresses = [native.gemm_address(dtype)]
    monkeypatch.setattr(native, "function_in_torch", lambda name: None)
    native.gemm_address.cache_clear()
    try:
        found = results(unpacked, layer, inputs, lengths)
        addresses.append(native.gemm_address(dtype))
        with pytest.raises(ValueError, match=r"no matrix product of torch\.bfloat16 can be called"):
            native.gemm_address(torch.bfloat16)
    finally:
        native.gemm_address.cache_clear()
    assert_equal(found, expected, 1e-5 if dtype == torch.float32 else 1e-12)
    assert addresses[0] != addresses[1]


@LAYERS
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_same_on_any_number_of_threads(ours, theirs, options, number, set_threads):
    torch.manual_seed(0)
    layer = ours(5, 6, bidirectional=True, **options).double()
    inputs, lengths = torch.randn(29, 9, 5, dtype=torch.float64), torch.randint(1, 10, (29,))
    set_threads(1)
    expected = results(unpacked, layer, inputs, lengths)
    if theirs is not None:
        torchs = theirs(5, 6, batch_first=True, bidirectional=True).double()
        torchs.load_state_dict(layer.state_dict())
        assert_equal(results(packed, torchs, inputs, lengths), expected, 1e-12)
    set_threads(number)
    assert_equal(results(unpacked, layer, inputs, lengths), expected, 1e-12)


@LAYERS
def test_frozen_weights_get_no_gradient_and_inputs_the_same(ours, theirs, options):
    torch.manual_seed(0)
    layer = ours(5, 6, bidirectional=True, **options)
    inputs, lengths = torch.randn(20, 9, 5).requires_grad_(), torch.randint(1, 10, (20,))

    def input_gradient() -> torch.Tensor:
        outputs, _ = layer(inputs, lengths)
        return torch.autograd.grad(outputs.square().sum(), inputs)[0]

    expected = input_gradient()
    layer.requires_grad_(False)
    torch.testing.assert_close(input_gradient(), expected, rtol=0, atol=0)
    next(layer.parameters()).requires_grad_(True)  # one that learns gets its own
    layer(inputs, lengths)[0].square().sum().backward()
    assert [weight.grad is not None for weight in layer.parameters()].count(True) == 1


def test_each_sequence_is_in_one_piece(set_threads):
    set_threads(3)
    pieces = batch_pieces(64)
    assert len(pieces) >= 3
    assert [first for first, _ in pieces] == [0, *(last for _, last in pieces[:-1])]
    assert pieces[-1][1] == 64
    assert batch_pieces(15) == [(0, 15)]  # too few to start a thread for
    set_threads(1)
    assert batch_pieces(64) == [(0, 64)]


def test_pieces_run_at_once_and_each_is_run_once(set_threads):
    set_threads(3)
    done, all_here = [], threading.Barrier(3, timeout=60)

    def work(piece):
        if piece < 3:
            all_here.wait()
        done.append(piece)

    parallel_for(7, work)
    assert sorted(done) == list(range(7))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_pieces_have_the_modes_of_the_thread_that_starts_them(mode, set_threads):
    set_threads(2)
    modes, both_here = [], threading.Barrier(2, timeout=60)
    with mode():
        expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        written = torch.zeros(2)

        def work(piece):
            both_here.wait()
            written[piece] += 1
            modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        parallel_for(2, work)
        assert written.tolist() == [1, 1]
    assert modes == [expected, expected]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_what_a_piece_raises_is_raised(set_threads):
    set_threads(2)

    def work(piece):
        if piece:
            raise MemoryError("no memory")

    with pytest.raises(MemoryError, match="no memory"):
        parallel_for(2, work)


def test_matrices_that_cannot_be_packed_are_multiplied_too():
    """In bfloat16 by gemm, or in float32."""
    torch.manual_seed(0)
    for sizes in ((31, 48), (32, 47), (31, 47)):
        layer = LSTM(*sizes)
        inputs, lengths = torch.randn(20, 40, sizes[0]), torch.randint(1, 41, (20,))
        exact = results(unpacked, layer, inputs, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            found = results(unpacked, layer, inputs, lengths)
        for one, other in zip(found, exact, strict=True):
            assert (one.float() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("limit", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "mkldnn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_onednn_is_limited_its_product_is_not_called(limit, dtype, monkeypatch):
    if limit == "mkldnn":
        with torch.backends.mkldnn.flags(enabled=False):
            assert native.brgemm_address(dtype) == 0
    else:
        monkeypatch.setenv(limit, "AVX2")
        assert native.brgemm_address(dtype) == 0


@LAYERS
def test_a_value_that_is_no_number_is_seen(ours, theirs, options):
    layer, inputs = ours(3, 4, **options), torch.zeros(2, 5, 3)
    inputs[1, 2, 0] = torch.nan
    outputs, final = layer(inputs, torch.tensor([5, 4]))
    assert outputs[0].isfinite().all()
    assert outputs[1, :2].isfinite().all()
    assert outputs[1, 2:4].isnan().all()
    for part in as_tuple(final):
        assert part[0, 1].isnan().all()


def test_compiled_code_is_a_file_for_each_signature(tmp_path, monkeypatch):
    """An index of numbered files, as Numba's, would mix up what two processes compile at once."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubled.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    double = importlib.import_module("doubled").double
    first, second, third = (kernels._compiled(double) for _ in range(3))
    assert (first(3), second(1.5)) == (6, 3.0)
    files = sorted((tmp_path / "cache").rglob("*.nbc"))
    assert len(files) == 2 and not list((tmp_path / "cache").rglob("*.nbi"))
    assert (third(3), third(1.5)) == (6, 3.0)
    assert sum(third.stats.cache_hits.values()) == 2
    # Neither the code of another signature nor a file that was cut off is called.
    files[0].write_bytes(files[1].read_bytes())
    files[1].write_bytes(files[1].read_bytes()[:100])
    fourth = kernels._compiled(double)
    assert (fourth(3), fourth(1.5)) == (6, 3.0)
    assert sum(fourth.stats.cache_hits.values()) == 0
