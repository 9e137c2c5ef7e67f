"""Setting what stands beyond a sequence's length to zero."""

from typing import Any

import torch
from torch import Tensor


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
