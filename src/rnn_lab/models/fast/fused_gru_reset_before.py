"""One direction of a GRU layer with the reset gate before the product, its gradient written out.

    r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)              reset gate
    z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)              update gate
    s_t = r_t * h_{t-1}                                           what is left of the state
    n_t = tanh(W_n x_t + b_n + U_n s_t + c_n)                     candidate
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t

(Chung et al. 2014, section 3.2. Cho et al. 2014, eq. 5 to 8, exchange z and 1 - z, as torch does.)

Time runs in blocks, as in fused_rnn. A step has two products, since the candidate's waits
 for the reset gate.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd
from rnn_lab.models.fast.blas import gemm_address
from rnn_lab.models.fast.fused_rnn import copy_or_zeros, input_product, kept_type, run_kernel
from rnn_lab.models.fast.kernels import gru_before, gru_before_back
from rnn_lab.models.fast.time_blocks import add_product_, time_blocks


class FusedGRUResetBefore(torch.autograd.Function):
    """One direction of one layer on a CPU, as a function of its inputs, initial state and weights.

    Types are as in rnn_lab.models.fast.fused_rnn. With `keep` False nothing is kept.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        h: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [3 * hidden, input], rows r z n
        weight_hh: Tensor,  # [3 * hidden, hidden]
        bias_ih: Tensor,  # [3 * hidden]
        bias_hh: Tensor,  # [3 * hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        kept = kept_type(inputs.dtype, exact)
        inputs = inputs.contiguous()
        input_map = weight_ih.to(inputs.dtype).t()  # [input, r z n]
        map_r_z, map_n = (part.contiguous() for part in _r_z_and_n(weight_hh.to(kept).t(), dim=1))
        bias = (bias_ih + bias_hh).to(exact)

        history = torch.empty(time + 1, batch, hidden, dtype=kept)  # h_0 to h_time
        history[0] = h
        rest = torch.empty(time, batch, hidden, dtype=kept)  # s
        h = h.to(exact, copy=True).contiguous()
        products = (
            torch.empty(batch, 2 * hidden, dtype=exact),
            torch.empty(batch, hidden, dtype=exact),
        )
        blocks: list[Tensor] = []
        for start, stop in time_blocks(time, batch * 3 * hidden):
            if keep or not blocks:
                blocks.append(torch.empty(stop - start, batch, 3 * hidden, dtype=kept))
            block = blocks[-1][: stop - start]
            input_product(inputs[start:stop], input_map, block.view(-1, 3 * hidden))
            run_kernel(
                gru_before,
                gemm_address(kept),
                *(lengths - start, block, bias, map_r_z, map_n, *products),
                *(rest[start:stop], h, history[start : stop + 1]),
            )
        outputs = history[1:].to(inputs.dtype)
        ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, rest, *blocks)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        inputs, lengths, weight_ih, weight_hh, history, rest, *blocks = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden, product, kept = weight_hh.shape[1], inputs.dtype, history.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        input_map = weight_ih.to(product)  # [r z n, input]
        map_r_z, map_n = _r_z_and_n(weight_hh.to(kept).contiguous())  # [.., hidden]
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        d_weight_ih = torch.zeros_like(weight_ih, dtype=exact)
        d_weight_hh = torch.zeros_like(weight_hh, dtype=exact)
        d_weight_r_z, d_weight_n = _r_z_and_n(d_weight_hh)
        d_bias = torch.zeros(1, 3 * hidden, dtype=exact)  # of both

        d_product = torch.zeros(batch, hidden, dtype=exact)
        d_h, d_rest = copy_or_zeros(d_last, d_product), torch.empty_like(d_product)
        d_kept = torch.empty_like(blocks[0])
        spans = time_blocks(time, batch * 3 * hidden)
        for (start, stop), block in zip(reversed(spans), reversed(blocks), strict=True):
            d_block, below = d_kept[: stop - start], history[start:stop]
            d_output = below[:0] if d_outputs is None else d_outputs[start:stop].to(kept)
            run_kernel(
                gru_before_back,
                gemm_address(kept),
                *(lengths - start, block, map_r_z, map_n, below),
                *(d_output.contiguous(), d_rest, d_product, d_h, d_block),
            )
            flat = d_block.view(-1, 3 * hidden).to(product)
            if d_inputs is not None:
                torch.mm(flat, input_map, out=d_inputs[start:stop].view(len(flat), -1))
            of_r_z, of_n = _r_z_and_n(flat, dim=1)
            add_product_(d_weight_ih, flat.t(), inputs[start:stop].flatten(0, 1))
            add_product_(d_weight_r_z, of_r_z.t(), below.flatten(0, 1).to(product))
            add_product_(d_weight_n, of_n.t(), rest[start:stop].flatten(0, 1).to(product))
            add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        d_h += d_product
        return d_inputs, None, d_h, d_weight_ih, d_weight_hh, d_bias[0], d_bias[0], None


def _r_z_and_n(joint: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """What is of r and z, and what is of n."""
    r_z, n = joint.tensor_split([joint.shape[dim] // 3 * 2], dim=dim)
    return r_z, n
