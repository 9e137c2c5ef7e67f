"""Recurrent layers over sequences of different lengths: any cell, in both directions, in depth.

Sequences are padded on the right. A forward direction over the padded block is right on every real
step. A backward direction is a forward one over each sequence reversed within its own length. What
the padding computed is set to zero, and no gradient reaches it.

The loop over time of `reference.py` defines every layer. Where a faster way to compute the same is
registered (`rnn_lab.models.fast`), a layer takes it: packed sequences, which is how torch's own
layers take lengths, are many times slower on a CPU than one padded block.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from rnn_lab.models.cells import CELLS, Cell, GRUCell, LSTMCell, RNNCell, State
from rnn_lab.models.fast.autocast import autocast_dtype
from rnn_lab.models.fast.paths import find_fast_path, has_cudnn, run_packed
from rnn_lab.models.functional import (
    check_layer_inputs,
    dropout_of_steps,
    reversal_index,
    reverse,
    zero_padding,
)
from rnn_lab.models.reference import run_reference

Method = TypeVar("Method", bound=Callable[..., Any])


def _has_finite_padding(sequences: Tensor, lengths: Tensor) -> bool:
    """Return whether padding of [time, batch, features] is sure to be finite.

    Gradients multiply it by zero, and zero times NaN is NaN.
    """
    # Real steps among them may be non-finite, and a sum may overflow: both are harmless.
    return bool(sequences.detach()[int(lengths.min()) :].sum().isfinite())


def _eager(method: Method) -> Method:
    """Decorate a method that torch.compile must not trace, as it would on into compiled code."""

    @functools.wraps(method)
    def run(*arguments: Any, **options: Any) -> Any:
        # Not as a decorator: that would import the compiler, which takes a second.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(method)(*arguments, **options)
        return method(*arguments, **options)

    return cast("Method", run)


class RecurrentLayer(nn.Module):
    """Layers of any registered cell over sequences of different lengths.

    Weights are named as torch.nn's: weight_ih_l0, weight_ih_l0_reverse, weight_ih_l1 and so on.

    On a CPU, gradients can be differentiated again (`create_graph=True`), at the speed of the
    reference loop. torch.jit.trace and torch.func are not supported, and torch.compile leaves the
    layer as it is. With `use_numba = False` the steps are tensor operations of PyTorch only.
    """

    # False: do not load compiled code, which takes a second. For a process that reads one text.
    use_numba = True

    def __init__(
        self,
        cell: Cell | str,  # a cell, or the name of a registered one for its default options
        input_size: int,  # features of the inputs
        hidden_size: int,  # features of the state, per direction
        num_layers: int = 1,  # on top of one another
        *,
        bidirectional: bool = False,  # whether each layer also reads from the end
        dropout: float = 0.0,  # on the outputs of every layer but the last, in training
        variational_dropout: bool = False,  # with the same mask at every step
    ) -> None:
        """Create the weights.

        Raises:
            ValueError: an unknown cell, or an impossible size or probability.
        """
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1 or not 0 <= dropout <= 1:
            raise ValueError("sizes must be positive, and dropout from 0 to 1")
        self.cell: Cell = CELLS[cell]() if isinstance(cell, str) else cell
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bidirectional = num_layers, bidirectional
        self.directions = 1 + bidirectional
        self.dropout = dropout if num_layers > 1 else 0.0
        self.variational_dropout = variational_dropout
        self._weight_names: list[dict[str, str]] = []  # of each direction: short name -> full name
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size * self.directions
            for end in ("", "_reverse")[: self.directions]:
                shapes = self.cell.weight_shapes(features, hidden_size)
                names = {name: f"{name}_l{layer}{end}" for name in shapes}
                for name, shape in shapes.items():
                    self.register_parameter(names[name], nn.Parameter(torch.empty(shape)))
                self._weight_names.append(names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, in the order of torch.nn's layers."""
        for index in range(len(self._weight_names)):
            self.cell.reset_weights(self.weights(index), self.hidden_size)

    def weights(self, index: int) -> dict[str, Tensor]:
        """Return the weights of one direction: layer 0 forward, layer 0 backward, layer 1 ..."""
        return {short: getattr(self, name) for short, name in self._weight_names[index].items()}

    @_eager
    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | Sequence[int],
        initial_state: Any = None,
    ) -> tuple[Tensor, Any]:
        """Run over the real steps of every sequence.

        Args:
            inputs: [batch, time, input_size], right-padded. A transposed view of contiguous
                [time, batch, input_size] is read without a copy.
            lengths: integers [batch], each from 1 to time. What `inputs` hold beyond is not read.
            initial_state: as torch.nn's, [num_layers * directions, batch, hidden_size], and a tuple
                of these for a cell with several states (LSTM: h and C); None is zeros.

        Returns:
            outputs [batch, time, directions * hidden_size], zero beyond each length, and the final
            state at each last real step, shaped as initial_state: torch's results for the packed
            sequences. Under autocast both have its type. The outputs may be a view of what the
            gradient needs: change a copy of them, not them in place.

        Raises:
            ValueError: a length below 1 or beyond time, an empty batch, or another wrong shape or
                type; names the argument.
            RuntimeError: under torch.jit.trace, also by torch.onnx.export.
        """
        lengths, state = check_layer_inputs(self, inputs, lengths, initial_state)
        if self._packs(inputs):
            return run_packed(self, inputs, lengths, initial_state)
        outputs, finals = self._run(inputs, lengths, state)
        parts = tuple(torch.stack(part) for part in zip(*finals, strict=True))
        return outputs.transpose(0, 1), parts if len(parts) > 1 else parts[0]

    @_eager
    def last_hidden(self, inputs: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """Return the top layer's hidden state after each of its directions has read everything.

        Arguments and errors are those of `forward`. It is a part of forward's final state, without
        the time to prepare the outputs of every step: [batch, directions * hidden_size].
        """
        lengths, state = check_layer_inputs(self, inputs, lengths, None)
        if self._packs(inputs):
            _, final_state = run_packed(self, inputs, lengths, None)
            hidden = final_state[0] if len(self.cell.states) > 1 else final_state
        else:
            finals = self._run(inputs, lengths, state, need_outputs=False)[1]
            hidden = [h for h, *_ in finals]
        return torch.cat(list(hidden[-self.directions :]), dim=1)

    def _packs(self, inputs: Tensor) -> bool:
        """Return whether packed sequences are the fast way: on a GPU, if cuDNN has the layer."""
        own_masks = self.variational_dropout and self.dropout > 0 and self.training
        return inputs.device.type != "cpu" and has_cudnn(self.cell) and not own_masks

    def _run(
        self,
        inputs: Tensor,  # [batch, time, input_size]
        lengths: Tensor,  # [batch]
        state: State,  # parts of [num_layers * directions, batch, hidden_size]
        need_outputs: bool = True,
    ) -> tuple[Tensor, list[State]]:
        """Run all layers and directions, each by a fast path if there is one.

        Returns outputs [time, batch, directions * hidden_size], and for each layer and direction
        its final state, parts of [batch, hidden_size].
        """
        lengths = lengths.to(inputs.device)
        dtype = next(self.parameters()).dtype  # of matrix products
        if dtype != torch.float64:
            dtype = autocast_dtype(inputs.device.type) or dtype
        order = reversal_index(lengths, inputs.shape[1]) if self.bidirectional else lengths
        outputs = inputs.transpose(0, 1).to(dtype)  # [time, batch, input_size]
        if torch.is_grad_enabled() and not _has_finite_padding(outputs, lengths):
            outputs = zero_padding(outputs, lengths)
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = dropout_of_steps(
                    outputs, self.dropout, self.training, self.variational_dropout
                )
            needed = need_outputs or layer < self.num_layers - 1
            directions = []
            for backward in range(self.directions):
                x = reverse(outputs, order) if backward else outputs
                start = tuple(part[len(finals)].to(dtype) for part in state)  # [batch, hidden_size]
                weights = self.weights(len(finals))
                path = find_fast_path(self, x)
                if path is None:
                    h, final = run_reference(self.cell, x, lengths, start, weights)
                else:
                    h, final = path.run(self, x, lengths, start, weights)
                # Under autocast the reference loop adds biases in float32.
                finals.append(tuple(part.to(dtype) for part in final))
                if needed:
                    if layer == self.num_layers - 1 and not (path and path.zeroes_padding):
                        h = zero_padding(h, lengths)
                    h = h.to(dtype)  # [time, batch, hidden_size]
                    directions.append(reverse(h, order) if backward else h)
            if needed:  # [time, batch, directions * hidden_size]
                outputs = torch.cat(directions, dim=2) if self.bidirectional else directions[0]
        return outputs, finals

    def extra_repr(self) -> str:
        """Return the sizes and the cell's options, for print."""
        options: dict[str, Any] = {"cell": self.cell.name} if type(self) is RecurrentLayer else {}
        options |= {"num_layers": self.num_layers, "bidirectional": self.bidirectional}
        options |= {"dropout": self.dropout} | vars(self.cell)
        listed = (f"{name}={value}" for name, value in options.items())
        return f"{self.input_size}, {self.hidden_size}, {', '.join(listed)}"


# Arguments of torch.nn's layers that the layers here do not have, and why.
_TORCH_ARGUMENTS = {
    "batch_first": "inputs are always [batch, time, features]",
    "bias": "every layer has biases",
    "device": "move the layer with .to(device)",
    "dtype": "convert the layer with .to(dtype)",
    "nonlinearity": "RNN has tanh",
    "proj_size": "there are no projections",
}


class _TorchLayer(RecurrentLayer):
    """A layer with the constructor of torch.nn's, and the options of its cell.

    All arguments after num_layers are given by name: torch.nn's fourth one is another.
    """

    cell_class: ClassVar[type[Cell]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        **cell_options: Any,
    ) -> None:
        layer, accepted = type(self).__name__, inspect.signature(self.cell_class).parameters
        for name in cell_options.keys() - accepted:
            choices = ", ".join(("bidirectional", "dropout", *accepted))
            reason = _TORCH_ARGUMENTS.get(name, f"choose from {choices}")
            raise TypeError(f"{layer} has no argument {name}: {reason}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{layer}: dropout={dropout} has no effect: it is between layers, and "
                "num_layers is 1",
                stacklevel=2,
            )
        super().__init__(
            self.cell_class(**cell_options),
            *(input_size, hidden_size, num_layers),
            bidirectional=bidirectional,
            dropout=dropout,
        )


class RNN(_TorchLayer):
    """torch.nn.RNN (Elman 1990, with tanh) for padded sequences; its weights fit torch.nn.RNN."""

    cell_class = RNNCell


class LSTM(_TorchLayer):
    """torch.nn.LSTM for padded sequences; its weights fit torch.nn.LSTM.

    `forget_bias` is where the forget gates' biases start, as torch.nn.LSTM's by default.

    >>> layer = LSTM(input_size=3, hidden_size=4, bidirectional=True, forget_bias=1.0)
    >>> outputs, (h, C) = layer(torch.zeros(2, 5, 3), lengths=torch.tensor([5, 2]))
    >>> outputs.shape, h.shape, C.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 2, 4]), torch.Size([2, 2, 4]))
    """

    cell_class = LSTMCell


class GRU(_TorchLayer):
    """torch.nn.GRU for padded sequences; with `reset_after=True` its weights fit torch.nn.GRU.

    `reset_after=True`, the default, is torch.nn.GRU. False are the equations of Chung et al.
    (2014), with the reset gate before the product; GRUCell compares the two. Both have weights of
    the same names and shapes: load_state_dict cannot tell those of the other form, which compute
    something else here.

    >>> layer = GRU(input_size=3, hidden_size=4, num_layers=2, reset_after=False)
    >>> layer.last_hidden(torch.zeros(2, 5, 3), lengths=torch.tensor([5, 2])).shape
    torch.Size([2, 4])
    """

    cell_class = GRUCell
