"""One direction of a GRU layer, its gradient written out: several times faster than autograd's.

    r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)              reset gate
    z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)              update gate
    u_t = U_n h_{t-1} + c_n
    n_t = tanh(W_n x_t + b_n + r_t * u_t)                         candidate
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

(Cho et al. 2014, eq. 5 to 8, the reset gate after the product as in cuDNN and torch.nn.GRU.)

Time runs in blocks. The input projections of a block are one matrix product before its steps, its
weight gradients one product after them; a step is left with one product and a few element-wise
operations in place, in memory that stays in the processor's cache. A step's four sums lie in the
order u, r, z, n: the state's product fills the first three, the input's the last three.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.time_blocks import incoming_gradient, time_blocks, zero_padding_


class GRUFunction(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Matrix products run in the type `product`; the state and everything element-wise in at least
    float32. With `keep` False nothing is kept for a backward pass.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(
        ctx: Any,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        initial: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [3 * hidden, input], rows r, z, n
        weight_hh: Tensor,  # [3 * hidden, hidden]
        bias_ih: Tensor,  # [3 * hidden]
        bias_hh: Tensor,  # [3 * hidden]
        product: torch.dtype,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        inputs = inputs.to(product).contiguous()
        input_map = _double_n(weight_ih).to(product).t()  # [input, 3 * hidden]
        state_map = weight_hh.roll(hidden, 0).to(product).t().contiguous()  # [hidden, u r z]
        bias_hr, bias_hz, bias_u = bias_hh.chunk(3)
        bias = _double_n(bias_ih + torch.cat([bias_hr, bias_hz, torch.zeros_like(bias_u)]))
        bias, bias_u = bias.to(product), bias_u.to(product)
        minus_one = torch.tensor(-1, dtype=exact)

        history = torch.empty(time + 1, batch, hidden, dtype=product)  # states for the products
        states = history if product == exact else torch.empty(history.shape, dtype=exact)
        history[0] = states[0] = initial
        h, h_product = states.unbind(), history.unbind()
        spans = time_blocks(time, batch * 4 * hidden)
        sums_block = torch.empty(spans[0][1], batch, 4 * hidden, dtype=product)
        gates_block = torch.empty(sums_block.shape, dtype=exact)
        kept = []
        for start, stop in spans:
            sums = sums_block[: stop - start]  # [steps, batch, u r z n]
            of_inputs = sums.view(-1, 4 * hidden)[:, hidden:]  # [steps * batch, r z n]
            torch.addmm(bias, inputs[start:stop].flatten(0, 1), input_map, out=of_inputs)
            sums[:, :, :hidden] = bias_u
            of_states = sums[:, :, : 3 * hidden]  # [steps, batch, u r z]
            gates = torch.empty(sums.shape, dtype=exact) if keep else gates_block[: stop - start]
            rows = zip(sums.unbind(), of_states.unbind(), gates.unbind(), strict=True)
            parts = _parts(gates)
            for t, (sum_, of_state, gate), (u, r, z, n, r_z) in zip(
                range(start, stop), rows, parts, strict=True
            ):
                of_state.addmm_(h_product[t], state_map)
                gate.copy_(sum_)
                r_z.sigmoid_()
                # tanh(a) = 2 sigmoid(2a) - 1, and torch's sigmoid is five times its tanh's speed.
                n.addcmul_(r, u, value=2).sigmoid_()
                torch.add(minus_one, n, alpha=2, out=n)
                torch.lerp(n, h[t], z, out=h[t + 1])
                h_product[t + 1].copy_(h[t + 1])
            kept.append(gates)
        outputs = history[1:]
        zero_padding_(outputs, lengths)
        if keep:
            ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, states, *kept)
            ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history, states, *kept = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        product, exact = history.dtype, states.dtype
        input_map = weight_ih.to(product)  # [r z n, input]
        state_map = weight_hh.roll(hidden, 0).to(product)  # [u r z, hidden]
        d_inputs = torch.empty(inputs.shape, dtype=product) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros(weight_ih.shape, dtype=exact)
        d_weight_hh = torch.zeros(weight_hh.shape, dtype=exact)  # [u r z, hidden]
        d_bias = torch.zeros(1, 4 * hidden, dtype=exact)  # u r z n

        h = states.unbind()
        d_state = torch.zeros(batch, hidden, dtype=exact)
        d_h, d_candidate = torch.empty_like(d_state), torch.empty_like(d_state)
        d_gates = torch.empty(batch, 4 * hidden, dtype=exact)
        d_u, d_r, d_z, d_n = d_gates.chunk(4, dim=1)
        d_r_z = d_gates[:, hidden : 3 * hidden]
        spans = time_blocks(time, batch * 4 * hidden)
        d_sums_block = torch.empty(spans[0][1], batch, 4 * hidden, dtype=product)
        for (start, stop), gates in zip(reversed(spans), reversed(kept), strict=True):
            d_block = incoming_gradient(d_outputs, d_last, lengths, start, stop, d_state)
            d_sums = d_sums_block[: stop - start]  # [steps, batch, u r z n]
            of_states = d_sums[:, :, : 3 * hidden]  # [steps, batch, u r z]
            rows = zip(d_block.unbind(), d_sums.unbind(), of_states.unbind(), strict=True)
            for t, (d_output, d_sum, of_state), (u, r, z, n, r_z) in reversed(
                list(zip(range(start, stop), rows, _parts(gates), strict=True))
            ):
                torch.add(d_state, d_output, out=d_h)
                torch.mul(d_h, z, out=d_state)
                torch.sub(d_h, d_state, out=d_candidate)
                torch.ops.aten.tanh_backward.grad_input(d_candidate, n, grad_input=d_n)
                torch.mul(d_n, r, out=d_u)
                torch.mul(d_n, u, out=d_r)
                torch.sub(h[t], n, out=d_z).mul_(d_h)
                torch.ops.aten.sigmoid_backward.grad_input(d_r_z, r_z, grad_input=d_r_z)
                d_sum.copy_(d_gates)
                d_state.add_(of_state @ state_map)
            flat = d_sums.flatten(0, 1)  # [steps * batch, u r z n]
            block_inputs = inputs[start:stop].flatten(0, 1)  # [steps * batch, input]
            if d_inputs is not None:
                torch.mm(flat[:, hidden:], input_map, out=d_inputs[start:stop].view(len(flat), -1))
            d_weight_ih += flat[:, hidden:].t() @ block_inputs
            d_weight_hh += flat[:, : 3 * hidden].t() @ history[start:stop].flatten(0, 1)
            d_bias += flat.new_ones(1, len(flat)) @ flat
        d_bias_u, d_bias_ih = d_bias[0].split([hidden, 3 * hidden])
        d_bias_hh = torch.cat([d_bias_ih[: 2 * hidden], d_bias_u])
        d_weight_hh = d_weight_hh.roll(-hidden, 0)
        return d_inputs, None, d_state, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh, None, None


def _double_n(rows: Tensor) -> Tensor:
    """Twice the rows of n: its sum then comes doubled, as the sigmoid form of tanh wants it."""
    r_z, n = rows.tensor_split([len(rows) // 3 * 2])
    return torch.cat([r_z, 2 * n])


def _parts(gates: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each step's u, r, z, n, and r with z, as views of gates [steps, batch, 4 * hidden]."""
    u, r, z, n = gates.chunk(4, dim=2)
    r_z = gates[:, :, u.shape[2] : 3 * u.shape[2]]
    return zip(u.unbind(), r.unbind(), z.unbind(), n.unbind(), r_z.unbind(), strict=True)
