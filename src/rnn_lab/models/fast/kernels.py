"""The steps of a recurrent layer and of its gradient, compiled by Numba.

Beside its matrix product, a step is some twenty operations on [batch, hidden]. As tensor operations
each is a pass over memory with a call of its own, and takes longer than the product. Here a block
of steps is one call, in which each thread takes some of the sequences through all of them: a step
is one product and one pass over what is in the processor's cache.

A block is [steps, batch, ...], and `real` [batch] is how many of its steps each sequence has.
Beyond, outputs and gradients are zero and what is carried along stays as it is. A step's row has
parts, each `hidden` wide, in the order that the names of a kernel's parts have. Numbers are float32
or float64, or bfloat16, which NumPy lacks: these are passed as uint16.

All compiled code is in one file, since Numba compiles a cached function again only if its own file
has changed.
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

from rnn_lab.models.fast.native import parallel_over_batch

# Sums of products may be fused. Nothing is assumed of infinities and NaN, which must be seen.
_OPTIONS: Any = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
_float, _int, _unsigned = np.float32, np.int32, np.uintp

# LLVM may decide once for all sequences whether two parts of a row overlap in memory. In these
# interleaved rows it then assumes that they do, and a step is five times as slow.
llvm.set_option("", "--hoist-runtime-checks=false")


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function` when it is first called; cache the result on disk if possible."""
    try:
        made: Callable[..., None] = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder for the cache can be written
        made = numba.njit(**_OPTIONS)(function)
    return made


# ------------------------------------------------------------------------------------------- GRU


@_compiled
def gru(first, last, gemm, real, rows, bias, state_map, product, state, history):
    """Run sequences first to last through a block of the GRU, the reset gate after the product.

    Args:
        gemm: address of the product of history and state_map.
        real: int64 [batch].
        rows: [steps, batch, u r z n], the sums of the inputs in the last three; becomes u, r, z, n.
        bias: [u r z n].
        state_map: [hidden, u r z].
        product: [batch, u r z], working memory.
        state: [batch, hidden], h in the type of the sums; replaced by the last one.
        history: [steps + 1, batch, hidden], the h of each step; the first is given.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], state_map, product[first:last])
        for b in range(first, last):
            row, of_state, h, above = rows[t, b], product[b], state[b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                u = of_state[j] + bias[j]
                r = _sigmoid(_get(row, r_at) + of_state[r_at] + bias[r_at])
                z = _sigmoid(_get(row, z_at) + of_state[z_at] + bias[z_at])
                n = _tanh(_get(row, n_at) + bias[n_at] + r * u)
                h[j] = n + z * (h[j] - n)
                _put(above, j, h[j])
                _put(row, j, u)
                _put(row, r_at, r)
                _put(row, z_at, z)
                _put(row, n_at, n)


@_compiled
def gru_back(
    first, last, gemm, real, rows, state_map, history, d_outputs, d_product, d_state, d_rows
):
    """Run sequences first to last back through a block of the GRU.

    Args:
        gemm: address of the product of d_rows and state_map.
        real, rows, history: as `gru` left them.
        state_map: [u r z, hidden].
        d_outputs: [steps, batch, hidden], or of no steps where the loss did not use the outputs.
        d_product: [batch, hidden], the part of dL/dh through the product of the step above.
        d_state: [batch, hidden], the other part. Both are replaced by those of the first step.
        d_rows: [steps, batch, u r z n]; the gradient of the sums is written here.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            row, below, d_row = rows[t, b], history[t, b], d_rows[t, b]
            d_past, d_through = d_state[b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_through, d_outputs[t, b])
            for j in range(hidden):
                r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
                u, r, z, n = _get(row, j), _get(row, r_at), _get(row, z_at), _get(row, n_at)
                d_h = d_through[j] + d_past[j]
                d_n = d_h * (1 - z) * (1 - n * n)
                d_past[j] = d_h * z
                _put(d_row, j, d_n * r)
                _put(d_row, r_at, d_n * u * r * (1 - r))
                _put(d_row, z_at, d_h * (_get(below, j) - n) * z * (1 - z))
                _put(d_row, n_at, d_n)
        _multiply(gemm, d_rows[t, first:last], state_map, d_product[first:last])


