"""What the hand-written recurrent functions share: blocks of time steps, and the padding."""

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
        steps = torch.arange(shortest, len(sequences))
        sequences[shortest:].masked_fill_((steps[:, None] >= lengths)[:, :, None], 0)


def incoming_gradient(
    d_outputs: Tensor | None,
    d_last: Tensor | None,
    lengths: Tensor,
    start: int,
    stop: int,
    like: Tensor,  # [batch, hidden]
) -> Tensor:
    """The loss's gradient at steps start to stop, [stop - start, batch, hidden], typed as `like`.

    d_outputs is of every step's output, d_last of the output at each last real step, None where
    the loss did not use them. What arrives at padding is dropped: it is no part of the result.
    """
    if d_outputs is None:
        block = like.new_zeros(stop - start, *like.shape)
    else:
        block = d_outputs[start:stop].to(like.dtype, copy=True)
        zero_padding_(block, lengths - start)
    if d_last is not None:
        (rows,) = torch.where((lengths > start) & (lengths <= stop))
        block[lengths[rows] - 1 - start, rows] += d_last[rows].to(like.dtype)
    return block
