"""The loop over time that defines every layer: one direction of one layer, of any cell.

`layers.py` runs it where there is no faster way to compute the same, `trace.py` to show every
value, and the fast paths for the derivative of a gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rnn_lab.errors import ConfigError
from rnn_lab.models.cells import Cell, State, Weights


def reference_steps(
    cell: Cell,
    inputs: Tensor,  # [time, batch, features], in the order in which the direction reads
    lengths: Tensor,  # [batch], on the device of the inputs
    state: State,  # the initial state, parts of [batch, hidden]
    weights: Weights,  # of this direction, by name
) -> Iterator[dict[str, Tensor]]:
    """Run one direction of one layer step by step; yield all values of the cell at each step.

    Beyond a sequence's end its state stays as it was, and gradients pass straight through. Each
    yielded state is the very tensor that the next step reads.

    Raises:
        ConfigError: the cell returns other values than it describes, or of another shape.
    """
    for time, x in enumerate(inputs):
        values = cell.step(x, state, weights)
        if time == 0:
            _check_step(cell, values, state[0])
        real = (time < lengths)[:, None]  # [batch, 1]
        state = tuple(
            torch.where(real, values[name], before)
            for name, before in zip(cell.states, state, strict=True)
        )
        yield values | dict(zip(cell.states, state, strict=True))


def _check_step(cell: Cell, values: Any, before: Tensor) -> None:
    """Raise a ConfigError unless a step returned the cell's values, each as the state `before`."""
    shape, exact = list(before.shape), torch.promote_types(before.dtype, torch.float32)
    if not isinstance(values, dict):
        raise ConfigError(
            f"model.name={cell.name}: its step returned {type(values).__name__}, expected a dict "
            f"of {', '.join(cell.values)}"
        )
    if values.keys() != cell.values.keys():
        raise ConfigError(
            f"model.name={cell.name}: its step returns {', '.join(values)}, but its values are "
            f"{', '.join(cell.values)}"
        )
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"model.name={cell.name}: its step returned {name} as {type(value).__name__}, "
                "expected a tensor"
            )
        # Autocast multiplies in fewer bits, and adds a bias in float32.
        if torch.promote_types(value.dtype, torch.float32) != exact:
            raise ConfigError(
                f"model.name={cell.name}: its step returned {name} in {value.dtype}, expected the "
                "type of its arguments"
            )
        if (found := list(value.shape)) != shape:
            raise ConfigError(
                f"model.name={cell.name}: its step returned {name} {found}, expected {shape}: "
                "[batch, hidden]"
            )


def run_reference(
    cell: Cell, inputs: Tensor, lengths: Tensor, state: State, weights: Weights
) -> tuple[Tensor, State]:
    """Return the outputs [time, batch, hidden] of `reference_steps` and the final state."""
    outputs = []
    for values in reference_steps(cell, inputs, lengths, state, weights):
        outputs.append(values["h"])
        state = tuple(values[name] for name in cell.states)
    return torch.stack(outputs), state
