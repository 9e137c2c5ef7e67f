"""One direction of a recurrent layer on a CPU, its gradient written out: faster than autograd's.

    GRU    r, z = sigmoid(W x_t + b + U h_{t-1} + c), u_t = U_n h_{t-1} + c_n,
           n_t = tanh(W_n x_t + b_n + r * u_t),
           h_t = (1 - z) * n_t + z * h_{t-1}                          (Cho et al. 2014, eq. 5 to 8,
           the reset gate after the product as in cuDNN and torch.nn.GRU)
    RNN    h_t = tanh(W x_t + b + U h_{t-1} + c)                      (Elman 1990)

Time runs in blocks. The input projections of a block are one matrix product before its steps, its
weight gradients one product after them. All that is between runs in kernels, the products
of the steps too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_lab.models.fast import kernels
from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd
from rnn_lab.models.fast.blas import gemm_address, has_fast_bf16_gemm
from rnn_lab.models.fast.threads import parallel_over_batch
from rnn_lab.models.fast.time_blocks import add_product_, time_blocks


@dataclass(frozen=True)
class Cell:
    """What tells one kind of layer from another.

    A step's row has `parts`, each [batch, hidden]. The product of the inputs fills those from
    `inputs_from` on, in the order of weight_ih's rows. That of the state fills the first
    `of_states`, in the order of weight_hh's rows, where `rolled` by one part.
    """

    parts: int
    inputs_from: int
    of_states: int
    rolled: bool
    run: Callable[..., None]
    run_back: Callable[..., None]


GRU_CELL = Cell(4, 1, 3, True, kernels.gru, kernels.gru_back)  # u r z n
RNN_CELL = Cell(1, 0, 1, False, kernels.rnn, kernels.rnn_back)
CELLS = {"GRU": GRU_CELL, "RNN_TANH": RNN_CELL}  # by the `mode` of torch.nn's layers


class FusedRNN(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Products over a block have the type of `inputs`. So do the steps' products, and what is kept for
    the gradient, where compiled code is fast at it; else both have that of the weights. Everything
    element-wise has at least float32. With `keep` False nothing is kept.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        cell: Cell,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        h: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [gates * hidden, input]
        weight_hh: Tensor,  # [gates * hidden, hidden]
        bias_ih: Tensor,  # [gates * hidden]
        bias_hh: Tensor,  # [gates * hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        width, inputs_from, states_to = _columns(cell, hidden)
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        kept = kept_type(inputs.dtype, exact)
        inputs = inputs.contiguous()
        input_map = weight_ih.to(inputs.dtype).t()  # [input, inputs' parts]
        state_map = _rolled(weight_hh, cell, hidden).to(kept).t().contiguous()
        bias = torch.zeros(width, dtype=exact)
        bias[inputs_from:] += bias_ih
        bias[:states_to] += _rolled(bias_hh, cell, hidden)

        history = torch.empty(time + 1, batch, hidden, dtype=kept)  # h_0 to h_time
        history[0] = h
        h = h.to(exact, copy=True).contiguous()
        product = torch.empty(batch, states_to, dtype=exact)
        blocks: list[Tensor] = []
        for start, stop in time_blocks(time, batch * width):
            if keep or not blocks:
                blocks.append(torch.empty(stop - start, batch, width, dtype=kept))
            block = blocks[-1][: stop - start]
            input_product(inputs[start:stop], input_map, block.view(-1, width)[:, inputs_from:])
            run_kernel(
                cell.run,
                gemm_address(kept),
                *(lengths - start, block, bias, state_map, product, h, history[start : stop + 1]),
            )
        outputs = history[1:].to(inputs.dtype)
        ctx.cell = cell
        ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, *blocks)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Back through the steps, the weights' gradients block by block."""
        cell: Cell = ctx.cell
        inputs, lengths, weight_ih, weight_hh, history, *blocks = ctx.saved_tensors
        time, batch, _ = inputs.shape
        hidden, product, kept = weight_hh.shape[1], inputs.dtype, history.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        width, inputs_from, states_to = _columns(cell, hidden)
        input_map = weight_ih.to(product)  # [inputs' parts, input]
        state_map = _rolled(weight_hh, cell, hidden).to(kept).contiguous()
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[1] else None
        d_weight_ih = torch.zeros_like(weight_ih, dtype=exact)
        d_weight_hh = torch.zeros_like(weight_hh, dtype=exact)
        d_bias = torch.zeros(1, width, dtype=exact)

        d_product = torch.zeros(batch, hidden, dtype=exact)
        d_h = copy_or_zeros(d_last, d_product)
        d_kept = torch.empty_like(blocks[0])
        spans = time_blocks(time, batch * width)
        for (start, stop), block in zip(reversed(spans), reversed(blocks), strict=True):
            d_block, states = d_kept[: stop - start], history[start : stop + 1]
            d_output = states[:0] if d_outputs is None else d_outputs[start:stop].to(kept)
            run_kernel(
                cell.run_back,
                gemm_address(kept),
                *(lengths - start, block, state_map, states),
                *(d_output.contiguous(), d_product, d_h, d_block),
            )
            flat = d_block.view(-1, width).to(product)
            of_inputs, of_states = flat[:, inputs_from:], flat[:, :states_to]
            if d_inputs is not None:
                torch.mm(of_inputs, input_map, out=d_inputs[start:stop].view(len(flat), -1))
            add_product_(d_weight_ih, of_inputs.t(), inputs[start:stop].flatten(0, 1))
            add_product_(d_weight_hh, of_states.t(), states[:-1].flatten(0, 1).to(product))
            add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        return (
            *(None, d_inputs, None, d_h + d_product),
            *(d_weight_ih, _rolled(d_weight_hh, cell, -hidden)),
            *(d_bias[0, inputs_from:], _rolled(d_bias[0, :states_to], cell, -hidden), None),
        )


def kept_type(product: torch.dtype, exact: torch.dtype) -> torch.dtype:
    """The type of the steps' products and of what is kept beside a block's `product` type."""
    return product if product == torch.bfloat16 and has_fast_bf16_gemm() else exact


def input_product(inputs: Tensor, input_map: Tensor, out: Tensor) -> None:
    """The projections [steps * batch, parts] of inputs [steps, batch, input], typed as `out` is."""
    flat = inputs.flatten(0, 1)
    if out.dtype == flat.dtype:
        torch.mm(flat, input_map, out=out)
    else:
        out.copy_(flat @ input_map)


def run_kernel(kernel: Callable[..., None], gemm: int, real: Tensor, *tensors: Tensor) -> None:
    """Call a kernel for all sequences; `real` [batch] and the tensors are its arguments."""
    arrays = [kernels.as_array(tensor) for tensor in (real, *tensors)]
    parallel_over_batch(len(real), lambda first, last: kernel(first, last, gemm, *arrays))


def copy_or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    """A gradient in memory of its own, typed as `like`; zeros for none."""
    if gradient is None:
        return torch.zeros_like(like)
    return torch.empty_like(like).copy_(gradient)


def _columns(cell: Cell, hidden: int) -> tuple[int, int, int]:
    """The width of a row, where its inputs' columns start and where its state's end."""
    return cell.parts * hidden, cell.inputs_from * hidden, cell.of_states * hidden


def _rolled(rows: Tensor, cell: Cell, by: int) -> Tensor:
    """weight_hh's rows in the order of a step's row, or with `by` negative back in torch's."""
    return rows.roll(by, 0) if cell.rolled else rows
