"""One direction of a GRU layer, its gradient written out: faster than autograd's.

    r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)              reset gate
    z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)              update gate
    u_t = U_n h_{t-1} + c_n
    n_t = tanh(W_n x_t + b_n + r_t * u_t)                         candidate
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

(Cho et al. 2014, eq. 5 to 8, the reset gate after the product as in cuDNN and torch.nn.GRU.)

Time runs in blocks. The input projections of a block are one matrix product before its steps, its
weight gradients one product after them. A step is left with one product and a few element-wise
operations on one row of memory in the processor's cache: the step's own row of the block, or, where
the block is in bfloat16, a row in float32 beside it. The row's four parts lie in the order u, r, z,
n: the state's product fills the first three, the input's the last three.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.autocast import custom_bwd, custom_fwd
from src.models.gru_rows import double_n, gru_rows
from src.models.time_blocks import add_product_, incoming_gradient, time_blocks, zero_padding_

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class GRUFunction(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Matrix products, and what is kept for the gradient, have the type of `inputs`; the running state
    and everything element-wise have at least float32. With `keep` False nothing is kept.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        initial: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [3 * hidden, input], rows r z n
        weight_hh: Tensor,  # [3 * hidden, hidden]
        bias_ih: Tensor,  # [3 * hidden]
        bias_hh: Tensor,  # [3 * hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden, product = weight_hh.shape[1], inputs.dtype
        inputs = inputs.contiguous()
        input_map = double_n(weight_ih).to(product).t()  # [input, r z n]
        state_map = weight_hh.roll(hidden, 0).to(product).t().contiguous()  # [hidden, u r z]
        bias_r_z, bias_u = bias_hh.tensor_split([2 * hidden])
        bias = double_n(bias_ih + torch.cat([bias_r_z, torch.zeros_like(bias_u)])).to(product)

        history = torch.empty(time + 1, batch, hidden, dtype=product)  # h_0 to h_time
        history[0] = initial
        h = initial.to(torch.promote_types(weight_hh.dtype, torch.float32), copy=True)
        kept = []
        for start, stop in time_blocks(time, batch * 4 * hidden):
            block = torch.empty(stop - start, batch, 4 * hidden, dtype=product)
            of_inputs = block.view(-1, 4 * hidden)[:, hidden:]  # [steps * batch, r z n]
            torch.addmm(bias, inputs[start:stop].flatten(0, 1), input_map, out=of_inputs)
            block[:, :, :hidden] = bias_u
            _run_block(block, h, history[start : stop + 1], state_map, keep)
            if keep:
                kept.append(block)
        outputs = history[1:]
        zero_padding_(outputs, lengths)
        ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, *kept)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history, *kept = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden, product = weight_hh.shape[1], inputs.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        input_map = weight_ih.to(product)  # [r z n, input]
        state_map = weight_hh.roll(hidden, 0).to(product)  # [u r z, hidden]
        d_inputs = torch.empty(inputs.shape, dtype=product) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros(weight_ih.shape, dtype=exact)
        d_weight_hh = torch.zeros(weight_hh.shape, dtype=exact)  # [u r z, hidden]
        d_bias = torch.zeros(1, 4 * hidden, dtype=exact)  # u r z n

        d_h = torch.zeros(batch, hidden, dtype=exact)
        d_kept = torch.empty_like(kept[0])
        spans = time_blocks(time, batch * 4 * hidden)
        for (start, stop), block in zip(reversed(spans), reversed(kept), strict=True):
            d_block = d_kept[: stop - start]  # [steps, batch, u r z n]
            d_output = incoming_gradient(d_outputs, d_last, lengths, start, stop, d_h)
            _run_block_back(d_block, d_h, d_output, block, history[start:stop], state_map)
            flat = d_block.view(-1, 4 * hidden)  # [steps * batch, u r z n]
            if d_inputs is not None:
                torch.mm(flat[:, hidden:], input_map, out=d_inputs[start:stop].view(len(flat), -1))
            add_product_(d_weight_ih, flat[:, hidden:].t(), inputs[start:stop].flatten(0, 1))
            add_product_(d_weight_hh, flat[:, : 3 * hidden].t(), history[start:stop].flatten(0, 1))
            add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        d_bias_u, d_bias_ih = d_bias[0].split([hidden, 3 * hidden])
        d_bias_hh = torch.cat([d_bias_ih[: 2 * hidden], d_bias_u])
        return (
            *(d_inputs, None, d_h, d_weight_ih, d_weight_hh.roll(-hidden, 0)),
            *(d_bias_ih, d_bias_hh, None),
        )


def _run_block(block: Tensor, h: Tensor, history: Tensor, state_map: Tensor, keep: bool) -> None:
    """Step through a block [steps, batch, u r z n] of sums that still lack the state's part.

    Writes the state to history[1:] and, with `keep`, u, r, z, n to the block. Where the block is in
    bfloat16, h is the running state in float32, and moves on.
    """
    hidden = h.shape[1]
    in_place = block.dtype == h.dtype
    minus_one = h.new_tensor(-1)
    of_states = block[:, :, : 3 * hidden]
    steps = zip(block, of_states, history, history[1:], gru_rows(block, h), strict=False)
    for sums, of_state, below, above, (row, u, r, z, n, r_z) in steps:
        of_state.addmm_(below, state_map)
        if not in_place:
            row.copy_(sums)
        r_z.sigmoid_()
        # tanh(a) = 2 sigmoid(2a) - 1, and torch's sigmoid is five times as fast as its tanh.
        n.addcmul_(r, u, value=2).sigmoid_()
        torch.add(minus_one, n, alpha=2, out=n)
        if in_place:
            torch.lerp(n, below, z, out=above)
            continue
        torch.lerp(n, h, z, out=h)
        above.copy_(h)
        if keep:
            sums.copy_(row)


def _run_block_back(
    d_block: Tensor,
    d_h: Tensor,
    d_outputs: list[Tensor | None],
    block: Tensor,
    history: Tensor,
    state_map: Tensor,
) -> None:
    """Step back through a block: its sums' gradient to d_block, the state's moved back in d_h."""
    hidden = d_h.shape[1]
    in_place = block.dtype == d_h.dtype
    below, direct, through_n = (torch.empty_like(d_h) for _ in range(3))
    of_states = d_block[:, :, : 3 * hidden]
    steps = zip(block, history, d_outputs, d_block, of_states, strict=True)
    rows = zip(gru_rows(block, d_h), gru_rows(d_block, d_h), strict=True)
    for (gates, state, d_output, d_sums, d_of_state), row_and_gradient in zip(
        reversed(list(steps)), reversed(list(rows)), strict=True
    ):
        (row, u, r, z, n, r_z), (d_row, d_u, d_r, d_z, d_n, d_r_z) = row_and_gradient
        if in_place:
            below = state
        else:
            row.copy_(gates)
            below.copy_(state)
        if d_output is not None:
            d_h.add_(d_output)
        torch.sub(below, n, out=d_z).mul_(d_h)
        torch.mul(d_h, z, out=direct)  # what reaches h_{t-1} by itself
        torch.sub(d_h, direct, out=through_n)
        _tanh_backward(through_n, n, grad_input=d_n)
        torch.mul(d_n, r, out=d_u)
        torch.mul(d_n, u, out=d_r)
        _sigmoid_backward(d_r_z, r_z, grad_input=d_r_z)
        if in_place:
            torch.addmm(direct, d_of_state, state_map, out=d_h)
        else:
            d_sums.copy_(d_row)
            torch.add(direct, d_of_state @ state_map, out=d_h)
