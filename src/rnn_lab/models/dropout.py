"""Dropout (Srivastava et al. 2014), on a CPU with a mask that is sooner drawn than torch's."""

from typing import Any

import torch
from torch import Tensor, nn

_CHANCES = 2**16  # random numbers of 16 bits: four of them from one of the generator's


class Dropout(nn.Module):
    """torch.nn.Dropout, whose masks are a quarter of a training step on a CPU; these a thirtieth.

    In training each element is zero with probability `p`, taken to the nearest 1/65536, and else
    divided by the probability of being kept. Masks come from torch's default generator.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of any shape, to the same shape."""
        return dropout(inputs, self.p, self.training)

    def extra_repr(self) -> str:
        """What print shows of it."""
        return f"p={self.p}"


def dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """torch.nn.functional.dropout, as the class above has it."""
    dropped = round(p * _CHANCES)  # so many of the numbers mean zero
    if not training or dropped == 0:
        return inputs
    if inputs.device.type != "cpu":
        return nn.functional.dropout(inputs, p)
    return _Masked.apply(inputs, dropout_mask(inputs, dropped))


def dropout_mask(like: Tensor, dropped: int) -> Tensor:
    """Zeros, `dropped` of 65536, and what keeps the mean at 1; shaped and typed as `like`."""
    numbers = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    numbers.random_(-(2**63), None)  # all 64 bits: without bounds the uppermost would be 0
    chances = numbers.view(torch.int16)[: like.numel()]  # -32768 to 32767
    kept = (chances >= dropped - _CHANCES // 2).to(like.dtype)
    return kept.mul_(_CHANCES / (_CHANCES - dropped)).view(like.shape)


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return inputs * mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grad * mask, None
