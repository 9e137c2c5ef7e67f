"""Second derivatives of functions whose gradient is compiled or otherwise invisible to autograd.

`torch.autograd.function.once_differentiable` refuses them only where the gradient of the result
needs a gradient itself. That of a sum is a constant: `create_graph=True` then returns a gradient
without a graph, and a penalty on it trains nothing.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., Any]


def gradients_by(
    function: Callable[..., Sequence[Tensor]],
    arguments: Sequence[Tensor],
    d_results: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradient of each argument, None where none is needed, with a graph of its own.

    For a backward pass under `create_graph=True`: `function` computes the results again, as tensor
    operations. `d_results` are the gradients of its results, None for those not in the loss.
    """
    # One argument may be computed from another: views keep their gradients apart.
    arguments = [argument.view_as(argument) for argument in arguments]
    wanted = [argument for argument in arguments if argument.requires_grad]
    pairs = [
        (result, d_result)
        for result, d_result in zip(function(*arguments), d_results, strict=True)
        if d_result is not None
    ]
    found = iter(
        torch.autograd.grad(
            [result for result, _ in pairs],
            wanted,
            [d_result for _, d_result in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if argument.requires_grad else None for argument in arguments]


def once_differentiable(remedy: str) -> Callable[[Backward], Backward]:
    """Decorate a backward pass whose results always refuse to be differentiated.

    `remedy` ends the message of the RuntimeError.
    """

    def decorate(backward: Backward) -> Backward:
        @functools.wraps(backward)
        def run(ctx: Any, *gradients: Tensor | None) -> Any:
            with torch.no_grad():
                found = backward(ctx, *gradients)
            if not torch.is_grad_enabled():
                return found
            return tuple(
                _Refuse.apply(one.detach().requires_grad_(), remedy) if one is not None else None
                for one in found
            )

        return run

    return decorate


class _Refuse(torch.autograd.Function):
    """A tensor that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, remedy: str) -> Tensor:
        ctx.remedy = remedy
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise RuntimeError(f"there is no second derivative here: {ctx.remedy}")
