"""Dropout on a CPU, compiled: the masks of torch's own generator, drawn and applied in one pass.

As tensor operations, drawing numbers, comparing, converting and multiplying them is up to a fifth
of a training step in bfloat16 (benchmarks/dropout_pooling.py).
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_lab.models.fast import kernels

# Of the bytes of torch.get_rng_state on a CPU, which every torch can read: at::mt19937 as an old
# struct of C. `left` is one more than what is left to draw of the block before its place `next`.
_SIZE, _LEFT, _NEXT, _BLOCK = 5056, slice(8, 12), slice(16, 24), slice(24, 24 + 624 * 8)


def fused_dropout(inputs: Tensor, dropped: int, scale: float) -> Tensor:
    """Return `inputs` with dropout, see `rnn_lab.models.functional.dropout`.

    Kept are numbers whose chance, of 2**16, is not below `dropped`; they are multiplied by `scale`.
    """
    found: Tensor = _Drop.apply(inputs, draw_chances(inputs.numel()), dropped, scale)
    return found


class _Drop(torch.autograd.Function):
    """Its gradient is the same function of the gradient of its result."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, chances: Tensor, dropped: int, scale: float) -> Tensor:
        ctx.save_for_backward(chances)
        ctx.arguments = dropped, scale
        # Memory in the order [time, batch] is read as it is, its chances in that of [batch, time].
        is_time_major = inputs.dim() == 3 and not inputs.is_contiguous()
        memory = (inputs.transpose(0, 1) if is_time_major else inputs).contiguous()
        out, features = torch.empty_like(memory), memory.shape[-1]
        kernels.run(
            kernels.dropout,
            memory.numel() // features,
            *(memory.view(-1, features), chances.view(-1, features)),
            *(len(memory) if is_time_major else 1, dropped),
            *(torch.tensor([scale], dtype=memory.dtype), out.view(-1, features)),
        )
        return out.transpose(0, 1) if is_time_major else out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Drop.apply(gradient, *ctx.saved_tensors, *ctx.arguments), None, None, None


def draw_chances(count: int) -> Tensor:
    """Return int16 [count] as `random_` draws them, four with each number of 64 bits."""
    state = torch.get_rng_state()
    chances = _draw(state.numpy(), count)
    torch.set_rng_state(state)
    return torch.from_numpy(chances)


def _draw(state: np.ndarray, count: int) -> np.ndarray:
    left, block = state[_LEFT].view(np.int32), state[_BLOCK].view(np.uint64)
    words, out = block.astype(np.uint32), np.empty(-(-count // 4) * 2, np.uint32)
    rest: int = kernels.draw_words(words, int(left[0]) - 1, out)
    left[0], block[:] = rest + 1, words
    state[_NEXT].view(np.uint64)[0] = len(block) - rest
    return out.view(np.int16)[:count]


@functools.cache
def knows_the_generator() -> bool:
    """Return whether this torch draws what `draw_chances` does: its generator is not documented."""
    former = torch.get_rng_state()
    if len(former) != _SIZE:
        return False
    numbers = torch.empty(1000, dtype=torch.int64).random_(-(2**63), None)
    expected = torch.get_rng_state()
    torch.set_rng_state(former)
    chances = draw_chances(4 * len(numbers))
    same = torch.equal(chances, numbers.view(torch.int16))
    same = same and torch.equal(torch.get_rng_state(), expected)
    torch.set_rng_state(former)
    return same
