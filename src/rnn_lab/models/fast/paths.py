"""Fast paths: other ways to compute one direction of a layer, registered by cell.

`RecurrentLayer` takes the first registered path that fits, else the reference loop. All paths give
the values and gradients of that loop. None is needed to understand a layer.

On a CPU, RNN, LSTM and GRU have compiled steps (`fused_rnn.py`), or without Numba torch's, which
are slow. On a GPU, the layers that cuDNN has run over packed sequences, all directions and layers
at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.errors import ConfigError
from rnn_lab.models.cells import Cell, GRUCell, LSTMCell, RNNCell, State, Weights

if TYPE_CHECKING:
    from rnn_lab.models.layers import RecurrentLayer as Layer

Run = Callable[[Any, Tensor, Tensor, State, Weights], tuple[Tensor, State]]
Fits = Callable[[Any, Tensor], bool]


class FastPath(NamedTuple):
    """One direction of one layer, computed otherwise than by the reference loop.

    `run` is called as run(layer, inputs, lengths, state, weights): arguments after layer are those
    of `reference_steps`. It returns outputs [time, batch, hidden] and the final state.
    """

    run: Run
    fits: Fits
    zeroes_padding: bool  # outputs beyond each length are zero; else they may be anything


_PATHS: dict[type[Cell], list[FastPath]] = {}


def register_fast_path(
    cell: type[Cell], *, fits: Fits = lambda layer, inputs: True, zeroes_padding: bool = False
) -> Callable[[Run], Run]:
    """Register a function as a way to run a class of cells, but not its subclasses.

    `fits` returns whether this path can run a layer on these inputs; paths are asked in the order
    of their registration. `zeroes_padding`: outputs are zero beyond each length.

    Raises:
        ConfigError: `cell` is not a class of cells, as where the decorator is not called.
    """
    if not (isinstance(cell, type) and issubclass(cell, Cell)):
        raise ConfigError(
            "@register_fast_path: needs a class of cells: @register_fast_path(MyCell)"
        )

    def register(run: Run) -> Run:
        _PATHS.setdefault(cell, []).append(FastPath(run, fits, zeroes_padding))
        return run

    return register


def find_fast_path(layer: Layer, inputs: Tensor) -> FastPath | None:
    """Return the first registered path that fits, or None."""
    paths = _PATHS.get(type(layer.cell), ())
    return next((path for path in paths if path.fits(layer, inputs)), None)


def _may_compile(layer: Layer, inputs: Tensor) -> bool:
    return inputs.device.type == "cpu" and layer.use_numba


def _torch_has_it(layer: Layer, inputs: Tensor) -> bool:
    return inputs.device.type == "cpu" and has_cudnn(layer.cell)


@register_fast_path(RNNCell, fits=_may_compile, zeroes_padding=True)
@register_fast_path(LSTMCell, fits=_may_compile, zeroes_padding=True)
@register_fast_path(GRUCell, fits=_may_compile, zeroes_padding=True)
def _fused(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights
) -> tuple[Tensor, State]:
    """Run an RNN, LSTM or GRU in compiled steps."""
    from rnn_lab.models.fast import fused_rnn

    if isinstance(layer.cell, GRUCell):
        after = layer.cell.reset_after
        cell = fused_rnn.GRU_RESET_AFTER if after else fused_rnn.GRU_RESET_BEFORE
    else:
        cell = fused_rnn.LSTM if isinstance(layer.cell, LSTMCell) else fused_rnn.RNN
    h, c = state if len(state) > 1 else (*state, None)
    outputs, *final = fused_rnn.FusedRNN.apply(
        cell, inputs, lengths, h, c, *weights.values(), torch.is_grad_enabled()
    )
    return outputs, tuple(final[: len(state)])


@register_fast_path(RNNCell, fits=_torch_has_it, zeroes_padding=True)
@register_fast_path(LSTMCell, fits=_torch_has_it, zeroes_padding=True)
@register_fast_path(GRUCell, fits=_torch_has_it, zeroes_padding=True)
def _by_torch(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights
) -> tuple[Tensor, State]:
    """Run a cell that torch has by torch: slow, but without Numba, which takes a second to load."""
    run = getattr(
        torch._VF, {RNNCell: "rnn_tanh", LSTMCell: "lstm", GRUCell: "gru"}[type(layer.cell)]
    )
    parameters = [weight.to(inputs.dtype) for weight in weights.values()]
    options = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": layer.training}
    options |= {"bidirectional": False}
    if bool((lengths == len(inputs)).all()):
        hidden = tuple(part[None] for part in state)
        start = hidden if len(hidden) > 1 else hidden[0]
        outputs, *final = run(inputs, start, parameters, batch_first=False, **options)
        return outputs, tuple(part[0] for part in final)
    packed = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
    hidden = tuple(part[None, packed.sorted_indices] for part in state)
    start = hidden if len(hidden) > 1 else hidden[0]
    data, *final = run(packed.data, packed.batch_sizes, start, parameters, **options)
    outputs, _ = pad_packed_sequence(packed._replace(data=data), total_length=len(inputs))
    return outputs, tuple(part[0, packed.unsorted_indices] for part in final)


_TORCH: dict[type[Cell], type[nn.RNNBase]] = {RNNCell: nn.RNN, LSTMCell: nn.LSTM, GRUCell: nn.GRU}


def has_cudnn(cell: Cell) -> bool:
    """Return whether cuDNN, and so torch.nn, has layers of this cell."""
    return type(cell) in _TORCH and getattr(cell, "reset_after", True)


def run_packed(
    layer: Layer, inputs: Tensor, lengths: Tensor, initial_state: Any
) -> tuple[Tensor, Any]:
    """Run `layer` as torch.nn does; arguments and results are those of its `forward`."""
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, final_state = _torch_layer(layer)(packed, initial_state)
    padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    return padded, final_state


def _torch_layer(layer: Layer) -> nn.RNNBase:
    """Return torch.nn's layer with the parameters of `layer`, which cuDNN wants in one block.

    It is kept outside of `layer` as a module, so that no weight appears twice in a state_dict.
    """
    parameters = dict(layer.named_parameters())
    # Moved to another device, a parameter is the same object with other memory; assigned by
    # load_state_dict, it is another object.
    key = [(id(parameter), parameter.data_ptr()) for parameter in parameters.values()]
    found: nn.RNNBase
    known_key, found = layer.__dict__.get("_torch_layer", (None, None))
    if known_key != key:
        found = _TORCH[type(layer.cell)](
            layer.input_size,  # type: ignore[arg-type]
            layer.hidden_size,
            layer.num_layers,
            batch_first=True,
            bidirectional=layer.bidirectional,
            device="meta",
        )
        for name, parameter in parameters.items():
            setattr(found, name, parameter)
        found.flatten_parameters()
        key = [(id(parameter), parameter.data_ptr()) for parameter in parameters.values()]
        layer.__dict__["_torch_layer"] = key, found
    found.dropout = layer.dropout
    return found.train(layer.training)
