"""One direction of an RNN or GRU layer on a CPU, with a hand-written gradient.

    RNN                  h_t = tanh(W x_t + b + U h_{t-1} + c)                    (Elman 1990)

    GRU, reset after     r, z = sigmoid(W x_t + b + U h_{t-1} + c), u_t = U_n h_{t-1} + c_n,
                         n_t = tanh(W_n x_t + b_n + r * u_t),
                         h_t = (1 - z) * n_t + z * h_{t-1}
                         (Cho et al. 2014, eq. 5 to 8, with the reset gate after the product as in
                         cuDNN and torch.nn.GRU)

    GRU, reset before    r, z as above, s_t = r_t * h_{t-1},
                         n_t = tanh(W_n x_t + b_n + U_n s_t + c_n),
                         h_t = (1 - z_t) * h_{t-1} + z_t * n_t            (Chung et al. 2014, 3.2)

Time is cut into blocks. The input projections of a block are one matrix product before its steps,
and its weight gradients one product after them. Everything in between runs in the compiled kernels
of `kernels.py`, the steps' own products included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_lab.models.fast import kernels
from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd
from rnn_lab.models.fast.native import gemm_address, has_fast_bf16_gemm

# Elements of one block: 16 MiB in float32. Each block starts the threads again and has products of
# its own, which costs more than a block beyond a core's share of the cache.
_BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True)
class FusedCell:
    """The layout of one cell's steps in memory, and its two kernels.

    A step's row has `parts`, each [batch, hidden]. The product of the inputs fills those from
    `inputs_from` on, in the order of weight_ih's rows. Products of the state fill the first
    sum(`products`) parts, in the order of weight_hh's rows, `rolled` by one part: the first product
    multiplies h_{t-1}, and the second one, which the GRU with its reset gate before the product
    has, s_t.
    """

    parts: int
    inputs_from: int
    products: tuple[int, ...]  # parts that each fills
    rolled: bool
    run: Callable[..., None]
    run_back: Callable[..., None]

    def columns(self, hidden: int) -> tuple[int, int, list[int]]:
        """Return the width of a row, where its inputs' columns start, and each product's width."""
        products = [parts * hidden for parts in self.products]
        return self.parts * hidden, self.inputs_from * hidden, products

    def roll(self, rows: Tensor, by: int) -> Tensor:
        """Return weight_hh's rows in the order of a step's row; with `by` negative, back."""
        return rows.roll(by, 0) if self.rolled else rows


RNN = FusedCell(1, 0, (1,), False, kernels.rnn, kernels.rnn_back)
GRU_RESET_AFTER = FusedCell(4, 1, (3,), True, kernels.gru, kernels.gru_back)  # u r z n
# r z n
GRU_RESET_BEFORE = FusedCell(3, 0, (2, 1), False, kernels.gru_before, kernels.gru_before_back)


class FusedRNN(torch.autograd.Function):
    """One direction of one layer, as a function of its inputs, initial state and weights.

    Products over a block have the type of `inputs`. So do the steps' products and the values saved
    for the gradient, where compiled code is fast at this type; else both have that of the weights.
    Everything element-wise has at least float32. With `keep` False nothing is saved.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any,
        cell: FusedCell,
        inputs: Tensor,  # [time, batch, input]
        lengths: Tensor,  # [batch]
        h: Tensor,  # [batch, hidden]
        weight_ih: Tensor,  # [gates * hidden, input]
        weight_hh: Tensor,  # [gates * hidden, hidden]
        bias_ih: Tensor,  # [gates * hidden]
        bias_hh: Tensor,  # [gates * hidden]
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return outputs [time, batch, hidden], zero beyond each length, and each last real one."""
        time, batch, _ = inputs.shape
        hidden = weight_hh.shape[1]
        width, inputs_from, products = cell.columns(hidden)
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        # Of the steps' products and of what is saved.
        fast = inputs.dtype == torch.bfloat16 and has_fast_bf16_gemm()
        kept = inputs.dtype if fast else exact
        inputs = inputs.contiguous()
        input_map = weight_ih.to(inputs.dtype).t()  # [input, inputs' parts]
        state_maps = cell.roll(weight_hh, hidden).to(kept).t().split(products, dim=1)
        state_maps = [state_map.contiguous() for state_map in state_maps]
        bias = torch.zeros(width, dtype=exact)
        bias[inputs_from:] += bias_ih
        bias[: sum(products)] += cell.roll(bias_hh, hidden)

        history = torch.empty(time + 1, batch, hidden, dtype=kept)  # h_0 to h_time
        history[0] = h
        reset = [torch.empty(time, batch, hidden, dtype=kept) for _ in products[1:]]  # s
        h = h.to(exact, copy=True).contiguous()
        work = [torch.empty(batch, columns, dtype=exact) for columns in products]
        blocks: list[Tensor] = []
        for start, stop in _time_blocks(time, batch * width):
            if keep or not blocks:
                blocks.append(torch.empty(stop - start, batch, width, dtype=kept))
            block = blocks[-1][: stop - start]
            flat = inputs[start:stop].flatten(0, 1)  # [steps * batch, input]
            of_inputs = block.view(-1, width)[:, inputs_from:]
            if kept == flat.dtype:
                torch.mm(flat, input_map, out=of_inputs)
            else:
                of_inputs.copy_(flat @ input_map)
            kernels.run(
                cell.run,
                *(batch, gemm_address(kept), lengths - start, block, bias, *state_maps, *work),
                *(*(part[start:stop] for part in reset), h, history[start : stop + 1]),
            )
        outputs = history[1:].to(inputs.dtype)
        ctx.cell = cell
        ctx.save_for_backward(inputs, lengths, weight_ih, weight_hh, history, *reset, *blocks)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None) -> Any:  # type: ignore[override]
        """Go back through the steps; the weights' gradients are computed block by block."""
        cell: FusedCell = ctx.cell
        inputs, lengths, weight_ih, weight_hh, history, *saved = ctx.saved_tensors
        reset, blocks = saved[: len(cell.products) - 1], saved[len(cell.products) - 1 :]
        time, batch, _ = inputs.shape
        hidden, product, kept = weight_hh.shape[1], inputs.dtype, history.dtype
        exact = torch.promote_types(weight_hh.dtype, torch.float32)
        width, inputs_from, products = cell.columns(hidden)
        input_map = weight_ih.to(product)  # [inputs' parts, input]
        state_maps = cell.roll(weight_hh, hidden).to(kept).contiguous().split(products)
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[1] else None
        d_weight_ih = torch.zeros_like(weight_ih, dtype=exact)
        d_weight_hh = torch.zeros_like(weight_hh, dtype=exact)
        d_bias = torch.zeros(1, width, dtype=exact)

        d_product = torch.zeros(batch, hidden, dtype=exact)
        d_h = torch.zeros_like(d_product)
        if d_last is not None:
            d_h.copy_(d_last)
        d_reset = [torch.empty_like(d_product) for _ in reset]
        d_kept = torch.empty_like(blocks[0])
        spans = _time_blocks(time, batch * width)
        for (start, stop), block in zip(reversed(spans), reversed(blocks), strict=True):
            d_block, states = d_kept[: stop - start], history[start : stop + 1]
            d_output = states[:0] if d_outputs is None else d_outputs[start:stop].to(kept)
            kernels.run(
                cell.run_back,
                *(batch, gemm_address(kept), lengths - start, block, *state_maps, states),
                *(d_output.contiguous(), *d_reset, d_product, d_h, d_block),
            )
            flat = d_block.view(-1, width).to(product)
            of_inputs = flat[:, inputs_from:]
            if d_inputs is not None:
                torch.mm(of_inputs, input_map, out=d_inputs[start:stop].view(len(flat), -1))
            _add_product_(d_weight_ih, of_inputs.t(), inputs[start:stop].flatten(0, 1))
            of_products = flat[:, : sum(products)].split(products, dim=1)
            factors = [states[:-1], *(part[start:stop] for part in reset)]
            d_maps = d_weight_hh.split(products)
            for d_map, of_state, factor in zip(d_maps, of_products, factors, strict=True):
                _add_product_(d_map, of_state.t(), factor.flatten(0, 1).to(product))
            _add_product_(d_bias, flat.new_ones(1, len(flat)), flat)
        d_bias_hh = cell.roll(d_bias[0, : sum(products)], -hidden)
        return (
            *(None, d_inputs, None, d_h + d_product),
            *(d_weight_ih, cell.roll(d_weight_hh, -hidden), d_bias[0, inputs_from:], d_bias_hh),
            None,
        )


def _time_blocks(time: int, elements_per_step: int) -> list[tuple[int, int]]:
    """Cut `time` steps into (start, stop) pairs; every block but the last is equally long."""
    steps = min(time, max(1, _BLOCK_ELEMENTS // elements_per_step))
    return [(start, min(start + steps, time)) for start in range(0, time, steps)]


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in place, whose type may be wider than theirs."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
