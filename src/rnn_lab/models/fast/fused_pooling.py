"""Poolings on a CPU, compiled: one pass over the outputs of all steps, and one over their gradient.

As tensor operations, each part of a joined pooling writes a gradient of its own for every step, and
these are then added: up to a quarter of a training step (benchmarks/dropout_pooling.py).
"""

from typing import Any

import torch
from torch import Tensor

from rnn_lab.models.fast import kernels
from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd


def fused_pool(
    parts: tuple[str, ...], outputs: Tensor, lengths: Tensor, bidirectional: bool
) -> Tensor:
    """Return the `parts`, of last, max and mean, joined: [batch, parts * features].

    Arguments and results are those of a pooling, see `rnn_lab.models.pooling`. `outputs` are
    bfloat16, float32 or float64; sums have at least float32.
    """
    pooled: Tensor = _FusedPool.apply(parts, outputs.transpose(0, 1), lengths, bidirectional)
    return pooled


class _FusedPool(torch.autograd.Function):
    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any, parts: tuple[str, ...], outputs: Tensor, lengths: Tensor, bidirectional: bool
    ) -> Tensor:
        _, batch, features = outputs.shape
        outputs, lengths = outputs.contiguous(), lengths.to("cpu", torch.int64)
        exact = torch.promote_types(outputs.dtype, torch.float32)
        pooled = torch.empty(batch, len(parts) * features, dtype=exact)
        steps = torch.empty(batch if "max" in parts else 0, features, dtype=torch.int32)
        turn = features // 2 if bidirectional else features
        begins = [
            parts.index(part) * features if part in parts else -1
            for part in ("last", "max", "mean")
        ]
        kernels.run(kernels.pool, batch, lengths, outputs, turn, *begins, pooled, steps)
        ctx.save_for_backward(lengths, steps)
        ctx.parts, ctx.arguments = parts, (turn, *begins)
        ctx.shape, ctx.dtype = outputs.shape, outputs.dtype
        return pooled.to(outputs.dtype)

    @staticmethod
    @custom_bwd
    def backward(ctx: Any, d_pooled: Tensor) -> Any:
        lengths, steps = ctx.saved_tensors
        exact = torch.promote_types(ctx.dtype, torch.float32)
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            of_parts = zip(ctx.parts, d_pooled.to(exact).chunk(len(ctx.parts), dim=1), strict=True)
            gradients = [
                _part_gradient(part, d_part, lengths, steps, ctx.shape, ctx.arguments[0])
                for part, d_part in of_parts
            ]
            return None, torch.stack(gradients).sum(0).to(ctx.dtype), None, None
        d_outputs = torch.empty(ctx.shape, dtype=ctx.dtype)
        d_pooled = d_pooled.to(exact).contiguous()
        arguments = (lengths, d_outputs, *ctx.arguments, d_pooled, steps)
        kernels.run(kernels.pool_back, len(lengths), *arguments)
        return None, d_outputs, None, None


def _part_gradient(
    part: str,  # last, max or mean
    d_part: Tensor,  # [batch, features]
    lengths: Tensor,  # [batch]
    steps: Tensor,  # [batch, features], of the maxima
    shape: torch.Size,  # [time, batch, features]
    turn: int,  # features from this one on end at step 0
) -> Tensor:
    """Return the gradient of the outputs [time, batch, features] as tensor operations."""
    if part == "mean":
        real = torch.arange(shape[0])[:, None] < lengths  # [time, batch]
        return (d_part / lengths[:, None]) * real[:, :, None]
    if part == "last":
        steps = (lengths - 1)[:, None].repeat(1, shape[2])
        steps[:, turn:] = 0
    return d_part.new_zeros(shape).scatter(0, steps[None].long(), d_part[None])
