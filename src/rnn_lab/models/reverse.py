"""Reversing each sequence within its own length, the padding left where it is."""

from typing import Any

import torch
from torch import Tensor


def reversal_index(lengths: Tensor, time: int) -> Tensor:
    """Rows of a flattened [time * batch, ...] tensor in the order that reverses each sequence.

    Step t of a sequence of length n is read from step n - 1 - t; padding is read from itself. The
    permutation is its own inverse.

    Returns: int64 [time * batch].
    """
    steps = torch.arange(time, device=lengths.device)[:, None]  # [time, 1]
    sources = torch.where(steps < lengths, lengths - 1 - steps, steps)  # [time, batch]
    return (sources * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


def reverse(sequences: Tensor, order: Tensor) -> Tensor:
    """Reverse `sequences` [time, batch, features] by the `order` that `reversal_index` gives."""
    return _Reverse.apply(sequences, order)


class _Reverse(torch.autograd.Function):
    """A gather whose gradient is a gather too: index_select's own would scatter and add."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return sequences.flatten(0, 1).index_select(0, order).view(sequences.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return reverse(grad, order), None
