"""The optimizers of torch.optim by name, and whether one takes the options of a run."""

import functools
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from rnn_lab.errors import first_line
from rnn_lab.validation import check_arguments, unknown_choice_message

_REFUSED = {
    "lbfgs": "it computes the loss several times per step, which the training step does not offer",
    "muon": "it takes weight matrices only, and a network has biases too",
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


def check_name(name: str) -> str:
    """Return the name of an optimizer in lower case.

    Raises:
        ValueError: torch.optim has no such optimizer, or a run cannot use it.
    """
    lower, choices = name.lower(), optimizer_classes()
    if lower in _REFUSED:
        raise ValueError(_REFUSED[lower])
    if lower not in choices:
        what = "torch.optim has no such optimizer"
        raise ValueError(unknown_choice_message(what, lower, list(choices)))
    return lower


def check_optimizer(
    name: str,
    arguments: Mapping[str, Any],
    *,
    lr: float,
    weight_decay: float,
    options: Collection[str],
) -> None:
    """Raise a ValueError if the optimizer has no such argument or value.

    `options` are the names of those that every optimizer has.
    """
    optimizer = optimizer_classes()[name]
    known = inspect.signature(optimizer).parameters
    allowed = [one for one in known if one not in {"params", *options}]
    check_arguments("optimizer", optimizer.__name__, arguments, allowed)
    if weight_decay > 0 and "weight_decay" not in known:
        decay = f"optimizer.weight_decay={weight_decay}"
        raise ValueError(f"{decay}: {optimizer.__name__} has none. Give 0")
    for argument, value in arguments.items():
        default = known[argument].default
        if isinstance(default, tuple):
            _check_numbers(argument, value, len(default))
    try:
        optimizer([nn.Parameter(torch.zeros(1))], lr=lr, **arguments)  # type: ignore[call-arg]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"optimizer: {optimizer.__name__}: {first_line(error)}") from None


def _check_numbers(argument: str, value: Any, size: int) -> None:
    """Raise a ValueError if the value of a list of `size` numbers is another, or impossible."""
    numbers = value if isinstance(value, tuple) else (value,)
    is_betas = argument == "betas"
    if len(numbers) != size or (is_betas and not all(0 <= beta < 1 for beta in numbers)):
        given = ",".join(f"{number:g}" for number in numbers)
        given = f"[{given}]" if isinstance(value, tuple) else given
        limits = " from 0 to below 1" if is_betas else ""
        raise ValueError(f"optimizer.{argument}={given}: give a list of {size} numbers{limits}")
