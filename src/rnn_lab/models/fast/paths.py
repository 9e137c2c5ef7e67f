"""Fast paths: other ways to compute one direction of a layer, registered by cell.

`RecurrentLayer` takes the first registered path that fits, else the reference loop. All paths give
the values and gradients of that loop. None is needed to understand a layer.

On a CPU, an LSTM is torch's over one padded block, which is oneDNN's where that can compute it. RNN
and GRU have compiled steps (`fused_rnn.py`), or without Numba torch's, which are slow. On a GPU,
the layers that cuDNN has run over packed sequences, all directions and layers at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.cells import Cell, GRUCell, LSTMCell, RNNCell, State, Weights

if TYPE_CHECKING:
    from rnn_lab.models.layers import RecurrentLayer as Layer

Run = Callable[[Any, Tensor, Tensor, State, Weights, bool], tuple[Tensor, State]]
Fits = Callable[[Any, Tensor], bool]

# Elements of the gates of a block of time steps: 8 MiB in float32. Those of a long text fit no
# cache, and their size differs at every step, so that freed memory cannot be used again.
_LSTM_BLOCK = 2**21
_ONE_LAYER: dict[str, Any] = {"has_biases": True, "num_layers": 1, "dropout": 0.0}
_ONE_LAYER |= {"bidirectional": False, "batch_first": False}


class FastPath(NamedTuple):
    """One direction of one layer, computed otherwise than by the reference loop.

    `run` is called as run(layer, inputs, lengths, state, weights, need_state): arguments after
    layer are those of `reference_steps`. It returns outputs [time, batch, hidden] and the final
    state, of which only h is read if not `need_state`.
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
    """

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


@register_fast_path(LSTMCell, fits=_torch_has_it)
def _lstm(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights, need_state: bool
) -> tuple[Tensor, State]:
    """Run an LSTM by torch, which in float32 and bfloat16 is oneDNN: near the speed of a product.

    It returns the cell state after the last padded step only. So that this is the one of the last
    real step, one more input marks padding: its weights open the forget gate and close the input
    gate there.
    """
    h, c = state
    weight_ih, *others = (weight.to(inputs.dtype) for weight in weights.values())
    time, batch, _ = inputs.shape
    if need_state:
        padding = (torch.arange(time)[:, None] >= lengths)[:, :, None]  # [time, batch, 1]
        saturated = torch.finfo(weight_ih.dtype).max / 4  # sigmoid: exactly 0 or 1
        keep = weight_ih.new_zeros(4, layer.hidden_size)  # input, forget, candidate, output
        keep[0], keep[1] = -saturated, saturated
        weight_ih = torch.cat([weight_ih, keep.view(-1, 1)], dim=1)
        inputs = torch.cat([inputs, padding.to(inputs.dtype)], dim=2)
    blocks = []
    h, c = h[None], c[None]
    supported = _onednn_has_lstm(inputs.dtype)
    for block in inputs.split(max(1, _LSTM_BLOCK // (batch * 4 * layer.hidden_size))):
        with nullcontext() if supported else torch.backends.mkldnn.flags(enabled=False):
            output, h, c = torch._VF.lstm(
                block, (h, c), [weight_ih, *others], train=layer.training, **_ONE_LAYER
            )
        blocks.append(output)
    outputs = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    last = outputs[lengths - 1, torch.arange(batch)]
    return outputs, (last, c[0]) if need_state else (last,)


@register_fast_path(RNNCell, fits=_may_compile, zeroes_padding=True)
@register_fast_path(GRUCell, fits=_may_compile, zeroes_padding=True)
def _fused(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights, need_state: bool
) -> tuple[Tensor, State]:
    """Run an RNN or GRU in compiled steps."""
    from rnn_lab.models.fast import fused_rnn

    cell = fused_rnn.RNN
    if isinstance(layer.cell, GRUCell):
        after = layer.cell.reset_after
        cell = fused_rnn.GRU_RESET_AFTER if after else fused_rnn.GRU_RESET_BEFORE
    outputs, last = fused_rnn.FusedRNN.apply(
        cell, inputs, lengths, *state, *weights.values(), torch.is_grad_enabled()
    )
    return outputs, (last,)


@register_fast_path(RNNCell, fits=_torch_has_it)
@register_fast_path(GRUCell, fits=_torch_has_it)
def _by_torch(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights, need_state: bool
) -> tuple[Tensor, State]:
    """Run an RNN, or a GRU with its reset gate after the product, by torch."""
    run = torch._VF.gru if isinstance(layer.cell, GRUCell) else torch._VF.rnn_tanh
    parameters = [weight.to(inputs.dtype) for weight in weights.values()]
    outputs, _ = run(inputs, state[0][None], parameters, train=layer.training, **_ONE_LAYER)
    return outputs, (outputs[lengths - 1, torch.arange(len(lengths))],)


@functools.cache
def _onednn_has_lstm(dtype: torch.dtype) -> bool:
    """Return whether oneDNN has an LSTM of that type where torch calls it.

    Without AVX-512 it has none of bfloat16. torch 2.3 does not check, later ones do.
    """
    one = torch.zeros(1, 1, 1, dtype=dtype)
    weights = [torch.zeros(4, 1, dtype=dtype)] * 2 + [torch.zeros(4, dtype=dtype)] * 2
    try:
        torch._VF.lstm(one, (one, one), weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


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
