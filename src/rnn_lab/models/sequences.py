"""Padded sequences: check them, reverse each within its own length, zero its padding."""

from typing import Any

import torch
from torch import Tensor

from rnn_lab.models.fast.autocast import is_autocast_enabled

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_sequences(inputs: Tensor, lengths: Tensor, input_size: int, dtype: torch.dtype) -> Tensor:
    """Return `lengths` of `inputs` [batch, time, input_size], of type `dtype`, as int64 on the CPU.

    Raises:
        ValueError: one has a wrong shape, type or value; names it.
    """
    if inputs.dim() != 3 or inputs.shape[2] != input_size:
        raise ValueError(f"inputs must be [batch, time, {input_size}], got {list(inputs.shape)}")
    batch, time, _ = inputs.shape
    if batch == 0:
        raise ValueError("inputs must hold at least one sequence, got none")
    if inputs.dtype != dtype and not is_autocast_enabled(inputs.device.type):
        raise ValueError(f"inputs must be {dtype} as the weights are, got {inputs.dtype}")
    if lengths.dtype not in _INTEGERS or list(lengths.shape) != [batch]:
        raise ValueError(
            f"lengths must be integers [{batch}], one for each sequence of inputs, "
            f"got {lengths.dtype} {list(lengths.shape)}"
        )
    shortest, longest = (int(bound) for bound in lengths.aminmax())
    if shortest < 1 or longest > time:
        raise ValueError(
            f"lengths must be from 1 to the {time} steps of inputs, got {shortest} to {longest}"
        )
    return lengths.to("cpu", torch.int64)


def check_state(
    initial_state: Any, parts: int, shape: tuple[int, ...], inputs: Tensor
) -> tuple[Tensor, ...]:
    """Return an initial state of so many `parts` as their tuple; zeros, as `inputs`, for None.

    Raises:
        ValueError: it has other parts, or one has another shape.
    """
    if initial_state is None:
        return (inputs.new_zeros(shape),) * parts
    state = (initial_state,) if isinstance(initial_state, Tensor) else tuple(initial_state)
    if len(state) != parts or any(tuple(part.shape) != shape for part in state):
        wanted = " and ".join([str(list(shape))] * parts)
        found = " and ".join(str(list(part.shape)) for part in state)
        raise ValueError(f"initial_state must be {wanted}, got {found}")
    return state


def reversal_index(lengths: Tensor, time: int) -> Tensor:
    """Return the rows of a flattened [time * batch, ...] tensor that reverse each sequence.

    Step t of a sequence of length n is read from step n - 1 - t, and padding from itself. The
    permutation, int64 [time * batch], is its own inverse.
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


def zero_padding(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return [time, batch, ...] with zeros beyond each length, where no gradient passes."""
    return sequences if int(lengths.min()) >= len(sequences) else _Zeroed.apply(sequences, lengths)


class _Zeroed(torch.autograd.Function):
    """A copy and a few zeros: half the time of masked_fill, which goes over all of it twice."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        copy = sequences.clone()
        shortest = max(0, int(lengths.min()))
        steps = torch.arange(shortest, len(copy), device=lengths.device)
        copy[shortest:].masked_fill_((steps[:, None] >= lengths)[:, :, None], 0)
        return copy

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (lengths,) = ctx.saved_tensors
        return zero_padding(grad, lengths), None
