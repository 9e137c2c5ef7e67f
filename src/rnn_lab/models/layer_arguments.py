"""What a variable-length recurrent layer is called with, checked: never a wrong number."""

from typing import Any

import torch
from torch import Tensor, nn

from rnn_lab.models.fast.autocast import is_autocast_enabled

State = tuple[Tensor, ...]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_inputs(layer: nn.RNNBase, inputs: Tensor, lengths: Tensor) -> None:
    """Raise a ValueError unless these are what a variable-length layer takes."""
    if inputs.dim() != 3 or inputs.shape[2] != layer.input_size:
        raise ValueError(
            f"inputs must be [batch, time, {layer.input_size}], got {list(inputs.shape)}"
        )
    batch, time, _ = inputs.shape
    if batch == 0:
        raise ValueError("inputs must hold at least one sequence, got none")
    weights = layer.all_weights[0][0].dtype
    if inputs.dtype != weights and not is_autocast_enabled(inputs.device.type):
        raise ValueError(f"inputs must be {weights} as the weights are, got {inputs.dtype}")
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


def initial_state_parts(layer: nn.RNNBase, inputs: Tensor, initial_state: Any, count: int) -> State:
    """The `count` parts of an initial state, [num_layers * directions, batch, hidden_size] each.

    None is zeros; another shape raises a ValueError.
    """
    rows = layer.num_layers * (1 + layer.bidirectional)
    shape = (rows, inputs.shape[0], layer.hidden_size)
    if initial_state is None:
        return (inputs.new_zeros(shape),) * count
    state = (initial_state,) if isinstance(initial_state, Tensor) else tuple(initial_state)
    if len(state) != count or any(tuple(part.shape) != shape for part in state):
        wanted = " and ".join([str(list(shape))] * count)
        found = " and ".join(str(list(part.shape)) for part in state)
        raise ValueError(f"initial_state must be {wanted}, got {found}")
    return state
