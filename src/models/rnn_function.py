"""One direction of a tanh RNN layer, its gradient written out: faster than autograd's.

    h_t = tanh(W x_t + b + U h_{t-1} + c)          (Elman 1990)

Time runs in blocks, as in gru_function.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.time_blocks import incoming_gradient, time_blocks, zero_padding_


class RNNFunction(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Matrix products run in the type `product`; everything element-wise in at least float32. With
    `keep` False nothing is kept for a backward pass.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(
        ctx: Any,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        initial: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [hidden, input]
        weight_hh: Tensor,  # [hidden, hidden]
        bias_ih: Tensor,  # [hidden]
        bias_hh: Tensor,  # [hidden]
        product: torch.dtype,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[0]
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        inputs = inputs.to(product).contiguous()
        input_map = (2 * weight_ih).to(product).t()  # [input, hidden]
        state_map = (2 * weight_hh).to(product).t().contiguous()
        bias = (2 * (bias_ih + bias_hh)).to(product)
        minus_one = torch.tensor(-1, dtype=exact)
        h_exact = torch.empty(batch, hidden, dtype=exact)

        history = torch.empty(time + 1, batch, hidden, dtype=product)
        history[0] = initial
        h = history.unbind()
        for start, stop in time_blocks(time, batch * hidden):
            sums = history[start + 1 : stop + 1]
            block_inputs = inputs[start:stop].flatten(0, 1)
            torch.addmm(bias, block_inputs, input_map, out=sums.view(-1, hidden))
            for t in range(start, stop):
                # tanh(a) = 2 sigmoid(2a) - 1, and torch's sigmoid is five times its tanh's speed.
                h_exact.copy_(h[t + 1].addmm_(h[t], state_map)).sigmoid_()
                torch.add(minus_one, h_exact, alpha=2, out=h_exact)
                h[t + 1].copy_(h_exact)
        outputs = history[1:]
        zero_padding_(outputs, lengths)
        if keep:
            ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history)
            ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[0]
        product = history.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        input_map, state_map = weight_ih.to(product), weight_hh.to(product)
        d_inputs = torch.empty(inputs.shape, dtype=product) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros(weight_ih.shape, dtype=exact)
        d_weight_hh = torch.zeros(weight_hh.shape, dtype=exact)
        d_bias = torch.zeros(1, hidden, dtype=exact)

        h = history.unbind()
        d_state = torch.zeros(batch, hidden, dtype=exact)
        d_h, h_exact = torch.empty_like(d_state), torch.empty_like(d_state)
        spans = time_blocks(time, batch * hidden)
        d_sums_block = torch.empty(spans[0][1], batch, hidden, dtype=product)
        for start, stop in reversed(spans):
            d_block = incoming_gradient(d_outputs, d_last, lengths, start, stop, d_state)
            d_sums = d_sums_block[: stop - start]
            rows = zip(range(start, stop), d_block.unbind(), d_sums.unbind(), strict=True)
            for t, d_output, d_sum in reversed(list(rows)):
                torch.add(d_state, d_output, out=d_h)
                h_exact.copy_(h[t + 1])
                torch.ops.aten.tanh_backward.grad_input(d_h, h_exact, grad_input=d_h)
                d_state.copy_(d_sum.copy_(d_h) @ state_map)
            flat = d_sums.flatten(0, 1)  # [steps * batch, hidden]
            if d_inputs is not None:
                torch.mm(flat, input_map, out=d_inputs[start:stop].view(len(flat), -1))
            d_weight_ih += flat.t() @ inputs[start:stop].flatten(0, 1)
            d_weight_hh += flat.t() @ history[start:stop].flatten(0, 1)
            d_bias += flat.new_ones(1, len(flat)) @ flat
        return d_inputs, None, d_state, d_weight_ih, d_weight_hh, d_bias[0], d_bias[0], None, None
