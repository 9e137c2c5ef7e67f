"""One direction of a tanh RNN layer, its gradient written out: faster than autograd's.

    h_t = tanh(W x_t + b + U h_{t-1} + c)          (Elman 1990)

Time runs in blocks, as in gru_function.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.autocast import custom_bwd, custom_fwd
from src.models.time_blocks import add_product_, incoming_gradient, time_blocks, zero_padding_

_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class RNNFunction(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Matrix products, and what is kept for the gradient, have the type of `inputs`; everything
    element-wise has at least float32. With `keep` False nothing is kept.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        initial: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [hidden, input]
        weight_hh: Tensor,  # [hidden, hidden]
        bias_ih: Tensor,  # [hidden]
        bias_hh: Tensor,  # [hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden, product = weight_hh.shape[0], inputs.dtype
        inputs = inputs.contiguous()
        # tanh(a) = 2 sigmoid(2a) - 1, and torch's sigmoid is five times as fast as its tanh.
        input_map = (2 * weight_ih).to(product).t()  # [input, hidden]
        state_map = (2 * weight_hh).to(product).t().contiguous()
        bias = (2 * (bias_ih + bias_hh)).to(product)
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        h = torch.empty(batch, hidden, dtype=exact)
        minus_one, in_place = h.new_tensor(-1), exact == product

        history = torch.empty(time + 1, batch, hidden, dtype=product)  # h_0 to h_time
        history[0] = initial
        for start, stop in time_blocks(time, batch * hidden):
            block = history[start + 1 : stop + 1]
            flat_inputs = inputs[start:stop].flatten(0, 1)  # [steps * batch, input]
            torch.addmm(bias, flat_inputs, input_map, out=block.view(-1, hidden))
            for below, above in zip(history[start:stop], block, strict=True):
                above.addmm_(below, state_map)
                h = above if in_place else h.copy_(above)
                torch.add(minus_one, h.sigmoid_(), alpha=2, out=h)
                if not in_place:
                    above.copy_(h)
        outputs = history[1:]
        zero_padding_(outputs, lengths)
        if keep:
            ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden, product = weight_hh.shape[0], inputs.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        input_map, state_map = weight_ih.to(product), weight_hh.to(product)
        d_inputs = torch.empty(inputs.shape, dtype=product) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros(weight_ih.shape, dtype=exact)
        d_weight_hh = torch.zeros(weight_hh.shape, dtype=exact)
        d_bias = torch.zeros(1, hidden, dtype=exact)

        d_h, h = torch.zeros(batch, hidden, dtype=exact), torch.empty(batch, hidden, dtype=exact)
        in_place = exact == product
        for start, stop in reversed(time_blocks(time, batch * hidden)):
            d_block = torch.empty(stop - start, batch, hidden, dtype=product)
            d_output = incoming_gradient(d_outputs, d_last, lengths, start, stop, d_h)
            steps = zip(history[start + 1 : stop + 1], d_output, d_block, strict=True)
            for state, d_step, d_sum in reversed(list(steps)):
                if d_step is not None:
                    d_h.add_(d_step)
                if in_place:
                    _tanh_backward(d_h, state, grad_input=d_sum)
                    torch.mm(d_sum, state_map, out=d_h)
                else:
                    _tanh_backward(d_h, h.copy_(state), grad_input=d_h)
                    d_h.copy_(d_sum.copy_(d_h) @ state_map)
            flat = d_block.view(-1, hidden)  # [steps * batch, hidden]
            if d_inputs is not None:
                torch.mm(flat, input_map, out=d_inputs[start:stop].view(len(flat), -1))
            add_product_(d_weight_ih, flat.t(), inputs[start:stop].flatten(0, 1))
            add_product_(d_weight_hh, flat.t(), history[start:stop].flatten(0, 1))
            add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        return d_inputs, None, d_h, d_weight_ih, d_weight_hh, d_bias[0], d_bias[0], None
