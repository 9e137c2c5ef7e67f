"""One direction of a GRU layer with the reset gate before the product, its gradient written out.

    r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)              reset gate
    z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)              update gate
    s_t = r_t * h_{t-1}                                           what is left of the state
    n_t = tanh(W_n x_t + b_n + U_n s_t + c_n)                     candidate
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t

(Chung et al. 2014, section 3.2. Cho et al. 2014, eq. 5 to 8, exchange z and 1 - z, as torch does.)

Time runs in blocks, as in gru_function. A step has two products, since the candidate's waits for
the reset gate. cuDNN has no such layer, so that this one runs on every device.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.gru_rows import double_n, gru_rows
from src.models.time_blocks import add_product_, incoming_gradient, time_blocks, zero_padding_

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class GRUBeforeFunction(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Matrix products, and what is kept for the gradient, have the type of `inputs`; the running state
    and everything element-wise have at least float32. With `keep` False nothing is kept.
    """

    @staticmethod
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
        state_maps = _state_maps(double_n(weight_hh).to(product).t())
        bias = double_n(bias_ih + bias_hh).to(product)

        history = inputs.new_empty(time + 1, batch, hidden)  # h_0 to h_time
        history[0] = initial
        h = initial.to(torch.promote_types(weight_hh.dtype, torch.float32), copy=True)
        kept = []
        for start, stop in time_blocks(time, batch * 3 * hidden):
            block = inputs.new_empty(stop - start, batch, 3 * hidden)
            flat = block.view(-1, 3 * hidden)  # [steps * batch, r z n]
            torch.addmm(bias, inputs[start:stop].flatten(0, 1), input_map, out=flat)
            _run_block(block, h, history[start : stop + 1], *state_maps, keep)
            if keep:
                kept.append(block)
        outputs = history[1:]
        zero_padding_(outputs, lengths)
        ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, *kept)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch, device=lengths.device)]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history, *kept = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden, product = weight_hh.shape[1], inputs.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        input_map = weight_ih.to(product)  # [r z n, input]
        map_r_z, map_n = weight_hh.to(product).tensor_split([2 * hidden])  # [.., hidden]
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros_like(weight_ih, dtype=exact)
        d_weight_hh = torch.zeros_like(weight_hh, dtype=exact)
        d_weight_r_z, d_weight_n = d_weight_hh.tensor_split([2 * hidden])
        d_bias = weight_hh.new_zeros(1, 3 * hidden, dtype=exact)  # of both

        d_h = torch.zeros_like(history[0], dtype=exact)
        d_kept = torch.empty_like(kept[0])
        spans = time_blocks(time, batch * 3 * hidden)
        with torch.autocast(inputs.device.type, enabled=False):  # every type is chosen above
            for (start, stop), block in zip(reversed(spans), reversed(kept), strict=True):
                d_block = d_kept[: stop - start]  # [steps, batch, r z n]
                below = history[start:stop]
                d_output = incoming_gradient(d_outputs, d_last, lengths, start, stop, d_h)
                _run_block_back(d_block, d_h, d_output, block, below, map_r_z, map_n)
                flat = d_block.view(-1, 3 * hidden)  # [steps * batch, r z n]
                if d_inputs is not None:
                    torch.mm(flat, input_map, out=d_inputs[start:stop].view(len(flat), -1))
                rest = block[:, :, :hidden] * below  # s, [steps, batch, hidden]
                add_product_(d_weight_ih, flat.t(), inputs[start:stop].flatten(0, 1))
                add_product_(d_weight_r_z, flat[:, : 2 * hidden].t(), below.flatten(0, 1))
                add_product_(d_weight_n, flat[:, 2 * hidden :].t(), rest.flatten(0, 1))
                add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        return d_inputs, None, d_h, d_weight_ih, d_weight_hh, d_bias[0], d_bias[0], None


def _run_block(
    block: Tensor, h: Tensor, history: Tensor, map_r_z: Tensor, map_n: Tensor, keep: bool
) -> None:
    """Step through a block [steps, batch, r z n] of sums that still lack the state's part.

    Writes the states to history[1:] and, with `keep`, r, z, n to the block. Where h, the state, is
    of a wider type than these, it is moved on; else history has all of it.
    """
    in_place = block.dtype == h.dtype
    minus_one = h.new_tensor(-1)
    rest = torch.empty_like(history[0])  # s
    sums = zip(block, *block.tensor_split([2 * h.shape[1]], dim=2), strict=True)
    steps = zip(sums, gru_rows(block, h), history, history[1:], strict=False)
    for (sums_r_z_n, sums_r_z, sums_n), (row, r, z, n, r_z), below, above in steps:
        sums_r_z.addmm_(below, map_r_z)
        if not in_place:
            r_z.copy_(sums_r_z)
        r_z.sigmoid_()
        torch.mul(r, below if in_place else h, out=rest)
        sums_n.addmm_(rest, map_n)
        if not in_place:
            n.copy_(sums_n)
        # tanh(a) = 2 sigmoid(2a) - 1, and torch's sigmoid is five times as fast as its tanh.
        torch.add(minus_one, n.sigmoid_(), alpha=2, out=n)
        if in_place:
            torch.lerp(below, n, z, out=above)
            continue
        torch.lerp(h, n, z, out=h)
        above.copy_(h)
        if keep:
            sums_r_z_n.copy_(row)


def _run_block_back(
    d_block: Tensor,
    d_h: Tensor,
    d_outputs: list[Tensor | None],
    block: Tensor,
    history: Tensor,
    map_r_z: Tensor,
    map_n: Tensor,
) -> None:
    """Step back through a block: its sums' gradient to d_block, the state's moved back in d_h."""
    in_place = block.dtype == d_h.dtype
    below, d_rest, through_n = (torch.empty_like(d_h) for _ in range(3))
    d_sums = zip(*d_block.tensor_split([2 * d_h.shape[1]], dim=2), strict=True)
    rows = zip(gru_rows(block, d_h), gru_rows(d_block, d_h), strict=True)
    steps = list(zip(block, history, d_outputs, d_sums, rows, strict=True))
    for gates, state, d_output, (d_sums_r_z, d_sums_n), row_and_gradient in reversed(steps):
        (row, r, z, n, r_z), (_, d_r, d_z, d_n, d_r_z) = row_and_gradient
        if in_place:
            below = state
        else:
            row.copy_(gates)
            below.copy_(state)
        if d_output is not None:
            d_h.add_(d_output)
        torch.sub(n, below, out=d_z).mul_(d_h)
        torch.mul(d_h, z, out=through_n)
        d_h.sub_(through_n)  # what reaches h_{t-1} by itself
        _tanh_backward(through_n, n, grad_input=d_n)
        if in_place:
            torch.mm(d_n, map_n, out=d_rest)
        else:
            d_rest.copy_(d_sums_n.copy_(d_n) @ map_n)
        torch.mul(d_rest, below, out=d_r)
        d_h.addcmul_(d_rest, r)
        _sigmoid_backward(d_r_z, r_z, grad_input=d_r_z)
        if in_place:
            d_h.addmm_(d_r_z, map_r_z)
        else:
            d_h.add_(d_sums_r_z.copy_(d_r_z) @ map_r_z)


def _state_maps(joint: Tensor) -> tuple[Tensor, Tensor]:
    """[hidden, r z n] cut into [hidden, r z] and [hidden, n], each in memory of its own."""
    r_z, n = joint.tensor_split([joint.shape[1] // 3 * 2], dim=1)
    return r_z.contiguous(), n.contiguous()
