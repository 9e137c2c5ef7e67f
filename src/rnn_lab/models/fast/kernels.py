"""The steps of a recurrent layer and of its gradient, compiled by Numba.

Beside its matrix product, a step is some twenty operations on [batch, hidden]. As tensor operations
each is a pass over memory with a call of its own, and takes longer than the product. Here one call
takes some of the sequences through a block of steps, products included, on one thread: a step is
one product and one pass over what is in the processor's cache, and no thread waits for another one
before the block ends.

A block is [steps, batch, ...], and `real` [batch] is how many of its steps each sequence has.
Beyond, outputs and gradients are zero and what is carried along stays as it is. A step's row has
parts, each `hidden` wide, in the order that a cell below has. Numbers are float32 or float64, or
bfloat16, which NumPy lacks: these are passed as uint16.

All compiled code is in one file, since Numba compiles a cached function again only if its own file
has changed.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.caching import IndexDataCacheFile
from numba.extending import intrinsic, overload
from torch import Tensor

from rnn_lab.models.fast.native import batch_pieces, parallel_for

# Sums of products may be fused. Nothing is assumed of infinities and NaN, which must be seen.
_OPTIONS: Any = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
_float, _int, _unsigned = np.float32, np.int32, np.uintp

# LLVM may decide once for all sequences whether two parts of a row overlap in memory. In these
# interleaved rows it then assumes that they do, and a step is five times as slow.
llvm.set_option("", "--hoist-runtime-checks=false")


class KernelCache(IndexDataCacheFile):
    """The compiled code of one function on disk, a file for each signature.

    Numba numbers the files, and keeps the numbers in an index. Of two processes that compile at the
    same time, as the first jobs of a sweep, both may give one number to different signatures: every
    later process then calls the code of one with the arguments of the other (numba #9348, #10128).
    """

    def save(self, key: Any, data: Any) -> None:
        """Write the code of the signature `key`."""
        self._save_data(self._file_name(key), (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        """Return the code of the signature `key`; None: there is none, or it is damaged."""
        try:
            stamp, found, data = self._load_data(self._file_name(key))
        except Exception:  # also what a truncated pickle raises; it is compiled again
            return None
        return data if (stamp, found) == (self._source_stamp, key) else None

    def _file_name(self, key: Any) -> str:
        digest = hashlib.sha256(repr((self._version, key)).encode()).hexdigest()[:16]
        return f"{self._index_name.removesuffix('.nbi')}.{digest}.nbc"


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` when it is first called; cache the result on disk if possible."""
    try:
        made: Any = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder for the cache can be written
        made = numba.njit(**_OPTIONS)(function)
    else:
        # Private: tests/models/fast/test_kernels.py fails when Numba calls it in another way.
        cache = made._cache
        stamp = cache._cache_file._source_stamp
        cache._cache_file = KernelCache(cache.cache_path, cache._impl.filename_base, stamp)
    return made


# ----------------------------------------------------------------------------------------- cells


class RNN(NamedTuple):
    """h = tanh(sums); the gradient needs no part beside h."""

    parts: int = 1


class LSTM(NamedTuple):
    """Parts are i f g o. The gradient also needs `extra`, C."""

    parts: int = 4


class GRU(NamedTuple):
    """The reset gate after the product u. Parts are u r z n, without u of the inputs."""

    parts: int = 4


class GRUResetBefore(NamedTuple):
    """The reset gate before the product. Parts are r z n; `extra` is s = r h, of the h below."""

    parts: int = 3


def _step(cell, sums, bias, row, state, extra, above):
    """Run one sequence through one step.

    `sums` [parts] are those of all products. Written: `row`, `state`, `extra` and `above`, the h.
    """


def _step_back(cell, row, h, above, below, extra, d_h, d_state, d_row):
    """Run one sequence back through one step.

    `h` and `below` are h and `extra` of the step below, `above` and `extra` this step's. From `d_h`
    and `d_state` are written `d_row`, the gradient of the sums, and `d_state` of the step below.
    """


@overload(_step, jit_options=_OPTIONS, strict=False)
def _step_of(cell, sums, bias, row, state, extra, above):
    def rnn(cell, sums, bias, row, state, extra, above):
        for j in range(_unsigned(len(above))):
            _put(above, j, _tanh(sums[j] + bias[j]))

    def lstm(cell, sums, bias, row, state, extra, above):
        hidden = _unsigned(len(above))
        for j in range(hidden):
            f_at, g_at, o_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
            i = _sigmoid(sums[j] + bias[j])
            f = _sigmoid(sums[f_at] + bias[f_at])
            g = _tanh(sums[g_at] + bias[g_at])
            o = _sigmoid(sums[o_at] + bias[o_at])
            c = f * state[j] + i * g
            state[j] = c
            _put(extra, j, c)
            _put(above, j, o * _tanh(c))
            _put(row, j, i)
            _put(row, f_at, f)
            _put(row, g_at, g)
            _put(row, o_at, o)

    def gru(cell, sums, bias, row, state, extra, above):
        hidden = _unsigned(len(above))
        for j in range(hidden):
            r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
            u = sums[j] + bias[j]
            r = _sigmoid(sums[r_at] + bias[r_at])
            z = _sigmoid(sums[z_at] + bias[z_at])
            n = _tanh(sums[n_at] + bias[n_at] + r * u)
            h = n + z * (state[j] - n)
            state[j] = h
            _put(above, j, h)
            _put(row, j, u)
            _put(row, r_at, r)
            _put(row, z_at, z)
            _put(row, n_at, n)

    def gru_reset_before(cell, sums, bias, row, state, extra, above):
        hidden = _unsigned(len(above))
        for j in range(hidden):
            z_at, n_at = j + hidden, j + hidden + hidden
            n = _tanh(sums[n_at] + bias[n_at])
            h = state[j] + _get(row, z_at) * (n - state[j])
            state[j] = h
            _put(above, j, h)
            _put(row, n_at, n)

    return {RNN: rnn, LSTM: lstm, GRU: gru, GRUResetBefore: gru_reset_before}[cell.instance_class]


@overload(_step_back, jit_options=_OPTIONS, strict=False)
def _step_back_of(cell, row, h, above, below, extra, d_h, d_state, d_row):
    def rnn(cell, row, h, above, below, extra, d_h, d_state, d_row):
        one = d_h.dtype.type(1)
        for j in range(_unsigned(len(h))):
            new = _get(above, j)
            _put(d_row, j, d_h[j] * (one - new * new))

    def lstm(cell, row, h, above, below, extra, d_h, d_state, d_row):
        hidden, one = _unsigned(len(h)), d_h.dtype.type(1)
        for j in range(hidden):
            f_at, g_at, o_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
            i, f, g, o = _get(row, j), _get(row, f_at), _get(row, g_at), _get(row, o_at)
            tanh_c, d = _tanh(_get(extra, j)), d_h[j]
            d_c = d_state[j] + d * o * (one - tanh_c * tanh_c)
            d_state[j] = d_c * f
            _put(d_row, j, d_c * g * i * (one - i))
            _put(d_row, f_at, d_c * _get(below, j) * f * (one - f))
            _put(d_row, g_at, d_c * i * (one - g * g))
            _put(d_row, o_at, d * tanh_c * o * (one - o))

    def gru(cell, row, h, above, below, extra, d_h, d_state, d_row):
        hidden, one = _unsigned(len(h)), d_h.dtype.type(1)
        for j in range(hidden):
            r_at, z_at, n_at = j + hidden, j + hidden + hidden, j + hidden + hidden + hidden
            u, r, z, n = _get(row, j), _get(row, r_at), _get(row, z_at), _get(row, n_at)
            d = d_h[j] + d_state[j]
            d_n = d * (one - z) * (one - n * n)
            d_state[j] = d * z
            _put(d_row, j, d_n * r)
            _put(d_row, r_at, d_n * u * r * (one - r))
            _put(d_row, z_at, d * (_get(h, j) - n) * z * (one - z))
            _put(d_row, n_at, d_n)

    def gru_reset_before(cell, row, h, above, below, extra, d_h, d_state, d_row):
        hidden, one = _unsigned(len(h)), d_h.dtype.type(1)
        for j in range(hidden):
            z_at, n_at = j + hidden, j + hidden + hidden
            z, n = _get(row, z_at), _get(row, n_at)
            d = d_h[j] + d_state[j]
            d_state[j] = d * (one - z)
            _put(d_row, z_at, d * (n - _get(h, j)) * z * (one - z))
            _put(d_row, n_at, d * z * (one - n * n))

    return {RNN: rnn, LSTM: lstm, GRU: gru, GRUResetBefore: gru_reset_before}[cell.instance_class]


@numba.njit(**_OPTIONS)
def _reset(sums, bias, row, state, extra):
    """Run one sequence through the first half of a step of `GRUResetBefore`: up to s."""
    hidden = _unsigned(len(state))
    for j in range(hidden):
        z_at = j + hidden
        r = _sigmoid(sums[j] + bias[j])
        z = _sigmoid(sums[z_at] + bias[z_at])
        _put(extra, j, r * state[j])
        _put(row, j, r)
        _put(row, z_at, z)


@numba.njit(**_OPTIONS)
def _reset_back(row, h, d_extra, d_state, d_row):
    """Run one sequence back through the first half of a step of `GRUResetBefore`."""
    one = d_extra.dtype.type(1)
    for j in range(_unsigned(len(h))):
        r = _get(row, j)
        d_state[j] += d_extra[j] * r
        _put(d_row, j, d_extra[j] * _get(h, j) * r * (one - r))


# ----------------------------------------------------------------------------------------- steps


class Weights(NamedTuple):
    """The right factors of products, see `native.Products`; `backward` takes the transposes."""

    input_map: Any  # [input, parts], for the last parts of a row
    # [hidden, parts], for the first parts; a second one multiplies s for the last.
    state_maps: tuple[Any, ...]


class Block(NamedTuple):
    """A block of steps, of which `forward` writes rows, history and extra, and `backward` none."""

    real: Any  # int64 [batch]
    inputs: Any  # [steps, batch, input]
    rows: Any  # [steps, batch, parts]; of one step if `backward` will not be called
    history: Any  # [steps + 1, batch, hidden], the h of each step; the first is given
    # [steps + 1, batch, hidden], of which the first is not read; of one step if `backward` will not
    # be called; [1, batch, 0] for a cell without it.
    extra: Any


class BlockGradients(NamedTuple):
    """The gradients of what a block has read and written."""

    outputs: Any  # [steps, batch, hidden], or of no steps where the loss did not use the outputs
    last: Any  # [batch, hidden], dL/dh of each last real step beside that
    # [batch, hidden], dL/dh through the products of the step above; and the rest of it, or dL/dC.
    # Both are replaced by those of the first step.
    h: Any
    state: Any
    inputs: Any  # [steps, batch, input], written; or of no steps


class WeightGradients(NamedTuple):
    """Sums of gradients, [pieces, *shape of the weights], added to; or of no pieces."""

    input_map: Any
    state_map: Any
    bias: Any


@_compiled
def forward(cell, first, last, gemms, weights, bias, block, state):
    """Run sequences first to last through a block of steps.

    Args:
        cell: one of the above.
        gemms: `native.Products`.
        weights: `Weights`.
        bias: [parts].
        block: `Block`.
        state: [batch, hidden], h or C in the type of the sums; replaced by the last one.
    """
    input_map, state_maps = weights
    inputs, rows, history = _lend(block.inputs), _lend(block.rows), _lend(block.history)
    extra, state, real, bias = _lend(block.extra), _lend(state), _lend(block.real), _lend(bias)
    n, most = last - first, _steps_at_once(last - first, inputs)
    copied = np.empty((most * n, inputs.shape[2]), inputs.dtype)
    sums = np.empty((most * n, len(bias)), bias.dtype)
    at = len(bias) - input_map.shape[1]
    step_gemms = gemms.step, gemms.gemm, gemms.panel
    block_gemms = gemms.block, gemms.gemm, gemms.panel
    for start in range(0, len(inputs), most):
        stop = min(start + most, len(inputs))
        m = _gather(inputs, start, stop, first, last, copied)
        sums[:, :at] = 0
        multiply(*block_gemms, copied[:m], input_map, sums[:m, at:], 0)
        for t in range(start, stop):
            of = sums[(t - start) * n : (t - start + 1) * n]
            row_at, extra_at = min(t, len(rows) - 1), min(t + 1, len(extra) - 1)
            multiply(*step_gemms, history[t, first:last], state_maps[0], of, 1)
            if len(state_maps) > 1:
                for b in range(first, last):
                    _reset(of[b - first], bias, rows[row_at, b], state[b], extra[extra_at, b])
                of_extra = of[:, state_maps[0].shape[1] :]
                multiply(*step_gemms, extra[extra_at, first:last], state_maps[-1], of_extra, 1)
            for b in range(first, last):
                if t < real[b]:
                    _step(
                        *(cell, of[b - first], bias, rows[row_at, b], state[b]),
                        *(extra[extra_at, b], history[t + 1, b]),
                    )
                else:
                    history[t + 1, b] = 0
        end_brgemm(gemms)


@_compiled
def backward(cell, first, last, piece, gemms, weights, block, d_block, d_weights):
    """Run sequences first to last back through a block of steps.

    Args: as `forward` left them, but
        piece: the index of this call's sums of gradients: other calls run at the same time.
        weights: the transposes.
        d_block: `BlockGradients`.
        d_weights: `WeightGradients`.
    """
    input_map, state_maps = weights
    inputs, rows, history = _lend(block.inputs), _lend(block.rows), _lend(block.history)
    extra, real = _lend(block.extra), _lend(block.real)
    d_outputs, d_last, d_h = _lend(d_block.outputs), _lend(d_block.last), _lend(d_block.h)
    d_state, d_inputs = _lend(d_block.state), _lend(d_block.inputs)
    d_input_map, d_state_map, d_bias = d_weights
    d_bias = _lend(d_bias)
    n, most = last - first, _steps_at_once(last - first, inputs)
    features, hidden, parts = inputs.shape[2], history.shape[2], rows.shape[2]
    copied = np.empty((most * n, max(features, hidden)), inputs.dtype)
    d_rows = np.empty((_padded(most * n), parts), rows.dtype)
    d_copied = np.empty((most * n, features), d_h.dtype)
    d_extra = np.empty((n, hidden), d_h.dtype)
    at, of_h = parts - len(input_map), len(state_maps[0])
    step_gemms = gemms.step, gemms.gemm, gemms.panel
    block_gemms = gemms.block, gemms.gemm, gemms.panel
    # Where the product of gradients needs a transposed left factor and a packed right one.
    most_rows = 0 if gemms.gemm else _padded(most * n)
    across = np.empty((parts, most_rows), rows.dtype)
    pairs = np.empty((most_rows, max(features, hidden)), rows.dtype)
    for stop in range(len(inputs), 0, -most):
        start = max(0, stop - most)
        for t in range(stop - 1, start - 1, -1):
            d_step = d_rows[(t - start) * n : (t - start + 1) * n]
            for b in range(first, last):
                if t >= real[b]:
                    d_step[b - first] = 0
                    continue
                if len(d_outputs):
                    _add(d_h[b], d_outputs[t, b])
                if t == real[b] - 1:
                    _add(d_h[b], d_last[b])
                _step_back(
                    *(cell, rows[t, b], history[t, b], history[t + 1, b], extra[t, b]),
                    *(extra[t + 1, b], d_h[b], d_state[b], d_step[b - first]),
                )
            if len(state_maps) > 1:
                multiply(*step_gemms, d_step[:, of_h:], state_maps[-1], d_extra, 0)
                for b in range(first, last):
                    if t < real[b]:
                        _reset_back(
                            *(rows[t, b], history[t, b], d_extra[b - first]),
                            *(d_state[b], d_step[b - first]),
                        )
            multiply(*step_gemms, d_step[:, :of_h], state_maps[0], d_h[first:last], 0)
        end_brgemm(gemms)
        m = (stop - start) * n
        if len(d_bias):
            if not gemms.gemm:
                d_rows[m : _padded(m)] = 0
                _transpose(d_rows[: _padded(m)], across)
            _gather(history, start, stop, first, last, copied)
            _add_gradient(
                *(gemms, d_rows[:m, :of_h], across[:of_h], copied[:m, :hidden], pairs),
                d_state_map[piece, :of_h],
            )
            if len(state_maps) > 1:
                _gather(extra, start + 1, stop + 1, first, last, copied)
                _add_gradient(
                    *(gemms, d_rows[:m, of_h:], across[of_h:], copied[:m, :hidden], pairs),
                    d_state_map[piece, of_h:],
                )
            _gather(inputs, start, stop, first, last, copied)
            _add_gradient(
                *(gemms, d_rows[:m, at:], across[at:], copied[:m, :features], pairs),
                d_input_map[piece],
            )
            for i in range(m):
                _add(d_bias[piece], d_rows[i])
        if len(d_inputs):
            multiply(*block_gemms, d_rows[:m, at:], input_map, d_copied[:m], 0)
            for i in range(m):
                d_input = d_inputs[start + i // n, first + i % n]
                for j in range(_unsigned(features)):
                    _put(d_input, j, d_copied[i, j])
            end_brgemm(gemms)


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


# ---------------------------------------------------------------------------------------- pooling


@_compiled
def pool(first, last, lengths, outputs, turn, at_last, at_max, at_mean, pooled, steps):
    """Pool sequences first to last over their real steps.

    Args:
        lengths: int64 [batch].
        outputs: [time, batch, features].
        turn: features from here on are of the backward direction, which ends at step 0.
        at_last, at_max, at_mean: where that part of a row of `pooled` begins; -1: it has none.
        pooled: [batch, parts * features], written.
        steps: int32 [batch, features], of which each maximum is; written where there is one.
    """
    outputs, pooled, steps = _lend(outputs), _lend(pooled), _lend(steps)
    features, number = outputs.shape[2], pooled.dtype.type
    for b in range(first, last):
        n = lengths[b]
        if at_last >= 0:
            end, begin, to = outputs[n - 1, b], outputs[0, b], pooled[b, at_last:]
            for j in range(_unsigned(features)):
                to[j] = _get(end, j) if j < turn else _get(begin, j)
        if at_max >= 0:
            found, best = steps[b], pooled[b, at_max : at_max + features]
            found[:] = 0
            best[:] = -np.inf
            for t in range(n):
                of, step = outputs[t, b], _int(t)
                for j in range(_unsigned(features)):
                    value = _get(of, j)
                    is_new = (value > best[j]) | (value != value)  # a NaN must be seen
                    best[j] = value if is_new else best[j]
                    found[j] = step if is_new else found[j]
        if at_mean >= 0:
            total = pooled[b, at_mean : at_mean + features]
            total[:] = 0
            for t in range(n):
                _add(total, outputs[t, b])
            for j in range(_unsigned(features)):
                total[j] /= number(n)


@_compiled
def pool_back(first, last, lengths, d_outputs, turn, at_last, at_max, at_mean, d_pooled, steps):
    """Write `d_outputs` [time, batch, features] of sequences first to last, zero beyond lengths.

    `d_pooled` is dL/dpooled, the rest as in `pool`.
    """
    d_outputs, d_pooled, steps = _lend(d_outputs), _lend(d_pooled), _lend(steps)
    features, number = d_outputs.shape[2], d_pooled.dtype.type
    share = np.zeros(features, d_outputs.dtype)
    for b in range(first, last):
        n, d_row = lengths[b], d_pooled[b]
        if at_mean >= 0:
            for j in range(_unsigned(features)):
                _put(share, j, d_row[at_mean + j] / number(n))
        for t in range(n):
            _copy(d_outputs[t, b], share)
        for t in range(n, len(d_outputs)):
            d_outputs[t, b] = 0
        if at_last >= 0:
            end, begin = d_outputs[n - 1, b], d_outputs[0, b]
            for j in range(_unsigned(turn)):
                _put(end, j, _get(end, j) + d_row[at_last + j])
            for j in range(turn, features):
                _put(begin, j, _get(begin, j) + d_row[at_last + j])
        if at_max >= 0:
            for j in range(features):
                to = d_outputs[steps[b, j], b]
                _put(to, j, _get(to, j) + d_row[at_max + j])


# ---------------------------------------------------------------------------------------- dropout


@_compiled
def draw_words(block, left, out):
    """Write the next numbers of a Mersenne Twister to out [even]; return what is left of a block.

    `block` [624] is its state, replaced, of which the last `left` numbers are yet to be drawn
    (Matsumoto and Nishimura 1998). In each pair, the second number comes first: read as 64 bits,
    the first one drawn has the higher 32, as in torch.
    """
    done = 0
    while done < len(out):
        if left == 0:
            # By constants, which let LLVM see that sixteen numbers at once do not overlap.
            for i in range(_unsigned(227)):
                block[i] = block[i + _unsigned(397)] ^ _twist(block[i], block[i + _unsigned(1)])
            for i in range(_unsigned(227), _unsigned(623)):
                block[i] = block[i - _unsigned(227)] ^ _twist(block[i], block[i + _unsigned(1)])
            block[623] = block[396] ^ _twist(block[623], block[0])
            left = 624
        count = min(left, len(out) - done)
        of, to = block[624 - left : 624 - left + count], out[done : done + count]
        for i in range(_unsigned(count)):
            y = of[i]
            y ^= y >> np.uint32(11)
            y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
            y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
            to[i] = y ^ (y >> np.uint32(18))
        left -= count
        done += count
    pairs = out.view(np.uint64)
    for i in range(_unsigned(len(pairs))):
        pairs[i] = (pairs[i] << np.uint64(32)) | (pairs[i] >> np.uint64(32))
    return left


@numba.njit(inline="always", **_OPTIONS)
def _twist(upper, lower):
    mixed = (upper & np.uint32(0x80000000)) | (lower & np.uint32(0x7FFFFFFF))
    odd = np.uint32(0x9908B0DF) if lower & np.uint32(1) else np.uint32(0)
    return (mixed >> np.uint32(1)) ^ odd


@_compiled
def dropout(first, last, numbers, chances, steps, dropped, scale, out):
    """Write numbers [rows, features] with dropout to out, rows first to last.

    `chances` int16 [rows, features] are those of row i of `numbers` in row (i % batch) * steps +
    i // batch, batch being rows / steps: those of a text after one another. Kept are numbers whose
    chance is not below -2**15 + dropped; they are multiplied by `scale` [1].
    """
    batch, features = len(numbers) // steps, _unsigned(numbers.shape[1])
    numbers, chances, out, factor = _lend(numbers), _lend(chances), _lend(out), _get(scale, 0)
    bound = _int(dropped - 2**15)
    for i in range(first, last):
        of, to, chance = numbers[i], out[i], chances[(i % batch) * steps + i // batch]
        for j in range(features):
            is_kept = _int(chance[j]) >= bound
            _put(to, j, _get(of, j) * (factor if is_kept else factor * 0))


# ------------------------------------------------------------------------------ rows of embeddings


@_compiled
def find_places(tokens, place_of, rows):
    """Replace tokens [n] by their places among the distinct ones and 0, ascending; return how many.

    These are written to `rows` [vocab]. `place_of` [vocab] is working memory, all zero. If a token
    is not from 0 to vocab - 1, return 0.
    """
    place_of[0] = 1
    for i in range(len(tokens)):
        if tokens[i] < 0 or tokens[i] >= len(place_of):
            return 0
        place_of[tokens[i]] = 1
    count = 0
    for token in range(len(place_of)):
        if place_of[token]:
            rows[count] = token
            place_of[token] = count
            count += 1
    for i in range(len(tokens)):
        tokens[i] = place_of[tokens[i]]
    return count


@_compiled
def sort_places(places, starts, order):
    """Write what `add_up` needs of places [n]: the steps of each place, ascending, to order [n].

    Those of place r are at starts[r] to starts[r + 1]. `starts` [rows + 1] must be all zero.
    """
    for place in places:
        starts[place + 1] += 1
    for row in range(1, len(starts)):
        starts[row] += starts[row - 1]
    for i in range(len(places)):
        order[starts[places[i]]] = i
        starts[places[i]] += 1
    for row in range(len(starts) - 1, 0, -1):
        starts[row] = starts[row - 1]
    starts[0] = 0


@_compiled
def look_up(first, last, places, table, out):
    """Write table [rows, features] at places [n], first to last, to out [n, features]."""
    out = _lend(out)
    for i in range(first, last):
        of, to = table[places[i]], out[i]
        for j in range(_unsigned(len(to))):
            _put(to, j, of[j])


@_compiled
def add_up(first, last, starts, order, gradient, sums):
    """Write to sums [rows, features] the sum of the rows of gradient [n, features] at each place.

    `starts` and `order` are those of `sort_places`. Summed are the places of which the first step
    comes in `order` from `first` to `last`: every sum has one thread, and its order.
    """
    gradient, rows = _lend(gradient), len(sums)
    for row in range(np.searchsorted(starts[:rows], first), np.searchsorted(starts[:rows], last)):
        to = sums[row]
        to[:] = 0
        for i in range(starts[row], starts[row + 1]):
            _add(to, gradient[order[i]])


@_compiled
def read_adam_rows(first, last, rows, written, lags, eps, weight, mean, square, out):
    """Write `rows` [n] of a weight, first to last, to out [n, features], with missed updates.

    `lags` [steps + 1, (b1^(t-s), b2^(t-s), A, B, D)] and the equations: see `models/lazy_rows.py`.
    """
    for i in range(first, last):
        w, m, v, to = weight[rows[i]], mean[rows[i]], square[rows[i]], out[i]
        kept, a, b = _missed_updates(lags[written[rows[i]]], eps, w)
        for j in range(_unsigned(len(w))):
            to[j] = kept * w[j] - m[j] / (a + b * math.sqrt(v[j]))


@_compiled
def update_adam_rows(first, last, rows, written, lags, eps, weight, mean, square):
    """Apply missed updates to `rows` [n] of a weight and its moments, first to last."""
    for i in range(first, last):
        w, m, v = weight[rows[i]], mean[rows[i]], square[rows[i]]
        lag = lags[written[rows[i]]]
        kept, a, b = _missed_updates(lag, eps, w)
        decay1, decay2 = w.dtype.type(lag[0]), w.dtype.type(lag[1])
        for j in range(_unsigned(len(w))):
            w[j] = kept * w[j] - m[j] / (a + b * math.sqrt(v[j]))
            m[j] *= decay1
            v[j] *= decay2


@_compiled
def step_adam_rows(
    first, last, rows, written, lags, eps, weight, mean, square, gradient, lr, kept, betas, step
):
    """Make AdamW's step, after missed updates, of `rows` [n] of a weight, first to last.

    `gradient` is [n, features], `kept` is 1 - lr * weight_decay and `step` the number of this step,
    from 1.
    """
    number, (beta1, beta2) = weight.dtype.type, betas
    size, root = number(lr / (1 - beta1**step)), number(math.sqrt(1 - beta2**step))
    kept, small = number(kept), number(eps)
    rest1, of_v, rest2 = number(1 - beta1), number(beta2), number(1 - beta2)
    for i in range(first, last):
        update_adam_rows(i, i + 1, rows, written, lags, eps, weight, mean, square)
        w, m, v, g = weight[rows[i]], mean[rows[i]], square[rows[i]], gradient[i]
        for j in range(_unsigned(len(w))):
            new_m = m[j] + rest1 * (g[j] - m[j])
            new_v = of_v * v[j] + rest2 * g[j] * g[j]
            m[j] = new_m
            v[j] = new_v
            w[j] = kept * w[j] - size * new_m / (math.sqrt(new_v) / root + small)


@numba.njit(**_OPTIONS)
def _missed_updates(lag, eps, row):
    """Return D, eps / A and 1 / B of a row of `lags`, in the type of `row`."""
    number = row.dtype.type
    if lag[2] > 0:
        return number(lag[4]), number(eps / lag[2]), number(1 / lag[3])
    return number(lag[4]), number(np.inf), number(0)  # the learning rate was 0, or nothing missed


# -------------------------------------------------------------------------------- building blocks


def run(
    kernel: Callable[..., None], batch: int, *arguments: Tensor | float | tuple[float, ...]
) -> None:
    """Call kernel(first, last, *arguments) in parallel on pieces of the batch."""
    arrays = [as_array(one.detach()) if isinstance(one, Tensor) else one for one in arguments]
    pieces = batch_pieces(batch)
    parallel_for(len(pieces), lambda piece: kernel(*pieces[piece], *arrays))


def as_array(tensor: Tensor) -> Any:
    """Return the memory of a contiguous tensor; bfloat16 as uint16."""
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
def _steps_at_once(sequences, inputs):
    """Return how many steps of inputs are multiplied at once: more would not stay in the cache."""
    return max(1, 512 // inputs.itemsize // sequences)


@numba.njit(**_OPTIONS)
def _gather(numbers, start, stop, first, last, block):
    """Copy numbers[start:stop, first:last] to the first rows of `block`; return how many."""
    n = last - first
    for t in range(start, stop):
        for b in range(n):
            _copy(block[(t - start) * n + b], numbers[t, first + b])
    return (stop - start) * n


@numba.njit(**_OPTIONS)
def multiply(brgemm, gemm, panel, left, right, out, add):
    """out = left @ right, to which the former out is added if `add` is 1, by one of the two.

    left [m, k], right [k, n], out [m, n]. Rows of left and out may lie apart, and those of right
    where it is not in panels.
    """
    one, beta = out.dtype.type(1), out.dtype.type(add)
    k, n = right.shape
    if brgemm:
        width = panel if panel else n
        for j in range(0, n, width):
            columns = min(width, n - j)
            row = columns if panel else _row(right)
            _call_brgemm(
                *(brgemm, len(left), columns, k, _row(left), row, _row(out), add),
                *(left.ctypes.data, right.ctypes.data + j * k * right.itemsize),
                *(out.ctypes.data + j * out.itemsize, left.itemsize == 2),
            )
    else:
        _call_gemm(
            *(gemm, False, one, beta, len(left), n, k),
            *(left.ctypes.data, _row(left), right.ctypes.data, _row(right)),
            *(out.ctypes.data, _row(out)),
        )


@numba.njit(**_OPTIONS)
def _add_gradient(gemms, left, across, right, pairs, out):
    """out += left.T @ right, as `multiply`.

    Without a gemm, `across` is left.T, padded with zeros, and `right` is packed into `pairs`.
    """
    one = out.dtype.type(1)
    if gemms.gemm:
        _call_gemm(
            *(gemms.gemm, True, one, one, left.shape[1], right.shape[1], len(right)),
            *(left.ctypes.data, _row(left), right.ctypes.data, _row(right)),
            *(out.ctypes.data, _row(out)),
        )
    else:
        k, n = _padded(len(right)), right.shape[1]
        _pack(right, pairs)
        _call_brgemm(
            *(gemms.block, len(across), n, k, _row(across), n, _row(out), 1),
            *(across.ctypes.data, pairs.ctypes.data, out.ctypes.data, True),
        )


@numba.njit(**_OPTIONS)
def _padded(rows):
    """Return how many rows a packed factor of gradients has: brgemm compiles each number once."""
    return (rows + 63) // 64 * 64


@numba.njit(**_OPTIONS)
def _transpose(numbers, across):
    """Copy numbers [m, n] of two bytes to across [n, at least m]; m is divisible by 4."""
    number = np.uint64
    fours = across.view(number)  # four at once take a quarter of the time
    for i in range(0, len(numbers), 4):
        first, second, third, fourth = numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]
        at = _unsigned(i // 4)
        for j in range(_unsigned(numbers.shape[1])):
            low = number(first[j]) | (number(second[j]) << number(16))
            high = number(third[j]) | (number(fourth[j]) << number(16))
            fours[j, at] = low | (high << number(32))


@numba.njit(**_OPTIONS)
def _pack(numbers, pairs):
    """Copy numbers [m, n] to the memory of `pairs` as [_padded(m) / 2, n, 2], with zeros behind."""
    m, n = numbers.shape
    flat = pairs.reshape(-1)
    for i in range(_padded(m) // 2):
        to = flat[2 * i * n : (2 * i + 2) * n]
        if 2 * i + 1 < m:
            first, second = numbers[2 * i], numbers[2 * i + 1]
            for j in range(_unsigned(n)):
                to[2 * j] = first[j]
                to[2 * j + 1] = second[j]
        else:
            to[:] = 0
            if 2 * i < m:
                for j in range(_unsigned(n)):
                    to[2 * j] = numbers[2 * i, j]


@numba.njit(**_OPTIONS)
def end_brgemm(gemms):
    """Free the processor's tiles, which any other product sets up for itself."""
    if gemms.release:
        _call_release(gemms.release)


@numba.njit(**_OPTIONS)
def _row(numbers):
    """Return how far apart rows are; the stride of a single one may be anything."""
    return max(numbers.strides[0] // numbers.itemsize, numbers.shape[1])


@intrinsic
def _copy(context, to, of):
    """Copy all numbers of `of` to the first ones of `to`, both contiguous and of one type."""

    def generate(context, builder, signature, arguments):
        to, of = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        cgutils.raw_memcpy(builder, to.data, of.data, of.nitems, of.itemsize)
        return context.get_dummy_value()

    return types.void(to, of), generate


@intrinsic
def _lend(context, numbers):
    """Return an array of the same memory that counts no references.

    Slices of others count theirs in a number that all threads share, twice for each sequence and
    step. The caller keeps the memory.
    """

    def generate(context, builder, signature, arguments):
        kind = context.make_array(numbers)
        found, lent = kind(context, builder, arguments[0]), kind(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(lent, name, getattr(found, name))
        lent.meminfo = cgutils.get_null_value(lent.meminfo.type)
        lent.parent = cgutils.get_null_value(lent.parent.type)
        return lent._getvalue()

    return numbers(numbers), generate


_POINTER, _INT32, _INT64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)


@intrinsic
def _call_gemm(
    context, gemm, transposed, alpha, beta, m, n, k, left, left_row, right, right_row, out, out_row
):
    """Call BLAS's column-major gemm(n, m, k): the transpose of this row-major product."""
    signature = types.void(types.int64, types.boolean, alpha, alpha, *[types.int64] * 9)

    def generate(context, builder, signature, arguments):
        gemm, transposed, alpha, beta, m, n, k, *matrices = arguments
        left, left_row, right, right_row, out, out_row = matrices

        def at(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), _POINTER)

        def size(value: Any) -> Any:
            return at(builder.trunc(value, _INT32))

        def matrix(address: Any) -> Any:
            return builder.inttoptr(address, _POINTER)

        def letter(one: str) -> Any:
            return ir.Constant(ir.IntType(8), ord(one))

        of_left = at(builder.select(transposed, letter("T"), letter("N")))
        kind = ir.FunctionType(ir.VoidType(), [_POINTER] * 13).as_pointer()
        builder.call(
            builder.inttoptr(gemm, kind),
            [
                *(at(letter("N")), of_left, size(n), size(m), size(k), at(alpha), matrix(right)),
                *(size(right_row), matrix(left), size(left_row), at(beta), matrix(out)),
                size(out_row),
            ],
        )
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _call_brgemm(
    context, brgemm, m, n, k, left_row, right_row, out_row, add, left, right, out, packed
):
    """Call at::native::cpublas::brgemm; `packed`: `right` is packed in pairs of rows."""
    signature = types.void(*[types.int64] * 12)

    def generate(context, builder, signature, arguments):
        brgemm, m, n, k, left_row, right_row, out_row, add, *matrices, packed = arguments
        # A bool beyond the sixth argument is a word on the stack, like any number.
        kinds = [_INT64] * 7 + [_POINTER] * 3 + [_INT64]
        kind = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
        places = [builder.inttoptr(address, _POINTER) for address in matrices]
        builder.call(
            builder.inttoptr(brgemm, kind),
            [m, n, k, left_row, right_row, out_row, add, *places, packed],
        )
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _call_release(context, release):
    """Call at::native::cpublas::brgemm_release(true)."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(1)]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], kind), [ir.Constant(ir.IntType(1), 1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate
