"""One direction of an RNN, LSTM or GRU layer on a CPU, with a hand-written gradient.

    RNN                  h_t = tanh(W x_t + b + U h_{t-1} + c)                    (Elman 1990)

    LSTM                 i, f, o = sigmoid(W x_t + b + U h_{t-1} + c), g = tanh(same),
                         C_t = f * C_{t-1} + i * g, h_t = o * tanh(C_t)
                         (Hochreiter and Schmidhuber 1997; Gers et al. 2000)

    GRU, reset after     r, z = sigmoid(W x_t + b + U h_{t-1} + c), u_t = U_n h_{t-1} + c_n,
                         n_t = tanh(W_n x_t + b_n + r * u_t),
                         h_t = (1 - z) * n_t + z * h_{t-1}
                         (Cho et al. 2014, eq. 5 to 8, with the reset gate after the product as in
                         cuDNN and torch.nn.GRU)

    GRU, reset before    r, z as above, s_t = r_t * h_{t-1},
                         n_t = tanh(W_n x_t + b_n + U_n s_t + c_n),
                         h_t = (1 - z_t) * h_{t-1} + z_t * n_t            (Chung et al. 2014, 3.2)

The batch is cut into pieces, each of which one thread takes from the first step to the last: the
threads wait for one another once a layer, not once a step or a product. Everything runs in the
compiled kernels of `kernels.py`, all matrix products included. Only where a gradient is to be
differentiated again, it is that of the reference loop.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_lab.models.cells import Cell, GRUCell, LSTMCell, RNNCell
from rnn_lab.models.fast import kernels
from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd
from rnn_lab.models.fast.kernels import as_array
from rnn_lab.models.fast.native import Products, batch_pieces, parallel_for, products
from rnn_lab.models.fast.second_derivatives import gradients_by
from rnn_lab.models.functional import zero_padding
from rnn_lab.models.reference import run_reference

# Elements of one block of time steps: 16 MiB in float32. Freed memory of larger ones goes back to
# the system, and its pages are zeroed again in the next step.
_BLOCK_ELEMENTS = 2**22


class FusedCell(NamedTuple):
    """The memory layout of one cell's weights and steps.

    A row has `steps.parts`. The product of the inputs fills the last ones, in the order of
    weight_ih's rows. Products of the state fill the first ones, in the order of weight_hh's rows,
    `rolled` by one part: the first product multiplies h_{t-1}, the second one s_t.
    """

    reference: Cell
    steps: Any  # a cell of `kernels`
    products: tuple[int, ...]  # parts that each product of the state fills
    rolled: bool = False
    has_extra: bool = False  # whether the gradient needs values beside rows and h

    def roll(self, rows: Tensor, by: int) -> Tensor:
        """Return weight_hh's rows in the order of a step's row; with `by` negative, back."""
        return rows.roll(by, 0) if self.rolled else rows


RNN = FusedCell(RNNCell(), kernels.RNN(), (1,))
LSTM = FusedCell(LSTMCell(), kernels.LSTM(), (4,), has_extra=True)
GRU_RESET_AFTER = FusedCell(GRUCell(), kernels.GRU(), (3,), rolled=True)
GRU_RESET_BEFORE = FusedCell(
    GRUCell(reset_after=False), kernels.GRUResetBefore(), (2, 1), has_extra=True
)


class FusedRNN(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Products and the values saved for the gradient have the type of `inputs` where compiled code is
    fast at it, else that of the weights. Everything element-wise has at least float32. With `keep`
    False nothing is saved.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        cell: FusedCell,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        h: Tensor,  # [batch, hidden]
        c: Tensor | None,  # [batch, hidden], of an LSTM
        weight_ih: Tensor,  # [gates * hidden, input]
        weight_hh: Tensor,  # [gates * hidden, hidden]
        bias_ih: Tensor,  # [gates * hidden]
        bias_hh: Tensor,  # [gates * hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return outputs [time, batch, hidden], zero beyond each length, and final h and C.

        C is None but for an LSTM.
        """
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        width = cell.steps.parts * hidden
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        kept, gemms = _products(inputs.dtype, exact, weight_ih.shape[1], hidden)
        x = inputs.to(kept).contiguous()
        input_map = weight_ih.to(kept).t().contiguous()  # [input, inputs' parts]
        widths = [parts * hidden for parts in cell.products]
        state_maps = cell.roll(weight_hh, hidden).to(kept).t().split(widths, dim=1)
        bias = torch.zeros(width, dtype=exact)
        bias[width - len(bias_ih) :] += bias_ih
        bias[: len(bias_hh)] += cell.roll(bias_hh, hidden)

        history = torch.empty(time + 1, batch, hidden, dtype=kept)  # h_0 to h_time
        history[0] = h
        state = (h if c is None else c).to(exact, copy=True).contiguous()
        spans = _time_blocks(time, batch * width)
        rows = [x.new_empty(stop - start if keep else 1, batch, width) for start, stop in spans]
        # C_0 to C_time, or s
        steps = time + 1 if keep or len(widths) > 1 else 1
        extra = x.new_empty(steps if cell.has_extra else 1, batch, hidden * cell.has_extra)
        if c is not None:
            extra[0] = c
        weights = _right_factors(input_map, state_maps, gemms)
        blocks = _blocks(spans, lengths, x, rows, history, extra)
        bias_array, carried, pieces = as_array(bias), as_array(state), batch_pieces(batch)

        def run(piece: int) -> None:
            for block in blocks:
                kernels.forward(
                    cell.steps, *pieces[piece], gemms, weights, bias_array, block, carried
                )

        parallel_for(len(pieces), run)
        outputs = history[1:].to(inputs.dtype)
        last = outputs[lengths - 1, torch.arange(batch)]
        ctx.cell, ctx.gemms = cell, gemms
        arguments_of_reference = inputs, lengths, h, c, weight_ih, weight_hh, bias_ih, bias_hh
        ctx.save_for_backward(*arguments_of_reference, history, extra, *rows)
        ctx.set_materialize_grads(False)
        return outputs, last, None if c is None else state

    @staticmethod
    @custom_bwd
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None, d_final: Tensor | None
    ) -> Any:
        """Go back through the steps."""
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, d_outputs, d_last, d_final)
        cell: FusedCell = ctx.cell
        gemms: Products = ctx.gemms
        inputs, lengths, _, _, weight_ih, weight_hh, _, _, *saved = ctx.saved_tensors
        history, extra, *rows = saved
        time, batch, features = inputs.shape
        hidden, kept = weight_hh.shape[1], history.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        width = cell.steps.parts * hidden
        x = inputs.to(kept).contiguous()
        input_map = weight_ih.to(kept).contiguous()  # [inputs' parts, input]
        widths = [parts * hidden for parts in cell.products]
        state_maps = cell.roll(weight_hh, hidden).to(kept).split(widths)
        pieces = batch_pieces(batch)
        d_inputs = x.new_empty(time if ctx.needs_input_grad[1] else 0, batch, features)
        sums = len(pieces) if any(ctx.needs_input_grad[5:]) else 0
        d_input_map = torch.zeros(sums, *weight_ih.shape, dtype=exact)
        d_state_map = torch.zeros(sums, *weight_hh.shape, dtype=exact)
        d_bias = torch.zeros(sums, width, dtype=exact)
        d_h = torch.zeros(batch, hidden, dtype=exact)
        d_state, d_end = torch.zeros_like(d_h), torch.zeros_like(d_h)
        if d_last is not None:
            d_end += d_last
        if d_final is not None:
            d_state += d_final
        if d_outputs is not None:
            d_outputs = d_outputs.to(kept).contiguous()
        spans = _time_blocks(time, batch * width)
        weights = _right_factors(input_map, state_maps, gemms)
        blocks = _blocks(spans, lengths, x, rows, history, extra)
        d_blocks = [
            kernels.BlockGradients(
                outputs=as_array(history[:0] if d_outputs is None else d_outputs[start:stop]),
                last=as_array(d_end),
                h=as_array(d_h),
                state=as_array(d_state),
                inputs=as_array(d_inputs[start:stop]),
            )
            for start, stop in spans
        ]
        d_maps = kernels.WeightGradients(*map(as_array, (d_input_map, d_state_map, d_bias)))

        def run(piece: int) -> None:
            for block, d_block in zip(reversed(blocks), reversed(d_blocks), strict=True):
                kernels.backward(
                    cell.steps, *pieces[piece], piece, gemms, weights, block, d_block, d_maps
                )

        parallel_for(len(pieces), run)
        d_weights: tuple[Tensor | None, ...] = (None,) * 4
        if sums:
            d_biases = d_bias.sum(0)
            d_weights = (
                *(d_input_map.sum(0), cell.roll(d_state_map.sum(0), -hidden)),
                d_biases[width - len(weight_ih) :],
                cell.roll(d_biases[: sum(widths)], -hidden),
            )
        is_lstm = cell is LSTM
        return (
            *(None, d_inputs.to(inputs.dtype) if ctx.needs_input_grad[1] else None, None),
            *(d_h if is_lstm else d_h + d_state, d_state if is_lstm else None),
            *(*d_weights, None),
        )