# ------------------------------------------------------------------------------------------- RNN


@_compiled
def rnn(first, last, gemm, real, rows, bias, state_map, product, state, history):
    """Run sequences first to last through a block of the tanh RNN.

    Args: as those of `gru`, but rows are [steps, batch, hidden], and `state` is not used.
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
    first, last, gemm, real, rows, state_map, history, d_outputs, d_product, d_state, d_rows
):
    """Run sequences first to last back through a block of the RNN; arguments as `gru_back`'s."""
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            above, d_row = history[t + 1, b], d_rows[t, b]
            d_past, d_through = d_state[b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_through, d_outputs[t, b])
            for j in range(hidden):
                h, d_h = _get(above, j), d_through[j] + d_past[j]
                d_past[j] = 0
                _put(d_row, j, d_h * (1 - h * h))
        _multiply(gemm, d_rows[t, first:last], state_map, d_product[first:last])


# ------------------------------------------------------------- GRU, reset gate before the product


@_compiled
def gru_before(
    first, last, gemm, real, rows, bias, map_r_z, map_n, of_r_z, of_n, rest, state, history
):
    """Run sequences first to last through a block of the GRU, the reset gate before the product.

    Args: as those of `gru`, but
        rows: [steps, batch, r z n], the sums of the inputs; becomes r, z, n.
        map_r_z, map_n: [hidden, r z] and [hidden, n].
        of_r_z, of_n: [batch, r z] and [batch, n], working memory.
        rest: [steps, batch, hidden]; r * h, of the h below, is written here.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows)):
        _multiply(gemm, history[t, first:last], map_r_z, of_r_z[first:last])
        for b in range(first, last):
            row, of_state, h, left = rows[t, b], of_r_z[b], state[b], rest[t, b]
            for j in range(hidden):
                z_at = j + hidden
                r = _sigmoid(_get(row, j) + of_state[j] + bias[j])
                z = _sigmoid(_get(row, z_at) + of_state[z_at] + bias[z_at])
                _put(left, j, r * h[j])
                _put(row, j, r)
                _put(row, z_at, z)
        _multiply(gemm, rest[t, first:last], map_n, of_n[first:last])
        for b in range(first, last):
            row, of_rest, h, above = rows[t, b], of_n[b], state[b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                z_at, n_at = j + hidden, j + hidden + hidden
                n = _tanh(_get(row, n_at) + of_rest[j] + bias[n_at])
                h[j] = h[j] + _get(row, z_at) * (n - h[j])
                _put(above, j, h[j])
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
    d_rest,
    d_product,
    d_state,
    d_rows,
):
    """Run sequences first to last back through a block of `gru_before`.

    Args: as those of `gru_back`, but
        map_r_z, map_n: [r z, hidden] and [n, hidden].
        d_rest: [batch, hidden], working memory.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(rows) - 1, -1, -1):
        for b in range(first, last):
            row, below, d_row = rows[t, b], history[t, b], d_rows[t, b]
            d_past, d_through = d_state[b], d_product[b]
            if t >= real[b]:
                d_row[:] = 0
                continue
            if len(d_outputs):
                _add(d_through, d_outputs[t, b])
            for j in range(hidden):
                z_at, n_at = j + hidden, j + hidden + hidden
                z, n = _get(row, z_at), _get(row, n_at)
                d_h = d_through[j] + d_past[j]
                d_past[j] = d_h * (1 - z)
                _put(d_row, z_at, d_h * (n - _get(below, j)) * z * (1 - z))
                _put(d_row, n_at, d_h * z * (1 - n * n))
        d_n = d_rows[t, first:last, 2 * history.shape[2] :]
        _multiply(gemm, d_n, map_n, d_rest[first:last])
        for b in range(first, last):
            if t >= real[b]:
                continue
            row, below, d_row = rows[t, b], history[t, b], d_rows[t, b]
            d_past, d_left = d_state[b], d_rest[b]
            for j in range(hidden):
                r = _get(row, j)
                d_past[j] += d_left[j] * r
                _put(d_row, j, d_left[j] * _get(below, j) * r * (1 - r))
        _multiply(gemm, d_rows[t, first:last], map_r_z, d_product[first:last])


