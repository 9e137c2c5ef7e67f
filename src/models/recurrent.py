"""RNN, LSTM and GRU over sequences of different lengths, without packing.

torch.nn's layers on packed sequences are right but many times slower on a CPU than on one padded
block. Padding stands on the right, so that a forward direction over the block is right on every
real step, and a backward direction is a forward one over each sequence reversed within its own
length. What the padding computed is set to zero, and no gradient reaches it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from src.models.autocast import autocast_dtype, is_autocast_enabled
from src.models.gru_function import GRUFunction
from src.models.reverse import reversal, reverse
from src.models.rnn_function import RNNFunction

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

State = tuple[Tensor, ...]


class _VariableLength(nn.RNNBase):
    """What the three layers share; a subclass says how one direction of one layer runs."""

    function: type[torch.autograd.Function]  # one direction of one layer, unless _run is its own
    state_parts = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,  # type: ignore[arg-type]
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor,
        initial_state: Any = None,
        need_final_state: bool = True,
    ) -> tuple[Tensor, Any]:
        """Run over the real steps of every sequence.

        Args:
            inputs: [batch, time, input_size], right-padded. A transposed view of memory that lies
                [time, batch, input_size] is read without a copy.
            lengths: integers [batch], each from 1 to time.
            initial_state: as torch.nn's, [num_layers * directions, batch, hidden_size] (for the
                LSTM a pair of them); None is zeros.
            need_final_state: False returns None for it, which spares the LSTM some work.

        Returns:
            outputs [batch, time, directions * hidden_size], zero beyond each length, and the final
            state at each last real step, shaped as initial_state: torch's results for the packed
            sequences. Under autocast both have its type.

        Raises:
            ValueError: a length below 1 or beyond time, or a wrong shape; names the argument.
        """
        self._check_inputs(inputs, lengths)
        lengths = lengths.to("cpu", torch.int64)
        state = self._check_state(initial_state, inputs)
        if inputs.device.type != "cpu":
            return self._forward_packed(inputs, lengths, initial_state)
        product = self._product_type()
        order = reversal(lengths, inputs.shape[1]) if self.bidirectional else lengths
        outputs = inputs.transpose(0, 1).to(product)  # [time, batch, input_size]
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = nn.functional.dropout(outputs, self.dropout, self.training)
            directions = []
            for backward in range(1 + self.bidirectional):
                start = tuple(part[len(finals)].to(product) for part in state)
                weights = tuple(self.all_weights[len(finals)])
                source = reverse(outputs, order) if backward else outputs
                output, final = self._run(source, lengths, start, weights, need_final_state)
                directions.append(reverse(output, order) if backward else output)
                finals.append(final)
            outputs = torch.cat(directions, dim=2) if self.bidirectional else directions[0]
        outputs = outputs.transpose(0, 1)  # [batch, time, directions * hidden_size]
        if not need_final_state:
            return outputs, None
        final_state = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return outputs, final_state if len(final_state) > 1 else final_state[0]

    def _run(
        self,
        inputs: Tensor,
        lengths: Tensor,
        start: State,
        weights: State,
        need_final_state: bool,
    ) -> tuple[Tensor, State]:
        """One direction of one layer, on a CPU.

        inputs [time, batch, features] and start, parts of [batch, hidden], have the type of matrix
        products. Returns outputs [time, batch, hidden] and the final state, shaped as start.
        """
        keep = torch.is_grad_enabled()
        outputs, last = self.function.apply(inputs, lengths, *start, *weights, keep)
        return outputs, (last,)

    def _forward_packed(
        self, inputs: Tensor, lengths: Tensor, initial_state: Any
    ) -> tuple[Tensor, Any]:
        """Elsewhere than on a CPU, where packed sequences are fast."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, final_state = super().forward(packed, initial_state)
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        return padded, final_state

    def _product_type(self) -> torch.dtype:
        dtype: torch.dtype = self.all_weights[0][0].dtype
        if is_autocast_enabled("cpu") and dtype != torch.float64:
            return autocast_dtype()
        return dtype

    def _check_inputs(self, inputs: Tensor, lengths: Tensor) -> None:
        if inputs.dim() != 3 or inputs.shape[2] != self.input_size:
            raise ValueError(
                f"inputs must be [batch, time, {self.input_size}], got {list(inputs.shape)}"
            )
        batch, time, _ = inputs.shape
        if batch == 0:
            raise ValueError("inputs must hold at least one sequence, got none")
        weights = self.all_weights[0][0].dtype
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

    def _check_state(self, initial_state: Any, inputs: Tensor) -> State:
        rows = self.num_layers * (1 + self.bidirectional)
        shape = (rows, inputs.shape[0], self.hidden_size)
        if initial_state is None:
            return (inputs.new_zeros(shape),) * self.state_parts
        state = (initial_state,) if isinstance(initial_state, Tensor) else tuple(initial_state)
        if len(state) != self.state_parts or any(tuple(part.shape) != shape for part in state):
            wanted = " and ".join([str(list(shape))] * self.state_parts)
            found = " and ".join(str(list(part.shape)) for part in state)
            raise ValueError(f"initial_state must be {wanted}, got {found}")
        return state


class RNN(_VariableLength, nn.RNN):  # type: ignore[misc]  # takes lengths, not packing
    """Elman's network (Elman 1990) with tanh, as torch.nn.RNN."""

    function = RNNFunction


class GRU(_VariableLength, nn.GRU):  # type: ignore[misc]  # takes lengths, not packing
    """Gated recurrent unit (Cho et al. 2014), in the form of torch.nn.GRU."""

    function = GRUFunction


class LSTM(_VariableLength, nn.LSTM):  # type: ignore[misc]  # takes lengths, not packing
    """Long short-term memory with forget gates (Gers et al. 2000), as torch.nn.LSTM.

    On a CPU torch gives an unpacked LSTM in float32 or bfloat16 to oneDNN, which is near the speed
    of its matrix products. It returns the cell state after the last padded step only. So that this
    is the one of the last real step, padding is told to keep it: one more input, 1 on padding and
    0 elsewhere, whose weights open the forget gate and close the input gate.
    """

    state_parts = 2

    def _run(
        self,
        inputs: Tensor,
        lengths: Tensor,
        start: State,
        weights: State,
        need_final_state: bool,
    ) -> tuple[Tensor, State]:
        h, c = start
        weight_ih, *others = (weight.to(inputs.dtype) for weight in weights)
        time, batch, _ = inputs.shape
        padding = (torch.arange(time)[:, None] >= lengths)[:, :, None]  # [time, batch, 1]
        if need_final_state:
            saturated = torch.finfo(weight_ih.dtype).max / 4  # sigmoid: exactly 0 or 1
            keep = weight_ih.new_zeros(4, self.hidden_size)  # input, forget, cell, output
            keep[0], keep[1] = -saturated, saturated
            weight_ih = torch.cat([weight_ih, keep.view(-1, 1)], dim=1)
            inputs = torch.cat([inputs, padding.to(inputs.dtype)], dim=2)
        outputs, _, c = torch._VF.lstm(
            inputs,
            (h[None], c[None]),
            [weight_ih, *others],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )
        outputs = outputs.masked_fill(padding, 0)
        return outputs, (outputs[lengths - 1, torch.arange(batch)], c[0])
