"""Layers that cuDNN has, over packed sequences: the fast way on a GPU.

The layer of torch.nn that runs them shares the parameters of ours. It is kept outside of ours as a
module, so that no weight appears twice in a state_dict.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.cells import Cell, GRUCell, LSTMCell, RNNCell

if TYPE_CHECKING:
    from rnn_lab.models.layers import RecurrentLayer

_TORCH: dict[type[Cell], type[nn.RNNBase]] = {RNNCell: nn.RNN, LSTMCell: nn.LSTM, GRUCell: nn.GRU}


def has_cudnn(cell: Cell) -> bool:
    """Return whether cuDNN, and so torch.nn, has layers of this cell."""
    return type(cell) in _TORCH and getattr(cell, "reset_after", True)


def run_packed(
    layer: "RecurrentLayer", inputs: Tensor, lengths: Tensor, initial_state: Any
) -> tuple[Tensor, Any]:
    """Run `layer` as torch.nn does; arguments and results are those of its `forward`."""
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, final_state = _torch_layer(layer)(packed, initial_state)
    padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    return padded, final_state


def _torch_layer(layer: "RecurrentLayer") -> nn.RNNBase:
    """Return torch.nn's layer with the parameters of `layer`, which cuDNN wants in one block."""
    parameters = dict(layer.named_parameters())
    # Moved to another device, a parameter is the same object with other memory; assigned by
    # load_state_dict, it is another object.
    key = [(id(parameter), parameter.data_ptr()) for parameter in parameters.values()]
    known = layer.__dict__.get("_torch_layer")
    if known is not None and known[0] == key:
        found: nn.RNNBase = known[1]
    else:
        found = _TORCH[type(layer.cell)](
            layer.input_size,  # type: ignore[arg-type]
            layer.hidden_size,
            layer.num_layers,
            batch_first=True,
            dropout=layer.dropout,
            bidirectional=layer.bidirectional,
            device="meta",
        )
        for name, parameter in parameters.items():
            setattr(found, name, parameter)
        found.flatten_parameters()
        key = [(id(parameter), parameter.data_ptr()) for parameter in parameters.values()]
        layer.__dict__["_torch_layer"] = key, found
    return found.train(layer.training)
