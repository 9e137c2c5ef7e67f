"""Tensor functions of the layers: checks of arguments, reversal, zeroed padding and dropout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnn_lab.models.fast.autocast import autocast_dtype

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_CHANCES = 2**16  # random numbers of 16 bits: the generator draws four at once
_FUSED_FROM = 2**14  # elements; with fewer, the compiled form gains nothing
_FUSED = (torch.bfloat16, torch.float32, torch.float64)


def check_layer_inputs(
    layer: Any, inputs: Tensor, lengths: Tensor | Sequence[int], initial_state: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return lengths as int64 on the CPU, and the initial state as a tuple of its parts.

    Raises:
        ValueError: an argument of the layer's `forward` has a wrong shape, type or value; names it.
        RuntimeError: torch.jit traces the layer, which would fix the lengths of this batch.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "torch.jit.trace, also by torch.onnx.export, cannot follow the lengths of a batch; "
            "`rnn-lab export` writes ONNX files"
        )
    size = layer.input_size
    if not isinstance(inputs, Tensor):
        raise ValueError(
            f"inputs must be a padded tensor [batch, time, {size}], got {type(inputs).__name__}"
        )
    if inputs.dim() != 3 or inputs.shape[2] != size:
        raise ValueError(f"inputs must be [batch, time, {size}], got {list(inputs.shape)}")
    batch, time, _ = inputs.shape
    if batch == 0:
        raise ValueError("inputs must hold at least one sequence, got none")
    dtype = next(layer.parameters()).dtype
    if not dtype.is_floating_point:
        raise ValueError(f"the layer's weights must be real numbers, got {dtype}")
    if inputs.dtype != dtype and autocast_dtype(inputs.device.type) is None:
        raise ValueError(f"inputs must be {dtype} as the weights are, got {inputs.dtype}")
    wanted = f"lengths must be integers [{batch}], one for each sequence of inputs"
    try:
        lengths = torch.as_tensor(lengths)  # a list and an array of NumPy too
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{wanted}, got {type(lengths).__name__}") from None
    if lengths.dtype not in _INTEGERS or list(lengths.shape) != [batch]:
        raise ValueError(f"{wanted}, got {lengths.dtype} {list(lengths.shape)}")
    shortest, longest = (int(bound) for bound in lengths.aminmax())
    if shortest < 1 or longest > time:
        raise ValueError(
            f"lengths must be from 1 to the {time} steps of inputs, got {shortest} to {longest}"
        )
    lengths = lengths.to("cpu", torch.int64)

    parts = len(layer.cell.states)
    shape = (layer.num_layers * layer.directions, batch, layer.hidden_size)
    if initial_state is None:
        return lengths, (inputs.new_zeros(shape),) * parts
    state = tuple(initial_state) if isinstance(initial_state, (tuple, list)) else (initial_state,)
    expected, found = [str(list(shape))] * parts, [_describe(part) for part in state]
    if found != expected:
        raise ValueError(
            f"initial_state must be {' and '.join(expected)}, got {' and '.join(found)}"
        )
    return lengths, state


def _describe(value: Any) -> str:
    """Return the shape of a tensor, or the type of anything else."""
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


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


class Dropout(nn.Dropout):
    """torch.nn.Dropout (Srivastava et al. 2014), on a CPU by the faster masks of `dropout`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs`, of any shape, with dropout in training."""
        return dropout(inputs, self.p, self.training)


def variational_dropout(inputs: Tensor, p: float, training: bool, time_dim: int) -> Tensor:
    """Return `inputs` with dropout whose mask is the same at every step of a sequence.

    It is what Gal and Ghahramani (2016, "A Theoretically Grounded Application of Dropout in
    Recurrent Neural Networks", section 4) apply between layers. `time_dim` is the dimension of the
    steps.
    """
    if not training or p == 0:
        return inputs
    return inputs * dropout(torch.ones_like(inputs.narrow(time_dim, 0, 1)), p, training)


def dropout_of_steps(sequences: Tensor, p: float, training: bool, variational: bool) -> Tensor:
    """Return sequences [time, batch, features] with dropout, `variational` or of each number."""
    if variational:
        return variational_dropout(sequences, p, training, time_dim=0)
    return dropout(sequences, p, training)


def dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """Return `inputs` with dropout, as torch.nn.functional.dropout.

    On a CPU torch's masks are a quarter of a training step. `p` is taken to the nearest 1/65536,
    and masks come from torch's default generator.
    """
    dropped = round(p * _CHANCES)  # how many of the numbers mean zero
    if not training or dropped == 0:
        return inputs
    if inputs.device.type != "cpu":
        return nn.functional.dropout(inputs, p)
    if dropped == _CHANCES:
        return inputs * 0
    scale = _CHANCES / (_CHANCES - dropped)  # the mean of a mask is 1
    if inputs.numel() >= _FUSED_FROM and inputs.dtype in _FUSED:
        from rnn_lab.models.fast.fused_dropout import fused_dropout, knows_the_generator

        if knows_the_generator():
            return fused_dropout(inputs, dropped, scale)
    return dropout_by_mask(inputs, dropped, scale)


def dropout_by_mask(inputs: Tensor, dropped: int, scale: float) -> Tensor:
    """Return the product with a mask: what `fast.fused_dropout` computes, as tensor operations.

    Of 2**16 equally likely numbers, `dropped` mean zero and the others `scale`.
    """
    numbers = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64)
    numbers.random_(-(2**63), None)  # all 64 bits: without bounds the highest would be 0
    chances = numbers.view(torch.int16)[: inputs.numel()]  # -32768 to 32767
    kept = (chances >= dropped - _CHANCES // 2).to(inputs.dtype)
    return inputs * kept.mul_(scale).view(inputs.shape)