# ----------------------------------------------------------------------------------- linear scan


@_compiled
def linear_scan(first, last, real, keep, add, history):
    """Run sequences first to last through h_t = keep_t * h_{t-1} + add_t.

    Args:
        real: int64 [batch], the length of each sequence.
        keep, add: [time, batch, hidden].
        history: [time + 1, batch, hidden], the h of each step; the first is given. Zero beyond
            each length.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(keep)):
        for b in range(first, last):
            share, new, below, above = keep[t, b], add[t, b], history[t, b], history[t + 1, b]
            if t >= real[b]:
                above[:] = 0
                continue
            for j in range(hidden):
                above[j] = share[j] * below[j] + new[j]


@_compiled
def linear_scan_back(first, last, real, keep, history, d_outputs, d_state, d_keep, d_add):
    """Run sequences first to last back through `linear_scan`.

    Args:
        real, keep, history: as `linear_scan` left them.
        d_outputs: [time, batch, hidden], or of no steps if the loss did not use the outputs.
        d_state: [batch, hidden], dL/dh of the last real step beside d_outputs; replaced by dL/dh_0.
        d_keep, d_add: [time, batch, hidden]; the gradients are written here.
    """
    hidden = _unsigned(history.shape[2])
    for t in range(len(keep) - 1, -1, -1):
        for b in range(first, last):
            share, below, d_h = keep[t, b], history[t, b], d_state[b]
            d_share, d_new = d_keep[t, b], d_add[t, b]
            if t >= real[b]:
                d_share[:] = 0
                d_new[:] = 0
                continue
            if len(d_outputs):
                _add(d_h, d_outputs[t, b])
            for j in range(hidden):
                d_share[j] = d_h[j] * below[j]
                d_new[j] = d_h[j]
                d_h[j] *= share[j]


# -------------------------------------------------------------------------------- building blocks


def run(kernel: Callable[..., None], batch: int, *arguments: Tensor | int) -> None:
    """Call kernel(first, last, *arguments) on parts of the batch in parallel, tensors as arrays."""
    arrays = [one if isinstance(one, int) else _as_array(one) for one in arguments]
    parallel_over_batch(batch, lambda first, last: kernel(first, last, *arrays))


def _as_array(tensor: Tensor) -> Any:  # of the memory of a contiguous tensor
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _get(numbers: Any, at: int) -> Any:
    """Return the number at an index."""


def _put(numbers: Any, at: int, value: Any) -> None:
    """Set the number at an index; bfloat16 is rounded to nearest, ties away from zero."""


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
        rounded = _int(_float(value).view(_int) + _int(0x8000)) >> _int(16)
        # The bits of a NaN could round to those of a number.
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
        # As in Eigen and XLA: a ratio of polynomials, to 3e-7 of the value.
        x = _float(7.99881172180175781) if x > _float(7.99881172180175781) else x
        x = _float(-7.99881172180175781) if x < _float(-7.99881172180175781) else x
        s = x * x
        p = s * _float(-2.76076847742355e-16) + _float(2.00018790482477e-13)
        p = p * s + _float(-8.60467152213735e-11)
        p = p * s + _float(5.12229709037114e-08)
        p = p * s + _float(1.48572235717979e-05)
        p = p * s + _float(6.37261928875436e-04)
        p = p * s + _float(4.89352455891786e-03)
        q = s * _float(1.19825839466702e-06) + _float(1.18534705686654e-04)
        q = q * s + _float(2.26843463243900e-03)
        q = q * s + _float(4.89352518554385e-03)
        return p * x / q

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
    """Call BLAS's column-major gemm(n, m, k): the transpose of this row-major product."""
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
