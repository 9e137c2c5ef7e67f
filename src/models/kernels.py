"""The steps of a recurrent layer and of its gradient, compiled by Numba.

What is left of a step beside its matrix product is some twenty operations on [batch, hidden]. As
tensor operations each is a pass of its own with a call of its own, and takes longer than the
product. Here a block of steps is one call, in which each thread takes some of the sequences through
all of them: a step is one product and one pass over what lies in the processor's cache.

A block is [steps, batch, ...], and `real` [batch] how many of its steps each sequence has. Beyond,
outputs and gradients are zero and what is carried along stays as it is. A step's row has parts,
each `hidden` wide, in the order that the names of a kernel's parts have. Numbers are float32 or
float64, or bfloat16, which NumPy lacks: these stand as uint16.

One file holds all that is compiled, since a function kept on disk is compiled anew only where the
file that it stands in has changed.
"""

import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from torch import Tensor

# Sums of products may be fused. Nothing is assumed of infinities and NaN, which must be seen.
_OPTIONS: Any = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
_float, _int, _unsigned = np.float32, np.int32, np.uintp

# LLVM may decide once for all sequences whether two parts of a row overlap in memory, and in these
# interleaved rows it then takes them to do so: a step would be five times as slow.
llvm.set_option("", "--hoist-runtime-checks=false")


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function` when it is first called; keep the result where a place can be written."""
    try:
        made: Callable[..., None] = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no such place
        made = numba.njit(**_OPTIONS)(function)
    return made


# ------------------------------------------------------------------------------------------ LSTM


@_compiled
def lstm(first, last, gemm, real, rows, bias, state_map, product, memory, history):
    """Sequences first to last through a block of the LSTM.

    Args:
        gemm: address of the product of history and state_map.
        real: int64 [batch].
        rows: [steps, batch, i f g o], the sums of the inputs; becomes the gates.
        bias: [i f g o].
        state_map: [hidden, i f g o].
        product: [batch, i f g o], to work in.
        memory: [steps + 1, batch, hidden], c; the first is given.
        history: [steps + 1, batch, hidden], h; the first is given.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], state_map, product[first:last])
        for b in range(first, last):
            row, of_state = rows[t, b], product[b]
            c_below, c_above, above = memory[t, b], memory[t + 1, b], history[t + 1, b]
            if t >= real[b]:
                c_above[:] = c_below
                above[:] = 0
                continue
            for j in range(hidden):
                f_at, g_at, o_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                i = _sigmoid(_get(row, j) + of_state[j] + bias[j])
                f = _sigmoid(_get(row, f_at) + of_state[f_at] + bias[f_at])
                g = _tanh(_get(row, g_at) + of_state[g_at] + bias[g_at])
                o = _sigmoid(_get(row, o_at) + of_state[o_at] + bias[o_at])
                c = f * c_below[j] + i * g
                c_above[j] = c
                _put(above, j, o * _tanh(c))
                _put(row, j, i)
                _put(row, f_at, f)
                _put(row, g_at, g)
                _put(row, o_at, o)


@_compiled
def lstm_back(
    first,
    last,
    gemm,
    real,
    rows,
    state_map,
    memory,
    history,
    d_outputs,
    d_product,
    d_h,
    d_c,
    d_rows,
):
    """Sequences first to last back through a block of the LSTM.

    Args:
        gemm: address of the product of d_rows and state_map.
        real, rows, memory, history: as `lstm` left them.
        state_map: [i f g o, hidden].
        d_outputs: [steps, batch, hidden], or of no steps where the loss did not use the outputs.
        d_product: [batch, hidden], what of dL/dh comes through the products of the step above.
        d_h: [batch, hidden], what of it comes otherwise; both are moved back.
        d_c: [batch, hidden], dL/dc; moved back.
        d_rows: [steps, batch, i f g o], the gradient of the sums is written here.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            row, d_row, d_state, d_cell = rows[t, b], d_rows[t, b], d_h[b], d_c[b]
            c_below, c_above, d_above = memory[t, b], memory[t + 1, b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_above, d_outputs[t, b])
            for j in range(hidden):
                f_at, g_at, o_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                i, f, g, o = _get(row, j), _get(row, f_at), _get(row, g_at), _get(row, o_at)
                d = d_above[j] + d_state[j]
                d_state[j] = 0
                tanh_c = _tanh(c_above[j])
                d_memory = d_cell[j] + d * o * (1 - tanh_c * tanh_c)
                d_cell[j] = d_memory * f
                _put(d_row, j, d_memory * g * i * (1 - i))
                _put(d_row, f_at, d_memory * c_below[j] * f * (1 - f))
                _put(d_row, g_at, d_memory * i * (1 - g * g))
                _put(d_row, o_at, d * tanh_c * o * (1 - o))
        _multiply(gemm, d_rows[t, first:last], state_map, d_product[first:last])


# ------------------------------------------------------------------------------------------- GRU


@_compiled
def gru(first, last, gemm, real, rows, bias, state_map, product, memory, history):
    """Sequences first to last through a block of the GRU, the reset gate after the product.

    Args: as those of `lstm`, but
        rows: [steps, batch, u r z n], the sums of the inputs in the last three; becomes u, r, z, n.
        bias: [u r z n].
        state_map: [hidden, u r z], product: [batch, u r z].
        memory: [1, batch, hidden], h in the type of the sums; moved on.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], state_map, product[first:last])
        for b in range(first, last):
            row, of_state, state, above = rows[t, b], product[b], memory[0, b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                u = of_state[j] + bias[j]
                r = _sigmoid(_get(row, r_at) + of_state[r_at] + bias[r_at])
                z = _sigmoid(_get(row, z_at) + of_state[z_at] + bias[z_at])
                n = _tanh(_get(row, n_at) + bias[n_at] + r * u)
                h = n + z * (state[j] - n)
                state[j] = h
                _put(above, j, h)
                _put(row, j, u)
                _put(row, r_at, r)
                _put(row, z_at, z)
                _put(row, n_at, n)


@_compiled
def gru_back(
    first,
    last,
    gemm,
    real,
    rows,
    state_map,
    memory,
    history,
    d_outputs,
    d_product,
    d_h,
    d_c,
    d_rows,
):
    """Sequences first to last back through a block of the GRU; as `lstm_back`, without c."""
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            row, d_row, d_state = rows[t, b], d_rows[t, b], d_h[b]
            below, d_above = history[t, b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_above, d_outputs[t, b])
            for j in range(hidden):
                r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                u, r, z, n = _get(row, j), _get(row, r_at), _get(row, z_at), _get(row, n_at)
                d = d_above[j] + d_state[j]
                d_n = d * (1 - z) * (1 - n * n)
                d_state[j] = d * z
                _put(d_row, j, d_n * r)
                _put(d_row, r_at, d_n * u * r * (1 - r))
                _put(d_row, z_at, d * (_get(below, j) - n) * z * (1 - z))
                _put(d_row, n_at, d_n)
        _multiply(gemm, d_rows[t, first:last], state_map, d_product[first:last])


# ------------------------------------------------------------------------------------------- RNN


@_compiled
def rnn(first, last, gemm, real, rows, bias, state_map, product, memory, history):
    """Sequences first to last through a block of the tanh RNN; as `lstm`, without c.

    Args: as those of `lstm`, but rows: [steps, batch, hidden], the sums of the inputs.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], state_map, product[first:last])
        for b in range(first, last):
            row, of_state, above = rows[t, b], product[b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                _put(above, j, _tanh(_get(row, j) + of_state[j] + bias[j]))


@_compiled
def rnn_back(
    first,
    last,
    gemm,
    real,
    rows,
    state_map,
    memory,
    history,
    d_outputs,
    d_product,
    d_h,
    d_c,
    d_rows,
):
    """Sequences first to last back through a block of the RNN; as `lstm_back`, without c."""
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            above, d_row, d_state, d_above = history[t + 1, b], d_rows[t, b], d_h[b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_above, d_outputs[t, b])
            for j in range(hidden):
                h, d = _get(above, j), d_above[j] + d_state[j]
                d_state[j] = 0
                _put(d_row, j, d * (1 - h * h))
        _multiply(gemm, d_rows[t, first:last], state_map, d_product[first:last])


# ----------------------------------------------------------------------------- GRU, its other form


@_compiled
def gru_before(
    first,
    last,
    gemm,
    real,
    rows,
    bias,
    map_r_z,
    map_n,
    product_r_z,
    product_n,
    rest,
    memory,
    history,
):
    """Sequences first to last through a block of the GRU, the reset gate before the product.

    Args: as those of `lstm`, but
        rows: [steps, batch, r z n], the sums of the inputs; becomes r, z, n.
        map_r_z, map_n: [hidden, r z] and [hidden, n]; product_r_z, product_n: [batch, r z] and
            [batch, n], to work in.
        rest: [steps, batch, hidden], r * h of the step before is written here.
        memory: [1, batch, hidden], h in the type of the sums; moved on.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], map_r_z, product_r_z[first:last])
        for b in range(first, last):
            row, of_state, state, left = rows[t, b], product_r_z[b], memory[0, b], rest[t, b]
            for j in range(hidden):
                z_at = j + hidden
                r = _sigmoid(_get(row, j) + of_state[j] + bias[j])
                z = _sigmoid(_get(row, z_at) + of_state[z_at] + bias[z_at])
                _put(row, j, r)
                _put(row, z_at, z)
                _put(left, j, r * state[j])
        _multiply(gemm, rest[t, first:last], map_n, product_n[first:last])
        for b in range(first, last):
            row, of_rest, state, above = rows[t, b], product_n[b], memory[0, b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                z_at, n_at = j + hidden, j + hidden + hidden
                n = _tanh(_get(row, n_at) + of_rest[j] + bias[n_at])
                h = state[j] + _get(row, z_at) * (n - state[j])
                state[j] = h
                _put(above, j, h)
                _put(row, n_at, n)


@_compiled
def gru_before_back(
    first,
    last,
    gemm,
    real,
    rows,
    map_r_z,
    map_n,
    history,
    d_outputs,
    d_product,
    d_rest,
    d_h,
    d_rows,
):
    """Sequences first to last back through a block of it; as `lstm_back`, without c.

    Args: as those of `lstm_back`, but
        map_r_z, map_n: [r z, hidden] and [n, hidden].
        d_rest: [batch, hidden], to work in.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            row, d_row, d_state = rows[t, b], d_rows[t, b], d_h[b]
            below, d_above = history[t, b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_above, d_outputs[t, b])
            for j in range(hidden):
                z_at, n_at = j + hidden, j + hidden + hidden
                z, n = _get(row, z_at), _get(row, n_at)
                d = d_above[j] + d_state[j]
                d_state[j] = d * (1 - z)
                _put(d_row, z_at, d * (n - _get(below, j)) * z * (1 - z))
                _put(d_row, n_at, d * z * (1 - n * n))
        _multiply(gemm, d_rows[t, first:last, 2 * history.shape[2] :], map_n, d_rest[first:last])
        for b in range(first, last):
            if t < real[b]:
                row, d_row, d_state = rows[t, b], d_rows[t, b], d_h[b]
                below, d_left = history[t, b], d_rest[b]
                for j in range(hidden):
                    r = _get(row, j)
                    d_state[j] += d_left[j] * r
                    _put(d_row, j, d_left[j] * _get(below, j) * r * (1 - r))
        _multiply(gemm, d_rows[t, first:last], map_r_z, d_product[first:last])


# ----------------------------------------------------------------------------- what all are made of


def as_array(tensor: Tensor) -> Any:
    """The memory of a contiguous tensor, as the kernels take it."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _get(numbers: Any, at: int) -> Any:
    """The number at a place."""


def _put(numbers: Any, at: int, value: Any) -> None:
    """Set the number at a place; as bfloat16, to the nearest one, of two to the even one."""


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""


def _tanh(x: Any) -> Any:
    """The hyperbolic tangent."""


@overload(_get, jit_options=_OPTIONS, strict=False)
def _get_of(numbers: Any, at: int) -> Any:
    if numbers.dtype == types.uint16:
        return lambda numbers, at: _int(_int(numbers[at]) << _int(16)).view(_float)
    return lambda numbers, at: numbers[at]


@overload(_put, jit_options=_OPTIONS, strict=False)
def _put_of(numbers: Any, at: int, value: Any) -> Any:
    def put(numbers: Any, at: int, value: Any) -> None:
        numbers[at] = value

    def put_rounded(numbers: Any, at: int, value: Any) -> None:
        bits = _float(value).view(_int)
        even = _int(bits >> _int(16)) & _int(1)
        rounded = _int(bits + _int(0x7FFF) + even) >> _int(16)
        # The bits of a NaN could be rounded to those of infinity.
        numbers[at] = np.uint16(rounded if value == value else _int(0x7FC0))

    return put_rounded if numbers.dtype == types.uint16 else put


@numba.njit(**_OPTIONS)
def _add(total, numbers):
    """Add `numbers` to `total`, both [hidden], in place."""
    for j in range(_unsigned(len(total))):
        total[j] += _get(numbers, j)


@overload(_sigmoid, jit_options=_OPTIONS, strict=False)
def _sigmoid_of(x: Any) -> Any:
    if x == types.float64:
        return lambda x: 1 / (1 + math.exp(-x))
    return lambda x: _float(1) / (_float(1) + _exp(-x))


@overload(_tanh, jit_options=_OPTIONS, strict=False)
def _tanh_of(x: Any) -> Any:
    def tanh(x: Any) -> Any:
        # As in Cephes' tanhf (Moshier): near zero a polynomial, since the other form cancels there.
        s = x * x
        p = s * _float(-5.70498872745e-3) + _float(2.06390887954e-2)
        p = p * s + _float(-5.37397155531e-2)
        p = p * s + _float(1.33314422036e-1)
        p = p * s + _float(-3.33332819422e-1)
        far = _float(1) - _float(2) / (_exp(x + x) + _float(1))
        return p * s * x + x if abs(x) < _float(0.625) else far

    return (lambda x: math.tanh(x)) if x == types.float64 else tanh


@numba.njit(inline="always", **_OPTIONS)
def _exp(x):
    """exp in float32 to 2 units in the last place, as in Cephes' expf (Moshier).

    Plain arithmetic, of which the compiler does eight or sixteen at once. Beyond what float32 can
    hold it is exp of the nearest number that it can.
    """
    x = _float(88) if x > _float(88) else x
    x = _float(-87) if x < _float(-87) else x
    n = np.floor(x * _float(1.44269504088896341) + _float(0.5))  # x = n log 2 + r
    r = x - n * _float(0.693359375)
    r = r + n * _float(2.12194440e-4)
    p = r * _float(1.9875691500e-4) + _float(1.3981999507e-3)
    p = p * r + _float(8.3334519073e-3)
    p = p * r + _float(4.1665795894e-2)
    p = p * r + _float(1.6666665459e-1)
    p = p * r + _float(5.0000001201e-1)
    p = p * (r * r) + r + _float(1)
    return p * _int(_int(_int(n) + _int(127)) << _int(23)).view(_float)


@numba.njit(**_OPTIONS)
def _multiply(gemm, left, right, out):
    """out = left @ right by the gemm at that address; rows of left may lie apart.

    left [m, >= k], of which the first k columns are taken; right [k, n]; out [m, n].
    """
    k, n = right.shape
    _call_gemm(
        *(gemm, out[0, 0], len(left), n, k),
        *(left.ctypes.data, left.strides[0] // left.itemsize, right.ctypes.data, out.ctypes.data),
    )


@intrinsic
def _call_gemm(context, gemm, one, m, n, k, left, left_stride, right, out):
    """BLAS's gemm(n, m, k), column by column as Fortran has it: the transposed of ours by rows."""
    number = ir.DoubleType() if one == types.float64 else ir.FloatType()
    signature = types.void(types.int64, one, *[types.int64] * 7)

    def generate(context, builder, signature, arguments):
        gemm, _, m, n, k, left, left_stride, right, out = arguments
        place, integer = ir.IntType(8).as_pointer(), ir.IntType(32)

        def at(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), place)

        def size(value: Any) -> Any:
            return at(builder.trunc(value, integer))

        def matrix(address: Any) -> Any:
            return builder.inttoptr(address, place)

        as_is = at(ir.Constant(ir.IntType(8), ord("N")))
        alpha, beta = at(ir.Constant(number, 1.0)), at(ir.Constant(number, 0.0))
        kind = ir.FunctionType(ir.VoidType(), [place] * 13).as_pointer()
        builder.call(
            builder.inttoptr(gemm, kind),
            [
                *(as_is, as_is, size(n), size(m), size(k), alpha, matrix(right), size(n)),
                *(matrix(left), size(left_stride), beta, matrix(out), size(n)),
            ],
        )
        return context.get_dummy_value()

    return signature, generate
