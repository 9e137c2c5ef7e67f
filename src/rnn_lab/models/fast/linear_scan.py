"""h_t = keep_t * h_{t-1} + add_t over a whole sequence: what is left of a cell without U h.

Where no gate reads the state, all gates of all steps are one matrix product (Feng et al. 2024,
"Were RNNs All We Needed?"). The rest runs compiled on a CPU, elsewhere as a parallel prefix scan
(Hillis and Steele 1986; Blelloch 1990) in log2(time) passes over the sequence, of whose numbers
none can overflow while keep is within 0 to 1.
"""

from typing import Any

import torch
from torch import Tensor

from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd


def linear_scan(
    keep: Tensor, add: Tensor, h: Tensor, lengths: Tensor, *, use_numba: bool = True
) -> tuple[Tensor, Tensor]:
    """Return all h_t [time, batch, hidden], and each last real one [batch, hidden].

    `keep` and `add` are [time, batch, hidden], `h` is h_0 [batch, hidden], and `lengths` [batch].
    The results are at least float32: a sum over a sequence in bfloat16 would lose most of it.
    """
    exact = torch.promote_types(keep.dtype, torch.float32)
    keep, add, h = keep.to(exact), add.to(exact), h.to(exact)
    if use_numba and keep.device.type == "cpu":
        outputs, last = _CompiledScan.apply(keep, add, h, lengths)
        return outputs, last
    padding = _padding(keep, lengths)
    outputs = _PrefixScan.apply(keep.masked_fill(padding, 1), add.masked_fill(padding, 0), h)
    return outputs, outputs[-1]


class _CompiledScan(torch.autograd.Function):
    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any, keep: Tensor, add: Tensor, h: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        from rnn_lab.models.fast import kernels

        time, batch, hidden = keep.shape
        history = keep.new_empty(time + 1, batch, hidden)  # h_0 to h_time
        history[0] = h
        kernels.run(
            kernels.linear_scan, batch, lengths, keep.contiguous(), add.contiguous(), history
        )
        outputs = history[1:]
        ctx.save_for_backward(keep, h, lengths, outputs, history)
        ctx.set_materialize_grads(False)
        return outputs, outputs[lengths - 1, torch.arange(batch)]

    @staticmethod
    @custom_bwd
    def backward(ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None) -> Any:
        from rnn_lab.models.fast import kernels

        keep, h, lengths, outputs, history = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            if d_outputs is None:
                d_outputs = torch.zeros_like(outputs)
            d_outputs = d_outputs.masked_fill(_padding(keep, lengths), 0)
            if d_last is not None:
                ends = lengths - 1, torch.arange(len(lengths))
                d_outputs = d_outputs.index_put(ends, d_last, accumulate=True)
            return *_scan_gradients(keep, h, outputs, d_outputs), None
        keep = keep.contiguous()
        d_h = torch.zeros_like(history[0])
        if d_last is not None:
            d_h += d_last
        d_outputs = history[:0] if d_outputs is None else d_outputs.to(keep.dtype).contiguous()
        d_keep, d_add = torch.empty_like(keep), torch.empty_like(keep)
        tensors = lengths, keep, history, d_outputs, d_h, d_keep, d_add
        kernels.run(kernels.linear_scan_back, len(lengths), *tensors)
        return d_keep, d_add, d_h, None


class _PrefixScan(torch.autograd.Function):
    """The scan and its gradient, which is a scan in the other direction; twice differentiable."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, add: Tensor, h: Tensor) -> Tensor:
        outputs = _prefix_scan(keep, torch.cat([torch.addcmul(add[:1], keep[:1], h), add[1:]]))
        ctx.save_for_backward(keep, h, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keep, h, outputs = ctx.saved_tensors
        return _scan_gradients(keep, h, outputs, d_outputs)


def _padding(keep: Tensor, lengths: Tensor) -> Tensor:
    """Return which steps are beyond the end of their sequence: bool [time, batch, 1]."""
    return (torch.arange(len(keep), device=lengths.device)[:, None] >= lengths)[:, :, None]


def _scan_gradients(
    keep: Tensor, h: Tensor, outputs: Tensor, d_outputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of keep, add and h as tensor operations."""
    # dL/dh_t = d_outputs_t + keep_{t+1} * dL/dh_{t+1}
    above = torch.cat([keep[1:], torch.zeros_like(keep[:1])])
    d_h = _prefix_scan(above.flip(0), d_outputs.flip(0)).flip(0)
    below = torch.cat([h[None], outputs[:-1]])
    return d_h * below, d_h, d_h[0] * keep[0]


def _prefix_scan(keep: Tensor, add: Tensor) -> Tensor:
    """Return h_t = keep_t * h_{t-1} + add_t from h_0 = 0, [time, ...]."""
    reach = 1  # each entry covers so many steps
    while reach < len(keep):
        add = torch.cat([add[:reach], torch.addcmul(add[reach:], keep[reach:], add[:-reach])])
        keep = torch.cat([keep[:reach], keep[reach:] * keep[:-reach]])
        reach *= 2
    return add
