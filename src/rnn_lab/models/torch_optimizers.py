"""The optimizers of torch.optim by name, and whether one takes the arguments of a config."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rnn_lab.validation import check_arguments, unknown_choice_message

_REFUSED = {
    "lbfgs": "it computes the loss several times per step, which the training step does not offer",
    "sparseadam": "it takes sparse gradients only. See optimizer.sparse_embedding",
}


@functools.cache
def optimizer_classes() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the optimizers of torch.optim that a run can use, by name in lower case."""
    found = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    return {name: found[name] for name in sorted(found.keys() - _REFUSED.keys() - {"optimizer"})}


def check_optimizer(
    name: str, lr: float, weight_decay: float, arguments: Mapping[str, Any], options: set[str]
) -> None:
    """Make sure that torch.optim has the optimizer, and that it takes the arguments.

    Args:
        name: of the optimizer, in lower case.
        lr: learning rate.
        weight_decay: 0 for an optimizer that has none.
        arguments: all others.
        options: names that are no arguments of the optimizer.

    Raises:
        ValueError: no such optimizer or argument, or an impossible value.
    """
    if name in _REFUSED:
        raise ValueError(f"optimizer.name={name}: {_REFUSED[name]}")
    classes = optimizer_classes()
    if name not in classes:
        what = f"optimizer.name={name}: torch.optim has no such optimizer"
        raise ValueError(unknown_choice_message(what, name, list(classes)))
    optimizer = classes[name]
    known = list(inspect.signature(optimizer).parameters)
    allowed = [argument for argument in known if argument not in {"params", *options}]
    check_arguments("optimizer", optimizer.__name__, arguments, allowed)
    if weight_decay > 0 and "weight_decay" not in known:
        raise ValueError(
            f"optimizer.weight_decay={weight_decay}: {optimizer.__name__} has none. Give 0"
        )
    try:
        optimizer([nn.Parameter(torch.zeros(1))], lr=lr, **arguments)  # type: ignore[call-arg]
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"optimizer.name={name}: {reason}") from None
