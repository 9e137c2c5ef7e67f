"""What the hand-written recurrent functions share: blocks of time steps, and the padding."""

from typing import Any

import torch
from torch import Tensor

# Elements of one block: 2 MiB in float32, within a core's share of cache, and small enough that
# the C library keeps the memory for the next block instead of handing it back to the system.
_BLOCK_ELEMENTS = 2**19


def time_blocks(time: int, elements_a_step: int) -> list[tuple[int, int]]:
    """Cut `time` steps into (start, stop) pairs; every block but the last is equally long."""
    steps = min(time, max(1, _BLOCK_ELEMENTS // elements_a_step))
    return [(start, min(start + steps, time)) for start in range(0, time, steps)]


def zero_padding_(sequences: Tensor, lengths: Tensor) -> None:
    """Set [time, batch, ...] to zero beyond each length, in place."""
    shortest = max(0, int(lengths.min()))
    if shortest < len(sequences):
        steps = torch.arange(shortest, len(sequences), device=lengths.device)
        sequences[shortest:].masked_fill_((steps[:, None] >= lengths)[:, :, None], 0)


def zero_padding(sequences: Tensor, lengths: Tensor) -> Tensor:
    """A copy of [time, batch, ...] that is zero beyond each length, and lets no gradient there."""
    return sequences if int(lengths.min()) >= len(sequences) else _Zeroed.apply(sequences, lengths)


class _Zeroed(torch.autograd.Function):
    """A copy and its few zeros: half the time of masked_fill, which goes over it all again."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        copy = sequences.clone()
        zero_padding_(copy, lengths)
        return copy

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (lengths,) = ctx.saved_tensors
        return zero_padding(grad, lengths), None


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in place, whose type may be wider than theirs."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def incoming_gradient(
    d_outputs: Tensor | None,
    d_last: Tensor | None,
    lengths: Tensor,
    start: int,
    stop: int,
    like: Tensor,  # [batch, hidden]
) -> list[Tensor | None]:
    """The loss's gradient at each step from start to stop, [batch, hidden], typed as `like`.

    d_outputs is of every step's output, d_last of the output at each last real step, None where
    the loss did not use them. What arrives at padding is dropped: it is no part of the result.
    None is no gradient at all.
    """
    (rows,) = torch.where((lengths > start) & (lengths <= stop))
    if d_outputs is None:
        if d_last is None or not len(rows):
            return [None] * (stop - start)
        block = like.new_zeros(stop - start, *like.shape)
    else:
        block = d_outputs[start:stop].to(like.dtype, copy=True)
        zero_padding_(block, lengths - start)
    if d_last is not None:
        block[lengths[rows] - 1 - start, rows] += d_last[rows].to(like.dtype)
    return list(block)