def _differentiable_gradients(ctx: Any, *d_results: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return what `FusedRNN.backward` does, with a graph: the gradients of the reference loop."""
    cell: Cell = ctx.cell.reference
    inputs, lengths, *others = ctx.saved_tensors[:8]
    names = cell.weight_shapes(1, 1)
    parts = len(cell.states)

    def run(inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(names, others[parts:], strict=True))
        outputs, final = run_reference(cell, inputs, lengths, others[:parts], weights)
        return zero_padding(outputs, lengths), *final

    arguments = [inputs, *(one for one in others if one is not None)]  # only an LSTM has a C
    found = gradients_by(run, arguments, d_results[: 1 + parts])
    if parts == 1:
        found.insert(2, None)
    return None, found[0], None, *found[1:], None


def _time_blocks(time: int, elements_per_step: int) -> list[tuple[int, int]]:
    """Cut `time` steps into (start, stop) pairs; every block but the last is equally long."""
    steps = min(time, max(1, _BLOCK_ELEMENTS // elements_per_step))
    return [(start, min(start + steps, time)) for start in range(0, time, steps)]


def _blocks(
    spans: list[tuple[int, int]],  # of the blocks, see `_time_blocks`
    lengths: Tensor,
    inputs: Tensor,
    rows: list[Tensor],
    history: Tensor,
    extra: Tensor,
) -> list[kernels.Block]:
    """Return the blocks of a direction, over the memory of these tensors."""
    return [
        kernels.Block(
            real=as_array(lengths - start),
            inputs=as_array(inputs[start:stop]),
            rows=as_array(of_block),
            history=as_array(history[start : stop + 1]),
            extra=as_array(extra[start : stop + 1] if len(extra) > 1 else extra),
        )
        for (start, stop), of_block in zip(spans, rows, strict=True)
    ]


def _products(
    given: torch.dtype, exact: torch.dtype, features: int, hidden: int
) -> tuple[torch.dtype, Products]:
    """Return the type that products and saved values have, and the functions that multiply it.

    It is bfloat16 where that is given and compiled code is fast at it, else that of the weights.
    """
    if given == torch.bfloat16 and (fast := products(given, features, hidden)):
        return given, fast
    found = products(exact, features, hidden)
    assert found is not None
    return exact, found


def _right_factors(
    input_map: Tensor, state_maps: Sequence[Tensor], gemms: Products
) -> kernels.Weights:
    state_factors = tuple(right_factor(one, gemms.step, gemms.panel) for one in state_maps)
    return kernels.Weights(right_factor(input_map, gemms.block, gemms.panel), state_factors)


def right_factor(matrix: Tensor, brgemm: int, panel: int) -> Any:
    """Return the array of a right factor [k, n] in the order of `Products`, as the brgemm reads it.

    It has the shape of the matrix, in whatever order. Without a brgemm the order is that of rows.
    """
    if brgemm and matrix.dtype == torch.bfloat16:
        pairs = matrix.unflatten(0, (-1, 2)).transpose(1, 2)  # [k / 2, n, 2]
        return as_array(pairs.contiguous().view(matrix.shape))
    if brgemm and panel:
        parts = [part.reshape(-1) for part in matrix.split(panel, dim=1)]
        return as_array(torch.cat(parts).view(matrix.shape))
    return as_array(matrix.contiguous())
